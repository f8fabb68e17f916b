"""What telemetry and budgets cost a round of a demo: part of `bench/telemetry.py`.

The same first round of a campaign on the local model (rollouts in the sandbox, the measured rule, the typed editor,
the races, the judge) is run in fresh homes, with telemetry and budget on and with both off, in turn. Two
figures come of it:

- in the round: every call of telemetry and budget is timed where it is made, the exporter's thread by its CPU time, as
  if all of it delayed the round. This is exact to a hundredth of a percent on any machine, and is held to the goal.
- in pairs: the wall time of each round with both on over that of its neighbour with both off. It would show a cost
  that the first misses, but rounds differ among themselves by more than the goal; so it has its interval beside it, and
  contradicts the goal only where the whole interval lies above.

A round of `labels` takes seconds where one of the kernel task takes minutes, with as many boundaries at which budgets
are looked at: its share is the larger of the two. `--task trimul` measures the other.
"""

import asyncio
import contextlib
import math
import os
import statistics
import tempfile
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

from scipy import stats

from pawl.core import Home, Settings
from pawl.graph import builder, tracing
from pawl.graph.budget import LimitedBudget
from pawl.graph.services import LocalFactory
from pawl.graph.session import Session
from pawl.nodes.evidence import BudgetLeft
from pawl.nodes.state import ApprovalMode, CampaignRules
from pawl.safety.budget import Budget, Limits, Meter, Prepaid
from pawl.safety.telemetry import spans, telemetry
from pawl.safety.telemetry.files import MetricFile, SpanFile
from pawl.serving import model_calls, tool_calls
from pawl.serving.local import ensure_local_server, stop_local_server
from pawl.serving.policy import Endpoint

RULES = CampaignRules(rounds=1, sealed_seed=7, approve=ApprovalMode.AUTO)
BUDGET = Budget(tokens=10**8, usd=100, round=Limits(tokens=10**7), candidate=Limits(usd=50), day=Limits(usd=1_000))
SEED = 7


class FreeBudget:
    """No budget: nothing is looked at, nothing is counted."""

    def check(self, *_: Any) -> None:
        pass

    def left(self) -> BudgetLeft:
        return BudgetLeft()

    def warnings(self) -> list[Any]:
        return []

    def charging(self, *_: Any) -> Any:
        return contextlib.nullcontext(self)

    def took(self, *_: Any) -> None:
        pass

    def hold(self, *_: Any) -> None:
        pass

    def settle(self, *_: Any) -> None:
        pass


class FreeMeter(Meter):
    """Counts nothing."""

    def add(self, *_: Any, **__: Any) -> None:
        pass

    def reveal(self, *_: Any, **__: Any) -> None:
        pass


class Factory(LocalFactory):
    """The real services over one server for all rounds, with or without a budget."""

    def __init__(self, endpoint: Endpoint, *, budget: bool) -> None:
        super().__init__()
        self._shared, self._budget = endpoint, budget

    async def endpoint(self, home: Home, settings: Settings) -> Endpoint:
        return self._shared

    @asynccontextmanager
    async def open(self, home: Home, settings: Settings, store: Any, campaign: Any) -> AsyncGenerator[Any]:
        async with super().open(home, settings, store, campaign) as services:
            yield services if self._budget else replace(services, budget=FreeBudget(), meter=FreeMeter(store.db))


