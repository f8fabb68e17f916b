"""Campaigns of seconds for tests of the whole: one tiny model server for all of them, and processes to run them in.

    from .session_fixtures import factory, ran, served

The model is a random Llama with SmolLM2's tokenizer behind the real local server; sandbox, judge, trainer, databases
and graph are the real ones. Only the decision and the scaffold's edit are doubles (see `child_campaign`).
"""

import asyncio
import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from sqlalchemy import select

from pawl.core import Home, Settings
from pawl.core.database import metadata
from pawl.graph.store import Store
from pawl.nodes.decision import Lever
from pawl.serving.local import ensure_local_server, stop_local_server
from pawl.serving.policy import Endpoint
from pawl.serving.weights import base_model

from .child_campaign import SharedServer
from .model_fixtures import save_tiny_model

SEED = 4
CAMPAIGN = "c"


@dataclass(frozen=True)
class Served:
    """A model server that outlives any one test, and the model's folder for the trainer."""

    endpoint: Endpoint
    model_dir: Path
    home: Home

    def settings(self, **changes: Any) -> Settings:
        """Settings under which the trainer trains the model that is served."""
        return Settings(model_dir=self.model_dir, **changes)

    def factory(self, *levers: Lever) -> SharedServer:
        """Real services over this server, with these levers pulled in turn."""
        return SharedServer(self.endpoint, *(levers or (Lever.SCAFFOLD,)))


@functools.cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="pawl-served-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(stop_local_server, Home(folder / "home"))
    # weights small enough that it prefers no label much: there is a lot to learn
    save_tiny_model(folder / "tiny", base_model(Settings(model_dir=None)).path, spread=0.05)
    return folder


def served() -> Served:
    """The server, started by the first test that needs it, and anew where it has ended meanwhile."""
    folder = _folder()
    home = Home(folder / "home")
    endpoint = asyncio.run(ensure_local_server(home, Settings(model_dir=folder / "tiny"), idle_seconds=900))
    return Served(endpoint, folder / "tiny", home)


def priced(folder: Path, *models: str) -> Path:
    """A price table that makes the tokens of some models free, as those of one's own hardware are."""
    free = {"usd_per_million_input": 0, "usd_per_million_output": 0}
    path = folder / "prices.json"
    path.write_text(json.dumps({"models": dict.fromkeys(models, free)}))
    return path


@dataclass
class Child:
    """One process that was asked to run or to answer."""

    pid: int
    log: Path
    _ended: threading.Event = field(default_factory=threading.Event)
    _status: int | None = None

    def said(self) -> list[dict[str, Any]]:
        """What it told so far."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{")]

    def until(self, text: str, seconds: float = 120.0) -> bool:
        """Wait until it says something with this text in it; false if it ended before."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if text in (self.log.read_text() if self.log.exists() else ""):
                return True
            if self._ended.wait(0.01):
                return text in self.log.read_text()
        raise AssertionError(f"{text!r} was not said within {seconds:.0f} s: {self.log.read_text()[-2000:]}")

    def wait(self, seconds: float = 300.0) -> int:
        """Its exit status, or minus the number of the signal that ended it."""
        assert self._ended.wait(seconds), f"it runs on: {self.log.read_text()[-2000:]}"
        assert self._status is not None
        return self._status


