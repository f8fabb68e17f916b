"""The verifier's warm processes: what they import, and what a request that failed is answered with."""

from enum import StrEnum
from importlib.resources import files
from typing import cast

from pydantic import BaseModel, ConfigDict, JsonValue

from ..safety.sandbox import Ending, Limits, Sandbox, Use
from ..safety.sandbox.warm import Program, Reply, WarmSandbox


class Mode(StrEnum):
    """What a warm process is for; Triton decides at import whether it interprets or compiles."""

    INTERPRET = "interpret"
    COMPILE = "compile"


class ChildLimits(BaseModel):
    """What one request may take."""

    model_config = ConfigDict(frozen=True)

    seconds: int = 60
    memory: int = 4 << 30
    """Bytes that one request and all it starts may hold in memory; address space is free."""


class KernelProcess:
    """A warm process of one mode, which answers each request in a child of its own."""

    def __init__(
        self, sandbox: Sandbox, mode: Mode, limits: ChildLimits, at_once: int, answer_bytes: int = 32 << 20
    ) -> None:
        """Say what to start; an answer with its outputs may have `answer_bytes`."""
        self._seconds = limits.seconds
        self._warm = WarmSandbox(
            sandbox,
            program(mode),
            limits=Limits(
                wall_seconds=limits.seconds,
                cpu_seconds=limits.seconds,
                memory_bytes=0,
                total_memory_bytes=limits.memory,
                file_bytes=1 << 30,
                scratch_bytes=1 << 30,
                processes=64,
            ),
            at_once=at_once,
            answer_bytes=answer_bytes,
            use=Use.KERNEL,
        )
        self.cpu_seconds = 0.0
        """CPU time of all requests so far."""

    async def ask(self, request: dict[str, JsonValue], blob: bytes = b"") -> tuple[dict[str, JsonValue], bytes]:
        """Send a request to a fresh child.

        Returns:
            Its answer; `{"error": [code, detail]}` where it died or took too long.

        Raises:
            SandboxUnavailable: the process doesn't start, or ended during the request.
        """
        reply = await self._warm.ask(request, blob)
        self.cpu_seconds += reply.cpu_seconds
        if reply.answer is not None:
            return reply.answer, reply.blob
        return {"error": cast("JsonValue", self._error(reply))}, b""

    async def close(self) -> None:
        """End the process."""
        await self._warm.close()

    def _error(self, reply: Reply) -> list[str]:
        if reply.ending is Ending.MEMORY_LIMIT:
            return ["memory", "out of memory"]
        if reply.ending is Ending.OUTPUT_LIMIT:
            return ["memory", reply.detail]
        if reply.ending is Ending.SCRATCH_LIMIT:
            return ["crash", "it wrote more than its scratch may hold"]
        if reply.ending is Ending.TIMED_OUT or reply.wall_seconds >= self._seconds - 1:  # CPU time may run out first
            return ["timeout", f"no answer within {self._seconds} s"]
        if reply.ending is Ending.EXITED:
            return ["exited", f"it exited with status {reply.status} before it answered"]
        return ["crash", reply.detail or "the process ended before it answered"]


def program(mode: Mode) -> Program:
    """What a warm process of the verifier imports."""
    inside = [each for each in files("pawl.kernels.inside").iterdir() if each.name.endswith(".py")]
    bundle = {f"pawl_worker/{each.name}": each.read_bytes() for each in sorted(inside, key=lambda each: each.name)}
    environment = {
        "TRITON_DEFAULT_FP_FUSION": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        # Large temporaries come from the heap and stay there: returning them costs more than the arithmetic.
        "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
        "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
        "MALLOC_TOP_PAD_": str(1 << 26),
        **({"TRITON_INTERPRET": "1"} if mode is Mode.INTERPRET else {}),
    }
    return Program("pawl_worker.worker", bundle, environment, (str(mode),))
