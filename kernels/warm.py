"""The parent's end of a warm process: starts it in the sandbox, and asks it."""

import asyncio
import json
import os
import shutil
import struct
import sys
import tempfile
import time
from enum import StrEnum
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue

from ..core import SandboxUnavailable
from ..safety.sandbox import Command, Limits, Sandbox

_BUNDLE = ("zygote.py", "interpret.py", "candidate.py", "counting.py", "aot.py")
"""What the sandbox gets of Pawl: these files, as the package `pawl_worker`."""


class Mode(StrEnum):
    """What a warm process is for; Triton decides at import whether it interprets or compiles."""

    INTERPRET = "interpret"
    COMPILE = "compile"


class ChildLimits(BaseModel):
    """What one request may take."""

    model_config = ConfigDict(frozen=True)

    seconds: int = 60
    memory: int = 4 << 30
    """Bytes of address space beyond what the imports hold."""


class WarmProcess:
    """One process that has imported torch and Triton, and forks a child for each request."""

    def __init__(self, sandbox: Sandbox, mode: Mode, limits: ChildLimits) -> None:
        self._sandbox = sandbox
        self._mode = mode
        self._limits = limits
        self._starting = asyncio.Lock()
        self._lifeline: asyncio.StreamWriter | None = None
        self._run: asyncio.Task[str] | None = None
        self._work: Path | None = None
        self.cpu_seconds = 0.0
        """CPU time of all requests so far, as the children say."""

    async def ask(self, request: dict[str, JsonValue], blob: bytes = b"") -> tuple[dict[str, JsonValue], bytes]:
        """Send a request to a fresh child.

        Returns:
            Its answer; `{"error": [code, detail]}` where it died or took too long.

        Raises:
            SandboxUnavailable: the process doesn't start.
        """
        path = await self._ready()
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._limits.seconds + 5):
                reader, writer = await asyncio.open_unix_connection(path, limit=1 << 26)
                try:
                    text = json.dumps(request).encode()
                    writer.writelines([struct.pack("<QQ", len(text), len(blob)), text, blob])
                    await writer.drain()
                    header, size = struct.unpack("<QQ", await reader.readexactly(16))
                    if header + size > self._limits.memory:
                        return {"error": ["memory", f"an answer of {header + size} bytes"]}, b""
                    answer = json.loads(await reader.readexactly(header))
                    self.cpu_seconds += float(answer.pop("cpu_seconds", 0.0))
                    return answer, await reader.readexactly(size)
                finally:
                    writer.close()
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError) as error:
            if self._run is None or self._run.done():
                raise SandboxUnavailable(
                    f"The {self._mode} process of the kernel verifier ended during a request. Try again; if it ends "
                    "again, see `pawl doctor` for what the sandbox offers."
                ) from error
            if time.monotonic() - began >= self._limits.seconds - 1:
                return {"error": ["timeout", f"no answer within {self._limits.seconds} s"]}, b""
            return {"error": ["crash", "the process ended before it answered"]}, b""
        except (ValueError, TypeError, AttributeError) as error:
            return {"error": ["crash", f"an answer that can't be read: {error}"]}, b""

    async def close(self) -> None:
        """End the process and remove its folder."""
        if self._lifeline is not None:
            self._lifeline.close()
            self._lifeline = None
        if self._run is not None:
            await asyncio.wait([self._run], timeout=10)
            self._run.cancel()
            await asyncio.gather(self._run, return_exceptions=True)
            self._run = None
        if self._work is not None:
            shutil.rmtree(self._work, ignore_errors=True)
            self._work = None

    async def _ready(self) -> str:
        async with self._starting:
            if self._run is None or self._run.done():
                await self.close()
                await self._start()
            return str(self._socket())

    def _socket(self) -> Path:
        assert self._work is not None
        return self._work / "s"

    async def _start(self) -> None:
        self._work = Path(tempfile.mkdtemp(prefix="pawl-"))
        bundle = self._work / "pawl_worker"
        bundle.mkdir()
        (bundle / "__init__.py").touch()
        for name in _BUNDLE:
            (bundle / name).write_bytes((files("pawl.kernels") / name).read_bytes())
        self._run = asyncio.create_task(self._serve(self._work))
        deadline = time.monotonic() + 180
        while not self._socket().exists():
            await asyncio.sleep(0.05)
            if self._run.done() or time.monotonic() > deadline:
                words = self._run.result() if self._run.done() else "no answer within 180 s"
                await self.close()
                raise SandboxUnavailable(
                    f"The {self._mode} process of the kernel verifier didn't start: {words}. Expected torch, triton "
                    "and safetensors in this environment (pip install 'pawl-agents[local]') and a sandbox that can "
                    "read them; `pawl doctor` says which layers are active."
                )
        _, self._lifeline = await asyncio.open_unix_connection(str(self._socket()))

    async def _serve(self, work: Path) -> str:
        environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "PAWL_LIMITS": self._limits.model_dump_json(),
            "TRITON_CACHE_DIR": str(work / "triton"),
            "TRITON_HOME": str(work),
            "TRITON_DEFAULT_FP_FUSION": "1",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            # Large temporaries come from the heap and stay there: returning them costs more than the arithmetic.
            "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
            "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
            "MALLOC_TOP_PAD_": str(1 << 26),
            "PYTHONDONTWRITEBYTECODE": "1",
            **({"TRITON_INTERPRET": "1"} if self._mode is Mode.INTERPRET else {}),
        }
        result = await self._sandbox.run(
            Command(
                argv=(sys.executable, "-m", "pawl_worker.zygote", str(self._mode), str(work / "s")),
                work=work,
                env=environment,
                limits=Limits(
                    wall_seconds=30 * 86_400.0,
                    cpu_seconds=10_000_000,
                    memory_bytes=0,
                    file_bytes=1 << 30,
                    processes=512,
                ),
            )
        )
        return f"it ended with {result.ending} {result.status}: {result.stderr[-600:].decode(errors='replace')}"
