# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Log-probabilities of a pack's decisions, from the hidden states that they were made from.

Logits are computed where a decision was made and, for a choice, only for the rows of the vocabulary that some choice
allows. Over the whole vocabulary they are held for a few decisions at a time, and done again for the gradient.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .trees import Decision, Pack

ROWS = 512
"""Decisions whose logits over the whole vocabulary are held at once."""

_Chosen = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Decided:
    """What the policy says of a pack's D decisions; on the CPU, as all that isn't the model's own."""

    logprobs: Tensor
    """(D,) float32, of the chosen tokens, under the mask and the temperature of the rollout."""
    entropies: Tensor
    """(D,) float32, nats, without gradient."""


def decided(pack: Pack, hidden: Tensor, output: Tensor) -> Decided:
    """What a pack's decisions are worth to a policy, differentiable in its hidden states.

    Args:
        pack: of L tokens.
        hidden: (L, hidden size), normalised as the output layer takes them.
        output: (vocabulary, hidden size), the output layer, on the same device.
    """
    masked = [index for index, decision in enumerate(pack.decisions) if decision.allowed is not None]
    free = [index for index, decision in enumerate(pack.decisions) if decision.allowed is None]
    logprobs, entropies = torch.zeros(len(pack.decisions)), torch.zeros(len(pack.decisions))
    for places, choose in ((masked, _masked), (free, _free)):
        if places:
            values, spread = choose(pack, hidden, output, [pack.decisions[index] for index in places])
            logprobs = logprobs.index_copy(0, torch.tensor(places), values.cpu())
            entropies = entropies.index_copy(0, torch.tensor(places), spread.cpu())
    return Decided(logprobs, entropies)


def states_at(hidden: Tensor, decisions: Sequence[Decision]) -> Tensor:
    """(D, hidden size): the states that decisions were made from."""
    nodes = torch.tensor([decision.node for decision in decisions], device=hidden.device)
    return hidden.index_select(0, nodes)


def _masked(pack: Pack, hidden: Tensor, output: Tensor, decisions: Sequence[Decision]) -> _Chosen:
    logits = states_at(hidden, decisions).float() @ output[list(pack.rows)].float().T
    column = {row: index for index, row in enumerate(pack.rows)}
    forbidden = torch.ones(len(decisions), len(pack.rows), dtype=torch.bool)
    for line, decision in enumerate(decisions):
        forbidden[line, [column[row] for row in decision.allowed or ()]] = False
    logits = logits.masked_fill(forbidden.to(hidden.device), -1e30)  # finite, so that p log p is 0 and not NaN
    return _choose(logits, decisions, [column[decision.token] for decision in decisions])


def _free(pack: Pack, hidden: Tensor, output: Tensor, decisions: Sequence[Decision]) -> _Chosen:
    states = states_at(hidden, decisions)
    parts = [slice(start, start + ROWS) for start in range(0, len(decisions), ROWS)]
    if len(parts) == 1:
        return _of_all(states, output, decisions)
    made: list[_Chosen] = [
        checkpoint(_of_all, states[part], output, decisions[part], use_reentrant=False, preserve_rng_state=False)
        for part in parts
    ]
    return torch.cat([values for values, _ in made]), torch.cat([spread for _, spread in made])


def _of_all(states: Tensor, output: Tensor, decisions: Sequence[Decision]) -> _Chosen:
    return _choose((states @ output.T).float(), decisions, [decision.token for decision in decisions])


def _choose(logits: Tensor, decisions: Sequence[Decision], chosen: Sequence[int]) -> _Chosen:
    """Log-probability of the chosen column, and entropy, of each row at its temperature."""
    temperatures = torch.tensor([decision.temperature for decision in decisions], device=logits.device)
    logprobs = torch.log_softmax(logits / temperatures[:, None], dim=1)
    entropies = -(logprobs.detach().exp() * logprobs.detach()).sum(1)
    return logprobs.gather(1, torch.tensor(chosen, device=logits.device)[:, None])[:, 0], entropies