class Processes:
    """Starts children for one home, one at a time; each is a process of its own."""

    def __init__(self, served: Served, home: Path, levers: Sequence[Lever] = (Lever.SCAFFOLD,), **common: Any) -> None:
        self.home = home
        self._common = {
            "home": str(home),
            "campaign": CAMPAIGN,
            "endpoint": served.endpoint.model_dump(mode="json", exclude={"api_key"}),
            "key": served.endpoint.api_key.get_secret_value() if served.endpoint.api_key else "",
            "model_dir": str(served.model_dir),
            "levers": [each.value for each in levers],
            "seed": SEED,
            **common,
        }
        self._count = 0
        self._logs = Path(tempfile.mkdtemp(prefix="pawl-logs-"))
        self._parent = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "child_campaign.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self._logs,
        )

    def start(self, **request: Any) -> Child:
        """Start a child."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._count += 1
        log = self._logs / f"{self._count}.log"
        self._parent.stdin.write(json.dumps({**self._common, "log": str(log), **request}) + "\n")
        self._parent.stdin.flush()
        child = Child(json.loads(self._parent.stdout.readline())["pid"], log)

        def wait() -> None:
            assert self._parent.stdout is not None
            child._status = json.loads(self._parent.stdout.readline())["status"]
            child._ended.set()

        threading.Thread(target=wait, daemon=True).start()
        return child

    def run(self, **request: Any) -> tuple[int, list[dict[str, Any]]]:
        """Start a child, wait for its end, and return its status and what it said."""
        child = self.start(**request)
        status = child.wait()
        return status, child.said()

    def close(self) -> None:
        """End the parent of the children."""
        assert self._parent.stdin is not None
        self._parent.stdin.close()
        self._parent.wait(30)
        shutil.rmtree(self._logs, ignore_errors=True)


@contextmanager
def processes(served: Served, home: Path, *levers: Lever, **common: Any) -> Iterator[Processes]:
    """Children for one home, gone at the end."""
    children = Processes(served, home, levers or (Lever.SCAFFOLD,), **common)
    try:
        yield children
    finally:
        children.close()


def left_behind(home: Path, seconds: float = 10.0) -> list[str]:
    """Processes that still work in a home after their controller has ended; empty as it should be."""
    deadline = time.monotonic() + seconds
    while True:
        found = [*_processes_of(home)]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def _processes_of(home: Path) -> Iterator[str]:
    mark = str(home.resolve())
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                where = os.readlink(entry / "cwd")
            except OSError:
                continue
            if mark in command or where.startswith(mark):
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                yield f"{entry.name} (child of {parent}): ...{command[-200:]} in {where}"


_VOLATILE = {
    "ledger": ("at", "trace_id", "leaf_hash", "seq"),
    "operations": ("begun", "finished"),
    "versions": ("created",),
    "channel_moves": ("at", "seq"),
    "usage": ("cpu_seconds", "gpu_seconds", "nano_dollars", "day"),
    "campaigns": ("created", "updated"),
    "requests": ("interrupt_id", "asked"),
    "decisions": ("interrupt_id", "decided"),
}

_COUNTED = ("input_tokens", "output_tokens", "verifications", "training_steps")


def records(home: Path, database_url: str | None = None) -> dict[str, list[Any]]:
    """Every row of a home's database but for times, trace ids, CPU seconds and the ids of interrupts; sorted."""
    store = Store(Home(home), database_url)
    found: dict[str, list[Any]] = {}
    try:
        with store.db.read() as connection:
            for table in metadata.sorted_tables:
                if table.name in ("leases", "stops") or table.name.startswith("budget_"):
                    continue
                rows = [dict(row._mapping) for row in connection.execute(select(table))]
                kept = [{k: v for k, v in row.items() if k not in _VOLATILE.get(table.name, ())} for row in rows]
                if table.name == "usage":  # what cost nothing but CPU time, or was lost to a crash, differs
                    kept = [row for row in kept if row["kind"] != "lost" and any(row[name] for name in _COUNTED)]
                found[table.name] = sorted((_plain(row) for row in kept), key=json.dumps)
    finally:
        store.close()
    found["artifacts"] = sorted(path.name for path in (home / "artifacts").glob("*/*") if path.is_file())
    return found


def _plain(value: Any) -> JsonValue:
    """A row as JSON, without what differs between equal runs."""
    if isinstance(value, dict):
        dropped = ("cpu_seconds", "gpu_seconds", "trace_id", "worked", "started")
        return {k: _plain(v) for k, v in sorted(value.items()) if k not in dropped}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
