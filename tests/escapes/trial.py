"""One probe under one sandbox, and what it came to."""

import asyncio
import importlib
import inspect
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Any

from pawl.core import SandboxUnavailable
from pawl.safety.sandbox import Isolation, Mount, Result, Sandbox

from .arena import HERE, Arena
from .scoring import score

SETS = (Isolation.BUBBLEWRAP, Isolation.LANDLOCK)


class Verdict(StrEnum):
    """What a probe came to."""

    HELD = "held"
    ESCAPED = "escaped"
    REFUSED = "refused to run"
    """The sandbox did not start the program."""
    BROKEN = "broken"
    """The attack never ran to its end, so that it shows nothing."""


@dataclass(frozen=True)
class Probe:
    """One attack."""

    name: str

    @property
    def module(self) -> ModuleType:
        return importlib.import_module(f".probes.{self.name}", __package__)

    @property
    def about(self) -> str:
        """Its first line."""
        return (self.module.__doc__ or "").partition("\n")[0]


@dataclass(frozen=True)
class Outcome:
    """What a probe came to, and the facts that say so."""

    verdict: Verdict
    facts: tuple[str, ...]
    ways: dict[str, str]
    """What the attack says each of its ways came to: to read, never to judge by."""
    seconds: float


PROBES = {path.stem: Probe(path.stem) for path in sorted((HERE / "probes").glob("[!_]*.py"))}


async def try_probe(probe: Probe, sandbox: Sandbox) -> Outcome:
    """Run a probe under a sandbox and judge it by facts."""
    began, module = time.monotonic(), probe.module
    arena = Arena(Path(tempfile.mkdtemp(prefix="pawl-escape-")).resolve(), sandbox)
    try:
        scored = getattr(module, "SCORED", False) and arena.guarded
        facts, ways = await (score(probe.name, module, arena) if scored else _run(probe, module, arena))
    except SandboxUnavailable as error:
        return Outcome(Verdict.REFUSED, (str(error),), {}, time.monotonic() - began)
    finally:
        await arena.close()
    verdict = Verdict.ESCAPED if facts else Verdict.HELD if ways else Verdict.BROKEN
    if verdict is Verdict.BROKEN:
        facts = [arena.trouble]
    return Outcome(verdict, tuple(dict.fromkeys(facts)), ways, time.monotonic() - began)


async def _run(probe: Probe, module: ModuleType, arena: Arena) -> tuple[list[str], dict[str, str]]:
    given = await _settled(getattr(module, "prepare", lambda arena: {})(arena))
    program = HERE / "probes" / f"{probe.name}.py"
    arena.mounts += [Mount(path=program), Mount(path=HERE / "inside.py")]
    told = json.dumps({"work": str(arena.work), "guarded": arena.guarded, **given})
    command = arena.command(sys.executable, "-S", str(HERE / "inside.py"), str(program), told)
    run = asyncio.ensure_future(arena.sandbox.run(command))
    facts = await _look(arena, run, getattr(module, "meanwhile", lambda arena: []))
    result = await run
    judged = getattr(module, "verdict", lambda arena, result: arena.leaked(result))
    facts = facts + await _settled(judged(arena, result))
    ways = _ways(result)
    silent = getattr(module, "SILENT", False) or (arena.is_warm and getattr(module, "RUINS_ITS_ANSWER", False))
    if not ways and silent:
        ways = {"the attack": f"ended with {result.ending} {result.status}"}
    if not ways:
        arena.trouble = f"{result.ending} {result.status}: {result.stderr[-500:].decode(errors='replace')}"
    return facts, ways


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def _look(arena: Arena, run: "asyncio.Future[Result]", meanwhile: Callable[[Arena], list[str]]) -> list[str]:
    """While the attack holds what it got, look at it from outside; then let it end."""
    facts: list[str] = []
    while not run.done():
        if arena.is_warm:
            facts += await asyncio.to_thread(meanwhile, arena)
            await asyncio.sleep(0.1)
            continue
        if (arena.work / "holding").exists():
            facts = await asyncio.to_thread(meanwhile, arena)
            (arena.work / "release").touch()
            break
        await asyncio.sleep(0.005)
    return facts


def _ways(result: Result) -> dict[str, str]:
    for line in reversed(result.stdout.splitlines()):
        try:
            ways = json.loads(line)["ways"]
        except (ValueError, TypeError, KeyError):
            continue
        if isinstance(ways, dict):
            return {str(name): str(value) for name, value in ways.items()}
    return {}
