"""`vllm serve` with the flags that Pawl needs, as a command and its environment.

    launch = vllm_launch(Served(executable=find_vllm(None), model_dir=folder, name="base", port=8000))

vLLM lives in an environment of its own: it pins torch and transformers more narrowly than the trainer does.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from ..core import ConfigurationError
from .adapters import SLOTS

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as `--max-lora-rank`."""
CPU_CACHE_GB = 2
CPU_MARK = "pawl-vllm-cpu"
"""File in an environment that `vllm_build` made, with vLLM's version."""
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
KEPT_ENVIRONMENT = (
    "CUDA_VISIBLE_DEVICES", "HF_HOME", "HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "XDG_CACHE_HOME",
)  # fmt: skip
KEPT_PREFIXES = ("NCCL_", "OMP_", "TORCH_", "VLLM_")


@dataclass(frozen=True)
class Launch:
    """A model server's process, before it is started."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    base_url: str
    name: str
    """What it calls its base model."""
    api_key: SecretStr | None = None
    start_seconds: float = 300.0
    """How long it may take until it answers."""


class Served(BaseModel):
    """What vLLM is to serve, and how."""

    model_config = ConfigDict(frozen=True)

    executable: Path
    model_dir: Path
    name: str
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    rank: int = Field(default=32, ge=1)
    """Largest rank of an adapter."""
    slots: int = Field(default=SLOTS, ge=1)
    """Adapters held at once; more are swapped in and out."""
    staleness: int = Field(default=SLOTS - 2, ge=0)
    """Steps by which a policy may lag behind the newest while rollouts of it are under way."""
    max_model_len: int | None = Field(default=None, ge=1)
    """Longest sequence, in tokens; none asks the model."""
    dtype: str = "auto"
    tensor_parallel: int = Field(default=1, ge=1)
    """GPUs that share the model."""
    api_key: SecretStr | None = None
    cpu: bool = False


def vllm_launch(served: Served) -> Launch:
    """The command that serves a model with adapters.

    The key goes by the environment, where other users can't read it; it says log-probabilities of the distribution
    that was drawn from, after mask and temperature, since those are what a trainer needs.

    Raises:
        ConfigurationError: no model, a rank that vLLM can't hold, too few slots, or a public address without a key.
    """
    if not (served.model_dir / "config.json").is_file():
        raise ConfigurationError(
            f"{served.model_dir} has no config.json: expected the folder of a Hugging Face causal language model."
        )
    check_slots(served.slots, served.staleness)
    check_host(served.host, served.api_key)
    flags: dict[str, Any] = {
        "served-model-name": served.name,
        "host": served.host,
        "port": served.port,
        "dtype": served.dtype,
        "max-lora-rank": rank_for(served.rank),
        "max-loras": served.slots,
        "logprobs-mode": "processed_logprobs",
        "generation-config": "vllm",  # else the model's own defaults would change how it samples
        "tensor-parallel-size": served.tensor_parallel,
        **({"max-model-len": served.max_model_len} if served.max_model_len else {}),
    }
    argv = [str(served.executable), "serve", str(served.model_dir.absolute()), "--enable-lora"]
    argv += [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    environment = {
        name: value for name, value in os.environ.items() if name in KEPT_ENVIRONMENT or name.startswith(KEPT_PREFIXES)
    }
    environment |= {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if served.api_key is not None:
        environment["VLLM_API_KEY"] = served.api_key.get_secret_value()
    if served.cpu:
        argv.append("--enforce-eager")
        environment.setdefault("VLLM_CPU_KVCACHE_SPACE", str(CPU_CACHE_GB))
    host = f"[{served.host}]" if ":" in served.host else served.host
    reached = "127.0.0.1" if served.host in ("0.0.0.0", "::") else host  # noqa: S104 (asked for, with a key)
    return Launch(
        argv=tuple(argv),
        environment=environment,
        base_url=f"http://{reached}:{served.port}/v1",
        name=served.name,
        api_key=served.api_key,
        start_seconds=1800.0,  # weights of hundreds of gigabytes
    )


def rank_for(rank: int) -> int:
    """The smallest `--max-lora-rank` that holds a rank.

    Raises:
        ConfigurationError: none does.
    """
    fitting = [each for each in RANKS if each >= rank]
    if not fitting:
        raise ConfigurationError(f"vLLM holds adapters of rank {RANKS[-1]} at most, not {rank}: train a smaller one.")
    return fitting[0]


def check_slots(slots: int, staleness: int) -> None:
    """Return if so many slots do.

    Raises:
        ConfigurationError: with fewer, a server drops an adapter that rollouts still use.
    """
    if slots < staleness + 2:
        raise ConfigurationError(
            f"{slots} slots are too few for a staleness of {staleness}: the {staleness + 1} adapters that may be in "
            f"use and the one that is loaded need {staleness + 2}."
        )


def check_host(host: str, api_key: SecretStr | None) -> None:
    """Return if a server may listen there.

    Raises:
        ConfigurationError: others can reach it, and there is no key: whoever reaches it can load adapters.
    """
    if host not in LOOPBACK and api_key is None:
        raise ConfigurationError(
            f"A server on {host} can be reached by others, who could load adapters into it. Give it a key with "
            "--api-key-file, or bind it to 127.0.0.1."
        )


def find_vllm(given: Path | None) -> Path:
    """The `vllm` executable: the one given, or that of a virtual environment given, or the one on the PATH.

    Raises:
        ConfigurationError: there is none.
    """
    if given is None:
        found = shutil.which("vllm")
        if found is None:
            raise ConfigurationError(
                "No `vllm` is on the PATH. Install vLLM in an environment of its own and name it with --vllm or "
                "PAWL_VLLM; without a GPU, `pawl serve --build-vllm-cpu DIR` makes one."
            )
        return Path(found)
    executable = given / "bin" / "vllm" if given.is_dir() else given
    if not (executable.is_file() and os.access(executable, os.X_OK)):
        raise ConfigurationError(
            f"{executable} is no program. Expected vLLM's executable, or the virtual environment that it is in; "
            "without a GPU, `pawl serve --build-vllm-cpu DIR` makes one."
        )
    return executable.absolute()
