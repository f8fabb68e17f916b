"""The warm process in which foreign problems' code runs, asked from any thread."""

import asyncio
import atexit
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.resources import files
from typing import ParamSpec, TypeVar, cast

from pydantic import JsonValue

from ...safety.sandbox import Ending, Limits, Sandbox, Use, default_sandbox
from ...safety.sandbox.warm import Program, WarmSandbox

P = ParamSpec("P")
T = TypeVar("T")

_FILES = (
    "inside/pretend.py", "loaders/inside/worker.py", "loaders/inside/foreign.py", "loaders/inside/precision.py",
    "loaders/inside/structure.py", "loaders/inside/traffic.py",
)  # fmt: skip
_ROOMS = ("", "inside/", "loaders/", "loaders/inside/")
_SECONDS = 120
_MEMORY = 8 << 30
_ANSWER_BYTES = 4 << 30


class ForeignProcess:
    """A warm process for all foreign problems of this program; it starts with the first request.

    `inputs` and `reference` of a problem are synchronous and called from worker threads, so the process is served by an
    event loop in a thread of its own.
    """

    def __init__(self, sandbox: Sandbox | None = None) -> None:
        """Say where to run; without a sandbox, in the strongest that there is."""
        self._sandbox = sandbox
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._warm: WarmSandbox | None = None

    def ask(self, request: dict[str, JsonValue], blob: bytes = b"") -> tuple[dict[str, JsonValue], bytes]:
        """Send a request to a fresh child and wait; an answer that never came is `{"error": why}`.

        Raises:
            SandboxUnavailable: there is no sandbox here that such a problem may be run in.
        """
        warm, loop = self._started()
        reply = asyncio.run_coroutine_threadsafe(warm.ask(request, blob), loop).result()
        if reply.answer is not None:
            return reply.answer, reply.blob
        words = {
            Ending.MEMORY_LIMIT: f"it held more than {_MEMORY >> 30} GB",
            Ending.TIMED_OUT: f"it took longer than {_SECONDS} s",
            Ending.OUTPUT_LIMIT: reply.detail,
        }
        why = words.get(reply.ending, reply.detail or f"its process {reply.ending} with {reply.status}")
        return {"error": cast("JsonValue", why)}, b""

    def close(self) -> None:
        """End the process, if it has started."""
        with self._lock:
            warm, loop, thread = self._warm, self._loop, self._thread
            self._warm = self._loop = self._thread = None
        if warm is None or loop is None or thread is None:
            return
        atexit.unregister(self.close)
        loop.set_default_executor(_AtOnce())
        asyncio.run_coroutine_threadsafe(warm.close(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()

    def _started(self) -> tuple[WarmSandbox, asyncio.AbstractEventLoop]:
        with self._lock:
            if self._warm is None or self._loop is None:
                sandbox = self._sandbox or default_sandbox()
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="foreign-problems", daemon=True)
                self._thread.start()
                limits = Limits(
                    wall_seconds=_SECONDS,
                    cpu_seconds=_SECONDS,
                    memory_bytes=2 * _MEMORY,
                    total_memory_bytes=_MEMORY,
                    file_bytes=64 << 20,
                    scratch_bytes=64 << 20,
                    processes=64,
                )
                self._warm = WarmSandbox(
                    sandbox, program(), limits=limits, answer_bytes=_ANSWER_BYTES, use=Use.FOREIGN_SCORER
                )
                atexit.register(self.close)
            return self._warm, self._loop


class _AtOnce(ThreadPoolExecutor):
    """Works in the caller's thread: at the interpreter's exit, when this is used, no thread starts any more."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def program() -> Program:
    """What the warm process imports: the files that it needs, in the folders that they have here."""
    root = files("pawl.kernels")
    bundle = {f"pawl_foreign/{room}__init__.py": b"" for room in _ROOMS}
    bundle |= {f"pawl_foreign/{name}": (root / name).read_bytes() for name in _FILES}
    environment = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TRITON_INTERPRET": "1"}
    return Program("pawl_foreign.loaders.inside.worker", bundle, environment)


_shared = ForeignProcess()


def shared_process() -> ForeignProcess:
    """The one that problems use unless they are given another."""
    return _shared
