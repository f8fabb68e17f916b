"""A version on items: the scaffold in the sandbox, the policy by its socket, a trajectory out.

rollouts = [Rollout(version=version, item=item.id, payload=item.payload, seed=seed) for item in items]
trajectories = await run_rollouts(rollouts, store=store, endpoint=endpoint, sandbox=sandbox, work=folder)
"""

import asyncio
import json
import os
import secrets
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from ..core import ArtifactStore, Note, RolloutStop, Step, Trajectory, Usage, Version, canonical_json
from ..safety import Command, Ending, Limits, Mount, Result, Sandbox, Use, read_result
from ..safety.budget.calls import Spending
from ..safety.sandbox import Loopback
from ..safety.sandbox.trees import remove_tree
from ..safety.sandbox.untrusted import parse_untrusted
from ..safety.telemetry import here, names, span
from .candidates import CandidateMeter
from .lockstep import Lockstep
from .policy import Endpoint
from .proxy import PolicyProxy
from .session import CallLimits, Session
from .tools import Tool

_AGENT, _ITEM, _OUTPUT = "agent.py", "item.json", "output.json"
_TAIL = 2000
_START_SECONDS = 30.0
_STOPS = {
    Ending.TIMED_OUT: RolloutStop.TIMED_OUT,
    Ending.OUTPUT_LIMIT: RolloutStop.OUTPUT_LIMIT,
    Ending.SCRATCH_LIMIT: RolloutStop.OUTPUT_LIMIT,
}


@dataclass(frozen=True)
class Rollout:
    """One attempt to make: a version at an item, with a seed."""

    version: Version
    item: str
    """The item's id."""
    payload: dict[str, JsonValue]
    """What the scaffold is given."""
    seed: int
    tools: Sequence[Tool] = ()
    task: str = ""
    use: Use = Use.SCAFFOLD
    """Whose the scaffold is; the sandbox's rules for a foreign agent are stricter."""
    loopback: bool = False
    """Whether the scaffold's program also finds the model by the variables that providers' SDKs read
    (`OPENAI_BASE_URL`, `OPENAI_API_KEY`), and may import the packages of this environment. Needs a sandbox with a
    network namespace."""


class RolloutLimits(BaseModel):
    """What one rollout may take."""

    model_config = ConfigDict(frozen=True)

    sandbox: Limits = Limits(wall_seconds=600.0, cpu_seconds=60, memory_bytes=1 << 30, processes=16)
    """The wall clock runs while the rollout waits for the others of its batch, too."""
    calls: CallLimits = CallLimits()
    output_bytes: int = Field(default=1 << 20, ge=1)
    """Size of the answer's file."""
    lag_seconds: float = Field(default=10.0, gt=0)
    """How long a scaffold may compute while all others of its batch wait, before it falls out of step."""


