"""The outside of one probe: a folder that stands for the host, a work folder, and what was planted and reached."""

import os
import re
import secrets
import socket
import stat
import subprocess
from contextlib import AsyncExitStack
from pathlib import Path

from pawl.safety.sandbox import Command, Limits, Mount, Result, Sandbox, read_result

from . import watching
from .bare import Bare
from .host import Listener, Victim
from .warmed import Warmed

HERE = Path(__file__).resolve().parent
_CANARY = re.compile(rb"canary-[0-9a-f]{32}")


class Arena:
    """Everything of one run of one probe; closing it takes all of it away again."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.guarded = not isinstance(sandbox, Bare)
        """Whether the trusted side is to act as Pawl does; else as one who knows no danger."""
        self.is_warm = isinstance(sandbox, Warmed)
        """Whether the program is forked from a warm process, and its folder can't be seen from outside."""
        self.tag = secrets.token_hex(8)
        self.host = folder / "host"
        self.work = folder / "work"
        self.host.mkdir(mode=0o700)
        self.work.mkdir(mode=0o700)
        self.canaries: set[str] = set()
        self.listeners: list[Listener] = []
        self.mounts: list[Mount] = []
        self.env: dict[str, str] = {}
        self.limits = Limits(wall_seconds=15, cpu_seconds=15, processes=24, file_bytes=1 << 20)
        self.memory: dict[str, object] = {}
        """What a probe's outside keeps between its functions."""
        self.trouble = ""
        """Why the attack did not run to its end."""
        self.victim_process: Victim | None = None
        self.stack = AsyncExitStack()
        self.stack.callback(
            subprocess.run, ["rm", "-rf", "--one-file-system", str(folder)], check=False
        )  # however deep
        self.stack.callback(watching.end, self.tag)

    # What there is to reach

    def canary(self) -> str:
        """A value that nobody but the host knows; where it comes out, the sandbox leaks."""
        value = f"canary-{secrets.token_hex(16)}"
        self.canaries.add(value)
        return value

    def plant(self, name: str, mode: int = 0o600) -> Path:
        """A file of the host with a canary in it."""
        path = self.host / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_text(self.canary())
        path.chmod(mode)
        return path

    def listen(self, family: int, kind: int, address: object) -> Listener:
        """A socket of the host."""
        listener = Listener(family, kind, address)
        self.listeners.append(listener)
        self.stack.callback(listener.close)
        return listener

    def abstract(self, kind: int = socket.SOCK_STREAM) -> str:
        """A socket of the host without a file, and its name."""
        name = f"pawl-{secrets.token_hex(8)}"
        self.listen(socket.AF_UNIX, kind, f"\0{name}")
        return name

    def victim(self) -> Victim:
        """A process of the host."""
        self.victim_process = Victim(self.canary(), self.canary(), self.plant("open-elsewhere"))
        self.stack.callback(self.victim_process.close)
        return self.victim_process

    # How a program is run

    def command(self, *argv: str, **more) -> Command:
        """A command in the work folder, with what was planted for it."""
        return Command(
            argv=argv,
            work=self.work,
            mounts=tuple(self.mounts),
            env={watching.TAG: self.tag, "PYTHONDONTWRITEBYTECODE": "1", **self.env},
            limits=self.limits,
            loopback=self.memory.get("loopback"),
            **more,
        )

    # Facts

    def leaked(self, result: Result) -> list[str]:
        """Canaries in what the program printed or left in its folder."""
        data = result.stdout + result.stderr
        for root, _, names in os.walk(self.work):
            for name in names:
                path = os.path.relpath(os.path.join(root, name), self.work)
                data += b"\n" + (read_result(self.work, path, 4 << 20) or b"")
        found = {each.decode() for each in _CANARY.findall(data)} & self.canaries
        return [f"{len(found)} canaries of {len(self.canaries)} came out"] if found else []

    def reached(self) -> list[str]:
        """Listeners that something came to."""
        return [f"{_named(each)} was reached" for each in self.listeners if each.reached]

    def tagged(self) -> list[int]:
        """Processes of the program that are alive."""
        return watching.tagged(self.tag)

    def leftovers(self) -> list[str]:
        """Processes of the program that outlived its run."""
        if watching.gone(self.tag):
            return []
        return [f"{len(self.tagged())} processes outlived the run"]

    def devices(self) -> list[str]:
        """Device nodes that the program left in its folder."""
        found = []
        for root, _, names in os.walk(self.work):
            for name in names:
                found_there = os.lstat(os.path.join(root, name))
                is_device = stat.S_ISBLK(found_there.st_mode) or stat.S_ISCHR(found_there.st_mode)
                if is_device and found_there.st_rdev:  # number 0 is a mark that overlays use, and opens nothing
                    found.append(f"the device node {name} was made")
        return found

    async def close(self) -> None:
        await self.stack.aclose()


def _named(listener: Listener) -> str:
    family = socket.AddressFamily(listener.socket.family).name.removeprefix("AF_")
    return f"a {family} {socket.SocketKind(listener.socket.type).name.removeprefix('SOCK_')} socket of the host"
