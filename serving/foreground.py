"""A model server in the foreground: started, waited for, told of, and ended with the command that started it.

    status = run_foreground(launch, on_ready=lambda launch, pid: print(launch.base_url))

The first SIGINT or SIGTERM lets the server end by itself; what is left of its processes is killed.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

import httpx

from ..core import ModelUnavailable
from .vllm import Launch

END_SECONDS = 20.0
_LOOK_SECONDS = 0.2


def run_foreground(launch: Launch, on_ready: Callable[[Launch, int], None]) -> int:
    """Serve until a signal, or until the server ends; returns 0 or the server's exit status.

    Args:
        launch: what to start; its output goes to this process's standard error.
        on_ready: called once, with the launch and the server's pid, when requests are answered.

    Raises:
        ModelUnavailable: it ends before it answers, or doesn't answer in time.
    """
    ended = threading.Event()
    with _signals(ended):
        process = subprocess.Popen(
            launch.argv,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            stderr=sys.stderr.fileno(),
            env=dict(launch.environment),
            start_new_session=True,
        )
        try:
            if _wait_until_ready(launch, process, ended):
                on_ready(launch, process.pid)
                while process.poll() is None and not ended.wait(_LOOK_SECONDS):
                    pass
            return 0 if ended.is_set() else process.wait()
        finally:
            _end(process)


def _wait_until_ready(launch: Launch, process: "subprocess.Popen[bytes]", ended: threading.Event) -> bool:
    """Whether it answers; false if it was ended by a signal before."""
    headers = {"Authorization": f"Bearer {launch.api_key.get_secret_value()}"} if launch.api_key else {}
    deadline = time.monotonic() + launch.start_seconds
    with httpx.Client(trust_env=False, timeout=5.0, headers=headers) as client:
        while not ended.wait(_LOOK_SECONDS):
            if process.poll() is not None:
                raise ModelUnavailable(
                    f"The model server ended at its start (status {process.returncode}); its last words are above. "
                    f"It was started as: {' '.join(launch.argv)}"
                )
            if time.monotonic() > deadline:
                raise ModelUnavailable(f"The model server didn't answer within {launch.start_seconds:.0f} s.")
            try:
                answer = client.get(f"{launch.base_url}/models")
                if answer.status_code == 200 and launch.name in {each["id"] for each in answer.json()["data"]}:
                    return process.poll() is None
            except (httpx.HTTPError, ValueError, KeyError, TypeError):
                continue
    return False


@contextmanager
def _signals(ended: threading.Event) -> Generator[None]:
    """Let SIGINT and SIGTERM set the event."""

    def end(*_: object) -> None:
        ended.set()

    before = {each: signal.signal(each, end) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a server and all of its processes."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # vLLM's engine is a process of its own
    process.wait()
