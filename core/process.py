"""Which process this is, so that others can tell whether it is still there, without trusting anybody's clock."""

import os
import socket
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class ProcessId(BaseModel):
    """One process of one machine; a pid that was given to another process later is another one."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    host: str
    machine: str
    """What pids are unique within: one boot of one kernel, one pid namespace."""
    pid: int
    started: str
    """When it started, in clock ticks since boot."""

    @classmethod
    def own(cls) -> "ProcessId":
        """This process."""
        return cls(host=socket.gethostname(), machine=machine(), pid=os.getpid(), started=start_time(os.getpid()))

    @property
    def is_gone(self) -> bool:
        """Whether it has ended for certain; of a process of another machine nobody here knows."""
        if self.machine != machine():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False  # somebody else's, and /proc may hide it
        return start_time(self.pid) != self.started


def boot() -> str:
    """The id of this boot of the kernel."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def machine() -> str:
    """What pids are unique within: one boot of one kernel, one pid namespace."""
    return f"{boot()} {os.readlink('/proc/self/ns/pid')}"


def start_time(pid: int) -> str:
    """When a process started, in clock ticks since boot (proc(5), stat field 22); empty if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]