async def run_rollouts(
    rollouts: Sequence[Rollout],
    *,
    store: ArtifactStore,
    endpoint: Endpoint,
    sandbox: Sandbox,
    work: Path,
    limits: RolloutLimits | None = None,
    batch: int = 32,
    on_done: Callable[[Trajectory], None] | None = None,
    spending: Spending | None = None,
    candidates: CandidateMeter | None = None,
) -> list[Trajectory]:
    """Run each rollout in a sandbox of its own, `batch` at a time in lock step.

    Whatever a scaffold does is in its trajectory's `stop` and `error`. The same rollouts against the same server give
    the same trajectories, but for `trace_id` and `cpu_seconds`, as long as no scaffold depends on time or chance.

    Args:
        rollouts: what to run; each chunk of `batch` is composed in this order.
        store: holds the versions' scaffolds.
        endpoint: the model server.
        sandbox: runs the scaffolds.
        work: a folder for scratch; what this call puts there is removed at its end.
        limits: of each rollout.
        batch: how many run at once.
        on_done: called with each trajectory as its rollout ends.
        spending: what model calls are paid from: the most that a call can use is reserved before it, what it used
            is settled after it. It is told what each rollout took in all, as that ends or is cut off.
        candidates: counts what all rollouts of a version use together, over several calls of this if it is given to
            each, and limits it.

    Returns:
        Ungraded trajectories in the order of the rollouts.

    Raises:
        ArtifactMissing: a version's scaffold isn't in the store.
        SandboxUnavailable: the machine no longer offers the sandbox.
        BudgetExhausted: `spending` can't pay for a call.
        PawlError: what a trusted tool raised.
    """
    limits = limits or RolloutLimits()
    calls = _as_long_as(limits.sandbox.wall_seconds, limits.calls)
    work.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="rollouts-", dir=work.resolve()))
    done: list[Trajectory] = []
    try:
        scaffolds = {rollout.version.scaffold: scratch / rollout.version.scaffold for rollout in rollouts}
        for digest, folder in scaffolds.items():
            store.checkout(digest, folder)
        async with PolicyProxy(endpoint, candidates) as proxy:
            for start in range(0, len(rollouts), batch):
                part = rollouts[start : start + batch]
                lockstep = Lockstep(secrets.token_hex(8), len(part), limits.lag_seconds)
                runs: list[asyncio.Task[Trajectory]] = []
                try:
                    async with asyncio.TaskGroup() as group:
                        for member, rollout in enumerate(part):
                            session = await proxy.open(
                                rollout.version,
                                seed=rollout.seed,
                                tools=rollout.tools,
                                limits=calls,
                                lockstep=lockstep,
                                member=member,
                                spending=spending,
                            )
                            place = _Place(scratch / f"{start + member:06d}", scaffolds[rollout.version.scaffold])
                            run = _run(rollout, session, proxy, sandbox, place, limits, on_done)
                            runs.append(group.create_task(run))
                except BaseExceptionGroup as failures:
                    raise _first(failures) from failures
                done += [run.result() for run in runs]
    finally:
        remove_tree(scratch)
    return done


def _as_long_as(wall_seconds: float, calls: CallLimits) -> CallLimits:
    """A token that outlives its rollout by no more than the rollout takes to start."""
    return calls.model_copy(update={"seconds": min(calls.seconds, wall_seconds + _START_SECONDS)})


@dataclass(frozen=True)
class _Place:
    """Where a rollout runs."""

    work: Path
    scaffold: Path


async def _run(
    rollout: Rollout,
    session: Session,
    proxy: PolicyProxy,
    sandbox: Sandbox,
    place: _Place,
    limits: RolloutLimits,
    on_done: Callable[[Trajectory], None] | None,
) -> Trajectory:
    place.work.mkdir()
    item = {"id": rollout.item, "task": rollout.task, "payload": rollout.payload, "seed": rollout.seed}
    (place.work / _ITEM).write_bytes(json.dumps(item).encode())
    loopback = Loopback(socket=session.socket) if rollout.loopback else None
    command = Command(
        argv=(os.path.realpath(sys.executable), "-S", str(place.scaffold / _AGENT)),
        work=place.work,
        mounts=(Mount(path=place.scaffold), Mount(path=session.socket)),
        env={
            "PAWL_SOCKET": str(session.socket),
            "PAWL_TOKEN": session.token,
            "PAWL_SEED": str(rollout.seed),
            "PAWL_SCAFFOLD": str(place.scaffold),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
            "PYTHONIOENCODING": "utf-8:backslashreplace",
            **({} if loopback is None else _sdk(loopback, session)),
        },
        loopback=loopback,
        limits=limits.sandbox,
        use=rollout.use,
    )
    cpu = Usage()
    try:
        with span(f"{names.Operation.INVOKE_AGENT} {rollout.task}".strip(), _told(rollout)) as current:
            session.place = here()
            result = await sandbox.run(command)
            current.set(names.ENDING, result.ending.value)
        cpu = Usage(cpu_seconds=result.cpu_seconds)
    finally:
        proxy.close(session)
        if session.spending is not None:  # also of a rollout that is cut off: what it took by then is spent
            session.spending.took(session.usage + cpu)
    if session.trusted_error is not None:
        raise session.trusted_error
    data = read_result(place.work, _OUTPUT, limits.output_bytes)
    remove_tree(place.work)
    trajectory = _trajectory(rollout, session, result, data, _Redaction(session, place))
    if on_done is not None:
        on_done(trajectory)
    return trajectory


