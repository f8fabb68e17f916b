"""Questions to the sandbox, each asked once: answers are kept on disk by what they depend on."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, JsonValue

from ..core import digest_json
from ..safety.sandbox import Sandbox
from .answers import CompileAnswer, CountAnswer, Counts, Failure, Resources, read_answer
from .batches import Batch
from .cache import JsonCache
from .launches import compile_job
from .report import FailureClass, Status
from .warm import ChildLimits, KernelProcess, Mode

VERSION = "8"
"""Part of every cache's key; raise it with any change that moves a figure or an outcome."""

PATIENCE = 5
"""How many times longer a request may take that computes at the size of a benchmark."""

Json = dict[str, Any]
T = TypeVar("T", bound=BaseModel)


class Rejection(Exception):
    """Ends a verification early; caught in `verify`."""

    def __init__(self, failure: FailureClass, reason: str) -> None:
        super().__init__(reason)
        self.failure = failure


def unless_failed(told: T | Failure, where: str = "") -> T:
    """The answer.

    Raises:
        Rejection: it is a failure.
    """
    if isinstance(told, Failure):
        code, detail = told.error
        raise Rejection(code, f"{where}: {detail}" if where else detail)
    return told


class Requests:
    """Sends requests to warm processes, at most so many at once; safe for many callers on one event loop."""

    def __init__(
        self,
        sandbox: Sandbox,
        cache: Path,
        shared_cache: Path | None,
        workers: int,
        limits: ChildLimits,
        answer_bytes: int,
    ) -> None:
        self._cache = JsonCache(cache, shared_cache)
        patient = limits.model_copy(update={"seconds": PATIENCE * limits.seconds})
        self._processes = {mode: KernelProcess(sandbox, mode, limits, workers, answer_bytes) for mode in Mode}
        self._patient = KernelProcess(sandbox, Mode.INTERPRET, patient, workers, answer_bytes)
        self._slots, self._workers = asyncio.Semaphore(workers), workers
        self._pending: dict[str, asyncio.Future[JsonValue]] = {}

    @property
    def cpu_seconds(self) -> float:
        """CPU time that requests have taken so far; look-ups take none."""
        return math.fsum(process.cpu_seconds for process in (*self._processes.values(), self._patient))

    async def close(self) -> None:
        """End the processes."""
        await asyncio.gather(*(process.close() for process in (*self._processes.values(), self._patient)))

    async def ask(self, request: Json, blob: bytes = b"", mode: Mode = Mode.INTERPRET) -> tuple[Json, bytes]:
        """Send a request to a fresh process."""
        async with self._slots:
            return await self._processes[mode].ask(request, blob)

    async def ask_patiently(self, request: Json, blob: bytes) -> tuple[Json, bytes]:
        """Send a request that takes long to a fresh process."""
        async with self._slots:
            return await self._patient.ask(request, blob)

    def batch(self) -> Batch:
        """Room for compilations and counts of one source's kernels, which may share processes."""

        async def ask(kind: str, request: Json) -> Json:
            mode = Mode.COMPILE if kind == "compile" else Mode.INTERPRET
            return (await self._processes[mode].ask(request))[0]

        return Batch(ask, self._slots, self._workers)

    async def compiled(self, module: str, launch: Json, batch: Batch | None = None) -> Resources:
        """What a launch's compilation takes; with others of its batch in one process.

        Raises:
            Rejection: it doesn't compile.
        """
        try:
            job = compile_job(module, launch)
        except (TypeError, ValueError) as error:
            raise Rejection(FailureClass.COMPILE_ERROR, f"{launch['kernel']}: {error}") from None
        told = await self._kernel("compile", CompileAnswer, batch or self.batch(), module, job)
        return unless_failed(told.answers[0], job["kernel"])

    async def counted(self, module: str, launch: Json, batch: Batch | None = None) -> Counts:
        """What a launch does; with others of its batch in one process.

        Raises:
            Rejection: it can't be counted.
        """
        job = {part: value for part, value in launch.items() if part != "options"}
        told = await self._kernel("count", CountAnswer, batch or self.batch(), module, job)
        return unless_failed(told.answers[0], job["kernel"])

    async def _kernel(self, kind: str, model: type[T], batch: Batch, module: str, job: Json) -> T:
        key: Json = {"kind": kind, "source": module, "jobs": [job]}

        async def work() -> BaseModel:
            # What comes before a launch is torch's operators, of which none runs where other launches are counted.
            told = await batch.ask(kind, module, job, alone="prelude" in job)
            return read_answer(model, told)  # pyright: ignore[reportArgumentType]

        return unless_failed(await self.once(kind, key, model, work), job["kernel"])

    async def once(
        self, kind: str, key: JsonValue, model: type[T], work: Callable[[], Awaitable[BaseModel]]
    ) -> T | Failure:
        """Look an answer up, wait for whoever is at it, or work it out."""

        async def told() -> JsonValue:
            return (await work()).model_dump(mode="json")

        value = await self._once(kind, key, told)
        failed = isinstance(value, dict) and "error" in value and "status" not in value
        return (Failure if failed else model).model_validate(value, strict=False)

    async def _once(self, kind: str, key: JsonValue, work: Callable[[], Awaitable[JsonValue]]) -> JsonValue:
        key = [VERSION, key]
        found = self._cache.get(kind, key)
        if found is not None:
            return found
        name = f"{kind} {digest_json(key)}"
        while name in self._pending:
            try:
                return await asyncio.shield(self._pending[name])
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
        future = self._pending[name] = asyncio.get_running_loop().create_future()
        try:
            value = await work()
            if not _depends_on_load(value):
                self._cache.put(kind, key, value)
            future.set_result(value)
            return value
        finally:
            del self._pending[name]
            if not future.done():
                future.cancel()  # those who wait try for themselves


def _depends_on_load(value: JsonValue) -> bool:
    """Whether a busy machine or device may be the cause, so that the answer isn't kept."""
    if not isinstance(value, dict):
        return False
    error = value.get("error")
    refused = value.get("basis") == "measured" and value.get("status") == Status.REJECTED
    return (
        value.get("failure_class") == FailureClass.TIMEOUT
        or refused
        or (isinstance(error, list) and error[:1] == [FailureClass.TIMEOUT.value])
    )