@dataclass
class Clock:
    """Seconds spent in what is timed; what is called within something that is timed counts once."""

    seconds: dict[str, float] = field(default_factory=dict)
    spans: int = 0
    _inside: threading.local = field(default_factory=threading.local)

    @contextmanager
    def running(self, what: str, now: Callable[[], float] = time.perf_counter) -> Generator[None]:
        if getattr(self._inside, "now", False):
            yield
            return
        self._inside.now, started = True, now()
        try:
            yield
        finally:
            self._inside.now = False
            self.seconds[what] = self.seconds.get(what, 0.0) + now() - started

    def timed(self, owner: Any, name: str, what: str, now: Callable[[], float] = time.perf_counter) -> Any:
        """A patch under which a function is timed."""
        inner = getattr(owner, name)

        def run(*args: Any, **kwargs: Any) -> Any:
            with self.running(what, now):
                return inner(*args, **kwargs)

        return mock.patch.object(owner, name, run)

    def entered(self, owner: Any, name: str) -> Any:
        """A patch under which the beginning and the end of a context manager are timed."""
        inner = getattr(owner, name)

        @contextmanager
        def run(*args: Any, **kwargs: Any) -> Generator[Any]:
            stack = contextlib.ExitStack()
            with self.running("telemetry"):
                entered = stack.enter_context(inner(*args, **kwargs))
            try:
                yield entered
            except BaseException as error:
                with self.running("telemetry"):
                    stack.__exit__(type(error), error, error.__traceback__)
                raise
            with self.running("telemetry"):
                stack.close()

        return mock.patch.object(owner, name, run)

    @contextmanager
    def watching(self) -> Generator[None]:
        """Time everything that telemetry and budget do."""
        with contextlib.ExitStack() as patches:
            for owner, name in ((builder, "node_span"), (model_calls, "model_call"), (tool_calls, "tool_call")):
                patches.enter_context(self.entered(owner, name))
            for owner, names in (
                (spans.SpanContext, ("__enter__", "__exit__")),
                (telemetry._Started, ("set", "event", "fail")),
                (telemetry.Telemetry, ("ended", "measure", "close")),
                (tracing.RunTrace, ("saw", "answered", "revealed", "end")),
                (builder, ("describe",)),
            ):
                for name in names:
                    patches.enter_context(self.timed(owner, name, "telemetry"))
            for exporter in (SpanFile, MetricFile):
                patches.enter_context(self.timed(exporter, "export", "export", time.thread_time))
            for owner, names in (
                (
                    LimitedBudget,
                    ("__init__", "check", "charging", "hold", "settle", "warnings", "told", "left", "close"),
                ),
                (Prepaid, ("__init__", "reserve", "end", "took", "close")),
                (Meter, ("add", "reveal")),
            ):
                for name in names:
                    patches.enter_context(self.timed(owner, name, "budget"))
            yield


async def one_round(endpoint: Endpoint, folder: Path, task: str, *, both: bool) -> tuple[float, Clock]:
    """Wall seconds of a campaign of one round in a fresh home, and what telemetry and budget took of it."""
    clock = Clock()
    watching = clock.watching() if both else contextlib.nullcontext()
    home = folder / f"{time.monotonic_ns()}"
    variables = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    variables |= {} if both else {"OTEL_SDK_DISABLED": "true"}
    with mock.patch.dict(os.environ, variables, clear=True), watching:
        async with Session(home, settings=Settings(), factory=Factory(endpoint, budget=both), plugins=False) as session:
            name = session.create(task, rules=RULES, seed=SEED, budget=BUDGET if both else None)
            started = time.perf_counter()
            async for _ in session.stream(name):
                pass
            took = time.perf_counter() - started
    for file in (home / "telemetry").glob("*.traces.*"):
        clock.spans += len(file.read_bytes().splitlines())
    assert bool(clock.spans) == both, "telemetry is on in one of both"
    return took, clock


def interval(values: list[float]) -> tuple[float, float, float]:
    """Mean with its 95 % interval (Student's t)."""
    mean = statistics.fmean(values)
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return mean, float(mean - half), float(mean + half)


def round_figures(task: str, pairs: int) -> dict[str, float]:
    """Run the pairs, after one that warms everything up."""

    async def run() -> dict[str, float]:
        with tempfile.TemporaryDirectory() as scratch:
            os.chmod(scratch, 0o755)
            server = Home(Path(scratch) / "server")
            endpoint = await ensure_local_server(server, Settings(), idle_seconds=900)
            try:
                shares: list[float] = []
                ratios: list[float] = []
                seconds: dict[str, list[float]] = {}
                spans_told: list[int] = []
                for number in range(pairs + 1):
                    order = (True, False) if number % 2 else (False, True)
                    took: dict[bool, float] = {}
                    clock = Clock()
                    for both in order:
                        took[both], found = await one_round(endpoint, Path(scratch), task, both=both)
                        clock = found if both else clock
                    if number == 0:
                        continue
                    own = sum(clock.seconds.values())
                    shares.append(100 * own / (took[True] - own))
                    ratios.append(math.log(took[True] / took[False]))
                    spans_told.append(clock.spans)
                    for what, value in {**clock.seconds, "round": took[True]}.items():
                        seconds.setdefault(what, []).append(value)
            finally:
                stop_local_server(server)
        share, low, high = interval(shares)
        ratio = [100 * (math.exp(value) - 1) for value in interval(ratios)]
        return {
            "pairs": pairs,
            "round_s": statistics.fmean(seconds["round"]),
            "spans": statistics.fmean(spans_told),
            **{f"{what}_ms": 1000 * statistics.fmean(seconds[what]) for what in ("telemetry", "export", "budget")},
            "in_round_percent": share,
            "in_round_low": low,
            "in_round_high": high,
            "pairs_percent": ratio[0],
            "pairs_low": ratio[1],
            "pairs_high": ratio[2],
        }

    return asyncio.run(run())