def _told(rollout: Rollout) -> dict[str, str]:
    """What telemetry is told of a rollout."""
    return {
        names.OPERATION: names.Operation.INVOKE_AGENT.value,
        names.AGENT: rollout.task,
        names.AGENT_VERSION: rollout.version.id,
        names.ITEM: rollout.item,
    }


def _sdk(loopback: Loopback, session: Session) -> dict[str, str]:
    """The environment that a program written for a provider's SDK expects."""
    packages = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    return {
        "OPENAI_BASE_URL": f"http://127.0.0.1:{loopback.port}/v1",
        "OPENAI_API_KEY": session.token,
        "PYTHONPATH": ":".join(packages),
    }


class _Redaction:
    """Takes out of a scaffold's words what differs from run to run."""

    def __init__(self, session: Session, place: _Place) -> None:
        self._names = {
            session.token: "TOKEN",
            str(session.socket): "SOCKET",
            str(place.scaffold): "SCAFFOLD",
            str(place.work): "WORK",
        }

    def __call__(self, data: bytes) -> str:
        text = data.decode(errors="replace")
        for found, name in self._names.items():
            text = text.replace(found, name)
        return text


def _trajectory(
    rollout: Rollout, session: Session, result: Result, data: bytes | None, redacted: _Redaction
) -> Trajectory:
    stop, output, error = _outcome(session, result, data, redacted)
    output = None if output is None else output.replace(session.token, "TOKEN")
    steps: list[Step] = list(session.steps)
    if result.stdout:
        steps.append(Note(text=redacted(result.stdout)[:_TAIL]))
    return Trajectory(
        version=rollout.version.id,
        item=rollout.item,
        seed=rollout.seed,
        steps=steps,
        output=output,
        stop=stop,
        error=error,
        usage=session.usage + Usage(cpu_seconds=result.cpu_seconds),
        trace_id=secrets.token_hex(16),
    )


def _outcome(
    session: Session, result: Result, data: bytes | None, redacted: _Redaction
) -> tuple[RolloutStop, str | None, str | None]:
    """Why it stopped, its output, and what to tell of it."""
    words = redacted(result.stderr)[-_TAIL:]
    if session.model_error is not None:
        return RolloutStop.MODEL_FAILED, None, session.model_error
    if result.ending in _STOPS:
        return _STOPS[result.ending], None, words
    if result.ending is Ending.MEMORY_LIMIT:
        return RolloutStop.CRASHED, None, f"{words}[ended: more memory than its limit]"
    if result.ending is not Ending.EXITED or result.status != 0:
        how = "signal" if result.ending is Ending.SIGNALLED else "status"
        return RolloutStop.CRASHED, None, f"{words}[ended with {how} {result.status}]"
    if data is None:
        return RolloutStop.NO_OUTPUT, None, f"{words}[no plain file {_OUTPUT} within its size limit]"
    try:
        written = parse_untrusted(data)
    except ValueError as error:
        return RolloutStop.NO_OUTPUT, None, f"{words}[{_OUTPUT} can't be used: {error}]"
    output = written.get("output") if isinstance(written, dict) else None
    if isinstance(output, str):
        return RolloutStop.ANSWERED, output, None
    if isinstance(output, dict):
        return RolloutStop.ANSWERED, canonical_json(output).decode(), None
    return RolloutStop.NO_OUTPUT, None, f'{words}[{_OUTPUT} is not {{"output": <text or object>}}]'


def _first(error: BaseException) -> BaseException:
    """The one error to raise where several rollouts met the same trouble."""
    inner: tuple[BaseException, ...] = getattr(error, "exceptions", ())
    return _first(inner[0]) if inner else error
