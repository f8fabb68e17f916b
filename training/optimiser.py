# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""AdamW over named tensors, and its state in a checkpoint."""

import json
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path

import torch
from pydantic import JsonValue
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..core import ConfigurationError, canonical_json

BETAS = (0.9, 0.95)
EPSILON = 1e-8


class Optimiser:
    """One AdamW without weight decay; every group of tensors has its rate and its own limit on the gradient."""

    def __init__(self, groups: Sequence[tuple[float, Mapping[str, Tensor]]], max_grad_norm: float) -> None:
        """Make an optimiser without a past.

        Args:
            groups: learning rates, and the tensors that learn at them, by name.
            max_grad_norm: of each group's gradient.
        """
        self._groups = [dict(tensors) for _, tensors in groups]
        self._most = max_grad_norm
        self._adam = torch.optim.AdamW(
            [{"params": list(tensors.values()), "lr": rate} for rate, tensors in groups],
            betas=BETAS,
            eps=EPSILON,
            weight_decay=0.0,
        )

    @property
    def adam(self) -> torch.optim.AdamW:
        """For a trainer that takes the steps itself."""
        return self._adam

    def step(self) -> float:
        """Take a step along the gradients, drop them, and return the norm of the first group's before its limit.

        Raises:
            ConfigurationError: a gradient is not finite.
        """
        norms = [float(torch.nn.utils.clip_grad_norm_(group.values(), self._most)) for group in self._groups]
        if not all(map(isfinite, norms)):
            raise ConfigurationError(
                f"The gradient is {norms[0] if len(norms) == 1 else norms}: the log-probabilities, the rewards or the "
                "base's weights are not finite."
            )
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        return norms[0]

    def save(self, folder: Path) -> None:
        """Write the state to a checkpoint."""
        tensors: dict[str, Tensor] = {}
        steps = 0
        for name, value in self._named():
            state = self._adam.state[value]
            tensors[f"exp_avg.{name}"] = state["exp_avg"]
            tensors[f"exp_avg_sq.{name}"] = state["exp_avg_sq"]
            steps = int(state["step"])
        save_file(tensors, folder / "optimizer.safetensors")
        described: dict[str, JsonValue] = {"name": "adamw", "betas": [*BETAS], "eps": EPSILON, "steps": steps}
        (folder / "optimizer.json").write_bytes(canonical_json(described))

    def load(self, folder: Path) -> None:
        """Take the state of a checkpoint."""
        tensors = load_file(folder / "optimizer.safetensors")
        steps = json.loads((folder / "optimizer.json").read_bytes())["steps"]
        for name, value in self._named():
            self._adam.state[value] = {
                "step": torch.tensor(float(steps)),
                "exp_avg": tensors[f"exp_avg.{name}"].to(value.device),
                "exp_avg_sq": tensors[f"exp_avg_sq.{name}"].to(value.device),
            }

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        for group in self._groups:
            yield from group.items()
