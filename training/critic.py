# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""The value head of PPO: one linear map on the frozen base's last hidden states, at the node of each decision.

    critic = Critic.fresh(states, returns)                   # or Critic.load(job.init_critic, job, size)
    values = critic(states)                                  # (D,), differentiable in the head

The base doesn't change, so the states of a job's decisions are computed once, and the head costs next to nothing. They
are standardised, since a few coordinates of a language model's states are far larger than the rest; a head that is
gone on from keeps the standard that it was made with.
"""

import json
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..core import ConfigurationError, canonical_json
from .critic_files import CONFIG, WEIGHTS
from .job import TrainJob


class CriticSpec(BaseModel):
    """What a head belongs to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str
    """The base's name at its server."""
    base_digest: str
    hidden_size: int


class Critic:
    """A linear value function of hidden states."""

    def __init__(self, spec: CriticSpec, tensors: dict[str, Tensor]) -> None:
        self.spec = spec
        self._mean, self._scale = tensors["mean"], tensors["scale"]
        self.weight, self.bias = tensors["weight"].requires_grad_(), tensors["bias"].requires_grad_()

    @classmethod
    def fresh(cls, job: TrainJob, states: Tensor, returns: Tensor) -> "Critic":
        """A head that gives the mean return everywhere.

        Args:
            job: whose base the states are of.
            states: (D, H) of all the job's decisions.
            returns: (D,) discounted sums of what came after each, in the rewards' unit.
        """
        size = states.shape[1]
        spread = states.double().std(0, unbiased=False)
        floor = max(float(spread.max()) * 1e-3, 1e-6)
        tensors = {
            "mean": states.double().mean(0).float(),
            "scale": (spread.clamp(min=floor) * size**0.5).float(),
            "weight": torch.zeros(size),
            "bias": returns.double().mean().float().reshape(1),
        }
        return cls(_spec(job, size), tensors)

    @classmethod
    def load(cls, folder: Path, job: TrainJob, size: int) -> "Critic":
        """Go on from a head.

        Raises:
            ConfigurationError: it can't be read, or is of another base.
        """
        try:
            spec = CriticSpec.model_validate_json((folder / CONFIG).read_bytes())
            tensors = load_file(folder / WEIGHTS)
        except (OSError, ValidationError, SafetensorError, json.JSONDecodeError) as error:
            raise ConfigurationError(
                f"The value head in {folder.name!r} can't be read: {error}. Expected {CONFIG} and {WEIGHTS} as a PPO "
                "job writes them; leave init_critic out to start a new one."
            ) from error
        wanted = _spec(job, size)
        if spec != wanted:
            raise ConfigurationError(
                f"The value head in {folder.name!r} is of {spec}, the job of {wanted}. "
                "Leave init_critic out to start a new one."
            )
        shapes = {name: tuple(value.shape) for name, value in tensors.items()}
        if shapes != {"mean": (size,), "scale": (size,), "weight": (size,), "bias": (1,)}:
            raise ConfigurationError(
                f"The value head in {folder.name!r} has the tensors {shapes}: not those of a head."
            )
        if not all(bool(value.isfinite().all()) for value in tensors.values()) or float(tensors["scale"].min()) <= 0:
            raise ConfigurationError(f"The value head in {folder.name!r} holds numbers that no head has.")
        return cls(spec, {name: value.float().clone() for name, value in tensors.items()})

    def __call__(self, states: Tensor) -> Tensor:
        """(D,) values of (D, H) states, float32, in the rewards' unit."""
        return ((states.float() - self._mean) / self._scale) @ self.weight + self.bias

    @property
    def parameters(self) -> dict[str, Tensor]:
        """What is trained, by name."""
        return {"critic.bias": self.bias, "critic.weight": self.weight}

    def restore(self, folder: Path) -> None:
        """Take the weights of a checkpoint of this job."""
        saved = load_file(folder / WEIGHTS)
        with torch.no_grad():
            self.weight.copy_(saved["weight"])
            self.bias.copy_(saved["bias"])

    def save(self, folder: Path) -> None:
        """Write both files into a folder, which is created; equal heads are equal bytes."""
        folder.mkdir(parents=True)
        (folder / CONFIG).write_bytes(canonical_json(self.spec))
        tensors = {"bias": self.bias, "mean": self._mean, "scale": self._scale, "weight": self.weight}
        save_file({name: value.detach().contiguous() for name, value in tensors.items()}, folder / WEIGHTS)


def value_loss(values: Tensor, before: Tensor, returns: Tensor, clip: float) -> Tensor:
    """The clipped value loss of D decisions: (D,).

    ``max((V - R)^2, (V0 + clamp(V - V0, -clip, clip) - R)^2) / 2`` with V0 the value at the job's start. Not in PPO's
    paper, but in its authors' code (openai/baselines, ppo2/model.py); Engstrom et al. 2020 (arXiv 2005.12729, section
    3) write it down.

    Args:
        values: (D,) of the head that is trained.
        before: (D,) of the head at the job's start.
        returns: (D,) targets.
        clip: how far a value may move, in the rewards' unit.
    """
    near = before + (values - before).clamp(-clip, clip)
    return torch.maximum((values - returns) ** 2, (near - returns) ** 2) / 2


def _spec(job: TrainJob, size: int) -> CriticSpec:
    return CriticSpec(base=job.base_model_name, base_digest=job.base_digest, hidden_size=size)
