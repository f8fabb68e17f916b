# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Where a job's tensors live: on the CPU, on a CUDA device, or spread by layers over several of them.

    devices = devices_of(job)                                # (cuda:0, cuda:1)
    placement = place(decoder, devices)                      # layers 0-17 on the one, 18-35 on the other
    hidden = layer(hidden.to(placement.layers[index]))

Hidden states go from device to device, so that one of them works at a time: spreading gives a model room, not speed.
Speed is what processes are for, each of which has a whole model.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..core import ConfigurationError
from .job import DeviceKind, Precision, TrainJob


@dataclass(frozen=True)
class Placement:
    """The device of each part of a decoder."""

    layers: tuple[torch.device, ...]
    """Of each layer; the embeddings are with the first of them, the last norm and the output layer with the last."""

    @property
    def first(self) -> torch.device:
        """Where tokens go in."""
        return self.layers[0]

    @property
    def last(self) -> torch.device:
        """Where log-probabilities come out."""
        return self.layers[-1]


def devices_of(job: TrainJob) -> tuple[torch.device, ...]:
    """The devices of this process, in the order of the layers; on the CPU the same one, as often as the job has some.

    Raises:
        ConfigurationError: the job asks for CUDA devices that aren't there.
    """
    wants = job.device is not DeviceKind.CPU
    count = torch.cuda.device_count() if wants and torch.cuda.is_available() else 0
    if not wants or (count == 0 and job.device is DeviceKind.AUTO):
        return (torch.device("cpu"),) * job.devices
    needed = job.processes * job.devices
    if count < needed:
        raise ConfigurationError(
            f"The job takes {needed} CUDA devices ({job.processes} processes of {job.devices}), and its trainer sees "
            f"{count}. Show it more, ask for fewer, or set device=cpu."
        )
    start = int(os.environ.get("LOCAL_RANK", "0")) * job.devices if job.processes > 1 else 0
    return tuple(torch.device("cuda", start + place) for place in range(job.devices))


def place(decoder: Any, devices: Sequence[torch.device]) -> Placement:
    """Move a decoder's parts to their devices, as many layers to each as to the others.

    Args:
        decoder: the part of a causal language model that isn't its output layer.
        devices: in the order of the layers.

    Raises:
        ConfigurationError: there are fewer layers than devices.
    """
    count = len(decoder.layers)
    if count < len(devices):
        raise ConfigurationError(f"{count} layers can't be spread over {len(devices)} devices: set fewer devices.")
    placement = Placement(tuple(devices[index * len(devices) // count] for index in range(count)))
    for part, device in (
        (decoder.embed_tokens, placement.first),
        *zip(decoder.layers, placement.layers, strict=True),
        (decoder.norm, placement.last),
    ):
        part.to(device)
    return placement


def prepare_process(job: TrainJob) -> None:
    """Set this process for a job: its threads, its seed, and algorithms that give the same bytes again.

    On CUDA too only deterministic algorithms are allowed, and cuBLAS is given the fixed workspace that they need, which
    must be before it is first used. Bytes are promised for the CPU alone: no GPU has been tried.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(job.threads)
    torch.use_deterministic_algorithms(True)
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010  (an untyped module property)
    torch.manual_seed(job.seed)  # the adapter's initialisation is the only draw that uses it


def uses_bfloat16(precision: Precision, device: torch.device) -> bool:
    """Whether the passes run in bfloat16; without native products it is slower than float32."""
    if precision is not Precision.AUTO:
        return precision is Precision.BFLOAT16
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # pyright: ignore[reportPrivateUsage]
