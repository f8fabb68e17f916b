"""The embedded model server of a home: started when it is needed, shared by the home's processes, gone when idle.

    endpoint = await ensure_local_server(home, settings)

The server outlives whoever started it, so that a killed campaign finds it again, and ends by itself after two minutes
without a request. Its key lies in the home, readable by its user alone.
"""

import asyncio
import fcntl
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from ..core import Home, ModelUnavailable, Settings
from .policy import Endpoint
from .weights import BaseModelFiles, Progress, base_model, require_local_extra

IDLE_SECONDS = 120.0
START_SECONDS = 180.0
ANSWER_SECONDS = 300.0
"""A batch of long answers takes minutes on two cores."""
KEPT_ENVIRONMENT = ("HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TMPDIR", "VIRTUAL_ENV")

_children: list[subprocess.Popen[bytes]] = []
"""Servers that this process started; kept so that they can be reaped, never so that they die with it."""


async def ensure_local_server(
    home: Home, settings: Settings, progress: Progress | None = None, idle_seconds: float = IDLE_SECONDS
) -> Endpoint:
    """The endpoint of this home's local server, which is started if none is alive.

    Args:
        home: whose server it is.
        settings: model, cache and threads.
        progress: is told what takes long.
        idle_seconds: how long a newly started server waits for a request before it ends.

    Raises:
        ConfigurationError: the local extra isn't installed, or `model_dir` is no model.
        ModelUnavailable: the model can't be fetched, or its server doesn't come up.
    """
    require_local_extra()
    files = await asyncio.to_thread(base_model, settings, progress)
    home.create()
    note = home.sockets / f"model-server-{files.digest[:12]}.json"
    async with _locked(home.sockets / "model-server.lock"):
        endpoint = await _alive(note, files)
        if endpoint is None:
            if progress:
                progress(f"Starting the local model server ({files.name})")
            await _start(home, settings, files, note, idle_seconds)
            endpoint = await _alive(note, files)
    if endpoint is None:
        raise ModelUnavailable(f"The local model server came up and doesn't answer.\n{_tail(_log(home))}")
    return endpoint


def stop_local_server(home: Home) -> int:
    """End the local servers of a home; returns how many were alive."""
    stopped = 0
    for note in sorted(home.sockets.glob("model-server-*.json")):
        pid = int(_read(note).get("pid", 0))
        if _is_server(pid):
            os.kill(pid, signal.SIGTERM)
            stopped += 1
            deadline = time.monotonic() + 5.0
            while _is_server(pid):
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                    break
                time.sleep(0.05)
        note.unlink(missing_ok=True)
    return stopped


async def _start(home: Home, settings: Settings, files: BaseModelFiles, note: Path, idle_seconds: float) -> None:
    note.unlink(missing_ok=True)
    key = note.with_suffix(".key")
    key.unlink(missing_ok=True)
    with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(32))
    command = [sys.executable, "-P", "-m", "pawl.serving.server", "--model-dir", str(files.path), "--name", files.name]
    command += ["--digest", files.digest, "--ready-file", str(note), "--api-key-file", str(key)]
    command += ["--idle-exit", str(idle_seconds), "--threads", str(settings.threads)]
    environment = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
    environment["OMP_WAIT_POLICY"] = "PASSIVE"  # threads that spin while they wait starve verifiers on the same cores
    environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": str(settings.threads)}
    with _log(home).open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 (detached; nobody awaits it)
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    _children.append(process)
    deadline = time.monotonic() + START_SECONDS
    while not note.exists():
        if process.poll() is not None:
            raise ModelUnavailable(
                f"The local model server ended at its start (status {process.returncode}).\n{_tail(_log(home))}"
            )
        if time.monotonic() > deadline:
            process.kill()
            raise ModelUnavailable(
                f"The local model server didn't come up within {START_SECONDS:.0f} s.\n{_tail(_log(home))}"
            )
        await asyncio.sleep(0.05)


async def _alive(note: Path, files: BaseModelFiles) -> Endpoint | None:
    told = _read(note)
    if told.get("digest") != files.digest or not _is_server(int(told.get("pid", 0))):
        return None
    root = f"http://127.0.0.1:{told['port']}"
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=10.0) as client:
            health = (await client.get(f"{root}/health")).raise_for_status().json()
        key = note.with_suffix(".key").read_text().strip()
    except (httpx.HTTPError, ValueError, OSError):
        return None
    if health.get("digest") != files.digest:
        return None
    return Endpoint(
        base_url=f"{root}/v1",
        api_key=SecretStr(key),
        base_model=str(told["name"]),
        is_local=True,
        timeout_seconds=ANSWER_SECONDS,
    )


def _read(note: Path) -> dict[str, Any]:
    try:
        told: Any = json.loads(note.read_text())
    except (OSError, ValueError):
        return {}
    return dict(told) if isinstance(told, dict) else {}  # pyright: ignore[reportUnknownArgumentType]


def _is_server(pid: int) -> bool:
    """Whether the process is one of ours: a pid in a file may long be another's."""
    for child in _children:
        child.poll()
    try:
        return b"pawl.serving.server" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _log(home: Home) -> Path:
    return home.sockets / "model-server.log"


def _tail(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return "\n".join([*lines[-8:], f"The whole log is {log}."])


@asynccontextmanager
async def _locked(path: Path) -> AsyncGenerator[None]:
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(0.05)
        yield
