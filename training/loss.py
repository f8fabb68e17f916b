"""The policy-gradient loss over one pack of decisions.

``l = -w min(r A, clip(r, 1 - low, 1 + high) A) + kl k3``

The clipped surrogate of PPO (Schulman et al. 2017, arXiv 1707.06347, equation 7), with a bound above of its own where
asked (DAPO, arXiv 2503.14476, equation 10). Where neither binds (a negative advantage and a ratio far above one) the
surrogate is capped at ``truncation A``: the dual clip of Ye et al. 2020 (arXiv 1912.09729, equation 5).

r is the ratio to the behaviour policy, which drew the tokens, and w is 1; or, with `Anchor.START`, r is the ratio to
the policy that the job starts from, and ``w = min(pi_start / mu, truncation)`` corrects that another policy mu drew
them: truncated importance sampling (Ionides 2008; for rollouts of another engine Yao et al. 2025, "Your efficient RL
framework secretly brings you off-policy RL training").

k3 estimates the KL divergence to the base: ``e^d - d - 1`` with ``d = log pi_base - log pi`` (GRPO, Shao et al. 2024,
arXiv 2402.03300, equation 4).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .objectives import LossSettings
from .trees import Decision


@dataclass(frozen=True)
class Loss:
    """A pack's share of a step."""

    total: Tensor
    """Scalar: the weighted sum over the decisions; divide by the step's divisor (`aggregation`)."""
    sums: dict[str, float]
    """Weighted sums of what the metrics report."""


def policy_loss(
    logprobs: Tensor,
    decisions: Sequence[Decision],
    settings: LossSettings,
    base: Tensor | None = None,
    start: Tensor | None = None,
) -> Loss:
    """The loss of D decisions.

    Args:
        logprobs: (D,) of the policy that is trained.
        decisions: with behaviour log-probabilities, advantages and weights.
        settings: clip, truncation and kl.
        base: (D,) log-probabilities under the base; needed where `settings.kl` is above 0.
        start: (D,) log-probabilities under the policy that the job starts from; needed with `Anchor.START`.
    """
    behaviour = torch.tensor([decision.behaviour_logprob for decision in decisions])
    advantages = torch.tensor([decision.advantage for decision in decisions])
    weights = torch.tensor([decision.weight for decision in decisions])
    anchor = behaviour if start is None else start
    ratio = (logprobs - anchor).clamp(max=20.0).exp()
    clipped = ratio.clamp(1 - settings.clip_low, 1 + settings.clip_high)
    surrogate = torch.minimum(ratio * advantages, clipped * advantages)
    surrogate = torch.where(advantages < 0, torch.maximum(surrogate, settings.truncation * advantages), surrogate)
    sums: dict[str, float] = {}
    if start is not None:
        drift = (start - behaviour).clamp(max=20.0).exp()
        surrogate = surrogate * drift.clamp(max=settings.truncation)
        sums["truncated"] = _sum((drift > settings.truncation).float(), weights)
    losses = -surrogate
    if base is not None:
        away = (base - logprobs).clamp(max=20.0)
        divergence = away.exp() - away - 1
        losses = losses + settings.kl * divergence
        sums["kl"] = _sum(divergence, weights)
    total = (losses * weights).sum()
    sums["loss"] = float(total.detach())
    sums["ratio"] = _sum(ratio, weights)
    sums["clipped"] = _sum(
        ((ratio - 1) * advantages.sign() > torch.where(advantages > 0, settings.clip_high, settings.clip_low)).float(),
        weights,
    )
    sums["behaviour_gap"] = _sum((logprobs - behaviour).abs(), weights)
    return Loss(total, sums)


def _sum(values: Tensor, weights: Tensor) -> float:
    return float((values.detach() * weights).sum())
