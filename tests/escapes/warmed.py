"""The same attacks in a warm sandbox: each is forked from a process that has already imported, and answers there.

A probe whose outside looks into its folder, or that needs mounts (`OUTSIDE_LOOKS = True` in it), or that is after its
grade (`SCORED`), isn't tried.
"""

import asyncio
import json
from pathlib import Path
from types import ModuleType

from pawl.safety.sandbox import Command, Isolation, Layer, Result, Sandbox, default_sandbox
from pawl.safety.sandbox.warm import Program, WarmSandbox

_HERE = Path(__file__).resolve().parent
_MODULE = """
import inside, os

def warm_up():
    import socket, subprocess

def answer(request, blob, scratch):
    given = request["given"] | {"work": os.getcwd()}
    return {"ways": inside.attack(request["source"], request["file"], given)}, b""
"""


class Warmed:
    """Takes a probe's command for what it is, and asks a warm process to run the attack."""

    def __init__(self, isolation: Isolation) -> None:
        self.isolation = isolation
        self._sandbox: Sandbox = default_sandbox(isolation)

    @property
    def layers(self) -> frozenset[Layer]:
        """Those of the sandbox that the warm process is in."""
        return self._sandbox.layers

    async def run(self, command: Command) -> Result:
        """Run the attack that the command names in a child of a warm process of its own."""
        *_, program, told = command.argv
        bundle = {"attacker.py": _MODULE.encode(), "inside.py": (_HERE / "inside.py").read_bytes()}
        warm = WarmSandbox(self._sandbox, Program("attacker", bundle, command.env), limits=command.limits)
        request = {"given": json.loads(told), "file": program, "source": Path(program).read_text()}
        held_up = b""
        try:
            neighbour = None
            if "ESCAPE_NEIGHBOUR" in command.env:
                await warm.ask(_nap(request, 0))
                neighbour = asyncio.create_task(warm.ask(_nap(request, 0.5)))
                await asyncio.sleep(0.2)
            reply = await warm.ask(request)
            if neighbour is not None and not neighbour.done():
                held_up = b" A neighbour was held up."
        finally:
            await warm.close()
        return Result(
            ending=reply.ending,
            status=reply.status,
            stdout=json.dumps(reply.answer).encode() if reply.answer is not None else b"",
            stderr=reply.detail.encode() + held_up,
            wall_seconds=reply.wall_seconds,
            cpu_seconds=reply.cpu_seconds,
        )


def _nap(request: dict, seconds: float) -> dict:
    """A request that does nothing for so long."""
    return request | {"source": f"import time\ndef attack(given, attempt): time.sleep({seconds})"}


def can_be_warm(module: ModuleType) -> bool:
    """Whether a probe shows anything of a warm sandbox."""
    return not getattr(module, "SCORED", False) and not getattr(module, "OUTSIDE_LOOKS", False)
