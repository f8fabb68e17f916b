# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownParameterType=false
# pyright: reportMissingParameterType=false, reportUnknownArgumentType=false, reportAttributeAccessIssue=false
"""Stands in for the `utils.py` that GPU MODE's problems and submissions import, where a problem doesn't bring it.

This file runs inside the sandbox, as the module `utils`.
"""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch


def set_seed(seed: int = 42) -> None:
    """Seed every generator."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def get_device(use_cuda: bool = True) -> torch.device:
    """The device that inputs are on."""
    return torch.device("cuda" if use_cuda and torch.cuda.is_available() else "cpu")


def verbose_allclose(
    received: torch.Tensor, expected: torch.Tensor, rtol: float = 1e-05, atol: float = 1e-08, max_print: int = 5
) -> list[str]:
    """Say how two tensors differ; nothing where they are close."""
    if received.shape != expected.shape:
        return [f"shape {tuple(received.shape)}, expected {tuple(expected.shape)}"]
    apart = ~torch.isclose(received.double(), expected.double(), rtol=rtol, atol=atol, equal_nan=True)
    return _differences(apart, received, expected, max_print)


def verbose_allequal(received: torch.Tensor, expected: torch.Tensor, max_print: int = 5) -> list[str]:
    """Say where two tensors aren't equal."""
    if received.shape != expected.shape:
        return [f"shape {tuple(received.shape)}, expected {tuple(expected.shape)}"]
    return _differences(torch.ne(received, expected), received, expected, max_print)


def _differences(apart: torch.Tensor, received: torch.Tensor, expected: torch.Tensor, most: int) -> list[str]:
    count = int(apart.sum())
    if not count:
        return []
    places = [tuple(place) for place in torch.nonzero(apart)[:most].tolist()]
    return [f"{count} elements differ"] + [f"{place}: {received[place]} against {expected[place]}" for place in places]


def match_reference(
    data: Any, output: Any, reference: Callable[[Any], Any], rtol: float = 1e-05, atol: float = 1e-08
) -> tuple[bool, str]:
    """Compare an output with that of a reference."""
    wrong = verbose_allclose(output, reference(data), rtol=rtol, atol=atol)
    return (False, "; ".join(wrong)) if wrong else (True, "")


def make_match_reference(reference: Callable[[Any], Any], **tolerance: float) -> Callable[[Any, Any], tuple[bool, str]]:
    """A check against a reference."""
    return lambda data, output: match_reference(data, output, reference=reference, **tolerance)


class DisableCuDNNTF32:
    """Exact and repeatable convolutions while it is entered."""

    def __enter__(self) -> "DisableCuDNNTF32":
        cudnn = torch.backends.cudnn
        self.before = cudnn.allow_tf32, cudnn.deterministic
        cudnn.allow_tf32, cudnn.deterministic = False, True
        return self

    def __exit__(self, *error: object) -> None:
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = self.before


class DeterministicContext(DisableCuDNNTF32):
    """Moreover only operators that repeat exactly."""

    def __enter__(self) -> "DeterministicContext":
        self.repeatable = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(True)
        super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        torch.use_deterministic_algorithms(self.repeatable)


def clear_l2_cache() -> None:
    """Push everything out of the L2 cache of a GPU."""
    torch.empty(64 << 20, dtype=torch.int32, device=get_device()).fill_(42)
