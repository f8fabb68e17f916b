"""The files of a value head, and how the controller reads them out of a run dir that it doesn't trust."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core import ConfigurationError
from ..safety.sandbox import read_result
from ..safety.sandbox.tensors import parse_safetensors
from ..safety.sandbox.untrusted import parse_untrusted

CONFIG, WEIGHTS = "critic.json", "critic.safetensors"
_LIMITS = {CONFIG: 1 << 16, WEIGHTS: 1 << 24}


def critic_files(run_dir: Path) -> dict[str, bytes]:
    """The bytes of a finished job's value head, as a file tree for the artefact store.

    Raises:
        ConfigurationError: there is none, or what is there is not two plain files of a head.
    """
    files: dict[str, bytes] = {}
    for name, limit in _LIMITS.items():
        data = read_result(run_dir, f"critic/{name}", limit)
        if data is None:
            raise ConfigurationError(
                f"{name} of the value head is no plain file of at most {limit} bytes. Train it again under a new id."
            )
        files[name] = data
    try:
        parse_untrusted(files[CONFIG])
        parse_safetensors(files[WEIGHTS])
    except ValueError as error:
        raise ConfigurationError(f"The value head can't be used: {error}. Train it again under a new id.") from error
    return files


def critic_base(files: Mapping[str, bytes]) -> str:
    """Digest of the base's weights that a value head is of, empty where it says none.

    Args:
        files: what `critic_files` gave.
    """
    told: Any = json.loads(files[CONFIG])
    return str(told.get("base_digest", "")) if isinstance(told, dict) else ""  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
