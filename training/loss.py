"""The policy-gradient loss over one pack of decisions.

Clipped surrogate of PPO (Schulman et al. 2017, arXiv 1707.06347, equation 7) with the importance ratio to the
behaviour policy, which is truncated where the clip doesn't bind (a negative advantage and a ratio far above one:
the dual clip of Ye et al. 2020, arXiv 1912.09729, equation 5), plus a KL penalty to the base by the k3 estimator
(Shao et al. 2024, arXiv 2402.03300, equation 4).
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
    """Scalar: the weighted sum over the decisions; divide by the step's weight."""
    sums: dict[str, float]
    """Weighted sums of what the metrics report."""


def policy_loss(
    logprobs: Tensor, decisions: Sequence[Decision], settings: LossSettings, base: Tensor | None = None
) -> Loss:
    """The loss of D decisions.

    Args:
        logprobs: (D,) of the policy that is trained.
        decisions: with behaviour log-probabilities, advantages and weights.
        settings: clip, truncation and kl.
        base: (D,) log-probabilities under the base; needed where `settings.kl` is above 0.
    """
    behaviour = torch.tensor([decision.behaviour_logprob for decision in decisions])
    advantages = torch.tensor([decision.advantage for decision in decisions])
    weights = torch.tensor([decision.weight for decision in decisions])
    gap = logprobs - behaviour
    ratio = gap.clamp(max=20.0).exp()
    clipped = ratio.clamp(1 - settings.clip_low, 1 + settings.clip_high)
    surrogate = torch.minimum(ratio * advantages, clipped * advantages)
    surrogate = torch.where(advantages < 0, torch.maximum(surrogate, settings.truncation * advantages), surrogate)
    losses = -surrogate
    sums: dict[str, float] = {}
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
    sums["behaviour_gap"] = _sum(gap.abs(), weights)
    return Loss(total, sums)


def _sum(values: Tensor, weights: Tensor) -> float:
    return float((values.detach() * weights).sum())
