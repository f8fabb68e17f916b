"""What there is to reach on the host: listeners that note who came, and a process that holds a secret."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

_VICTIM = """
import ctypes, json, os, signal, sys
got = []
for number in range(1, 65):
    try:
        signal.signal(number, lambda number, _: got.append(number))
    except (OSError, ValueError):
        pass
secret = ctypes.create_string_buffer(sys.stdin.readline().strip().encode())
flag = ctypes.create_string_buffer(b"untouched")
file = os.open(sys.argv[1], os.O_RDONLY)
os.unlink(sys.argv[1])
print(json.dumps([ctypes.addressof(secret), ctypes.addressof(flag), file]), flush=True)
for line in sys.stdin:
    print(json.dumps({"signals": got, "flag": flag.value.decode(errors="replace")}), flush=True)
"""


class Listener:
    """A socket of the host that notes what reached it."""

    def __init__(self, family: int, kind: int, address: object) -> None:
        self.socket = socket.socket(family, kind)
        self.socket.bind(address)
        self.address = self.socket.getsockname()
        self.reached: list[bytes] = []
        self._streams = kind == socket.SOCK_STREAM or kind == socket.SOCK_SEQPACKET
        if self._streams:
            self.socket.listen(16)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                if not self._streams:
                    self.reached.append(self.socket.recv(512))
                    continue
                connection, _ = self.socket.accept()
                with connection, suppress(OSError):
                    connection.settimeout(0.5)
                    self.reached.append(connection.recv(512))
                    connection.sendall(b"reached")

    def close(self) -> None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class Victim:
    """A process of the host: a canary in its environment, one in its memory, one in a file that only it has open."""

    def __init__(self, environment: str, memory: str, file: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", _VICTIM, str(file)],
            env={"PROVIDER_KEY": environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._say(memory)
        self.pid = self._process.pid
        self.secret_at, self.flag_at, self.descriptor = self._hear()
        self.before = self._settings()

    def touched(self) -> list[str]:
        """What was done to it: signals, memory, limits, priority; or that it is gone."""
        if self._process.poll() is not None:
            return [f"the host's process ended with {self._process.returncode}"]
        try:
            self._say("state")
            state = self._hear()
        except (OSError, ValueError):
            return ["the host's process no longer answers"]
        found = [f"the host's process got the signals {sorted(set(state['signals']))}"] if state["signals"] else []
        if state["flag"] != "untouched":
            found.append("the host's process had its memory written")
        changed = [name for name, value in self._settings().items() if value != self.before[name]]
        return found + [f"the host's process had its {name} changed" for name in changed]

    def close(self) -> None:
        with suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
            self._process.wait(5)
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                pipe.close()

    def _settings(self) -> dict[str, object]:
        return {
            "limits": Path(f"/proc/{self.pid}/limits").read_text(),
            "priority": os.getpriority(os.PRIO_PROCESS, self.pid),
            "affinity": os.sched_getaffinity(self.pid),
            "scheduler": os.sched_getscheduler(self.pid),
            "oom score": Path(f"/proc/{self.pid}/oom_score_adj").read_text(),
        }

    def _say(self, line: str) -> None:
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def _hear(self):
        return json.loads(self._process.stdout.readline())
