"""The judge's process: `python -m pawl.evals.judge`, spoken to in JSON lines over its pipes by `JudgeClient`.

It alone holds the sealed items, their trajectories, the evidence and the account. It starts with an environment
without keys, reaches the model by the controller's relay, runs every candidate in a sandbox, and dies with its
controller. Requests are `{"id", "op", "body"}`; an answer is `{"id", "ok"}` or `{"id", "error": {"type", "message"}}`,
and while it works it says `{"id", "alive": true}`, which tells nothing of how far it is. What it can't hide from its
controller is how long a race takes.
"""

import asyncio
import ctypes
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import IO

from pydantic import BaseModel, JsonValue, SecretStr

from ..core import ArtifactStore, ConfigurationError, Home, PawlError, faults
from ..safety import default_sandbox
from ..serving.policy import Endpoint
from .judge_wire import CommitRequest, JudgeSetup, RaceRequest
from .races import Race
from .registry import TaskEnvironment, load_task
from .sealed import SealedStore
from .sealed_race import Arena, SealedRace
from .task import Task

HEARTBEAT_SECONDS = 2.0
PR_SET_PDEATHSIG = 1


class Judge:
    """Answers requests, one at a time."""

    def __init__(self, setup: JudgeSetup) -> None:
        home = Home(setup.home)
        self._setup = setup
        self._sealed = SealedStore(home.judge, setup.sealed_seed)
        self._store = ArtifactStore(home.artifacts)
        self._sandbox = default_sandbox()
        self._tasks: dict[str, Task] = {}
        self._environment = TaskEnvironment(
            sandbox=self._sandbox,
            cache=home.judge / "verifications",
            shared_cache=home.verifications,
            workers=setup.workers,
        )
        self._work = _scratch(home.judge / "work")

    async def answer(self, op: str, body: JsonValue) -> BaseModel:
        """Do what a request asks.

        Raises:
            PawlError: it can't be done; the message goes to the controller.
        """
        match op:
            case "commit":
                request = CommitRequest.model_validate(body)
                self._task(request.task)
                return self._sealed.commit(request)
            case "race":
                return await self._race(RaceRequest.model_validate(body))
            case "reveal":
                return self._sealed.reveal(str(body))
            case _:
                raise ConfigurationError(f"The judge knows no request {op!r}; expected commit, race or reveal.")

    async def _race(self, request: RaceRequest) -> BaseModel:
        if request.race is Race.TARGET:
            raise ConfigurationError("The target race is run on visible items, outside the judge.")
        tasks = {name: self._task(name) for name in (request.task, *sorted(request.others))}
        entered = self._sealed.enter(request)
        faults.point("judge.entered")
        campaign = self._sealed.campaign(request.campaign)
        if entered.outcome is None:
            arena = Arena(self._store, self._endpoint(), self._sandbox, self._work, self._sealed, tasks)
            outcome, evidence, usage = await SealedRace(arena, campaign, entered).run()
            faults.point("judge.run")
            entered = self._sealed.decide(request.key, outcome, evidence, usage)
            faults.point("judge.decided")
        return entered.result(campaign.rules)

    def _endpoint(self) -> Endpoint:
        return Endpoint(
            socket=self._setup.socket,
            api_key=SecretStr(self._setup.token),
            base_model=self._setup.base_model,
            is_local=self._setup.is_local,
            is_vllm=self._setup.is_vllm,
            timeout_seconds=self._setup.timeout_seconds,
        )

    def _task(self, name: str) -> Task:
        if name not in self._tasks:
            self._tasks[name] = load_task(name, self._environment)
        return self._tasks[name]

    async def close(self) -> None:
        """Give everything back."""
        for task in self._tasks.values():
            await task.close()
        self._sealed.close()
        shutil.rmtree(self._work, ignore_errors=True)


def _scratch(root: Path) -> Path:
    """A scratch folder of this process; those of processes that are gone are removed."""
    root.mkdir(mode=0o700, exist_ok=True)
    for left in root.iterdir():
        if not Path(f"/proc/{left.name}").exists():
            shutil.rmtree(left, ignore_errors=True)
    mine = root / str(os.getpid())
    mine.mkdir(exist_ok=True)
    return mine


async def serve(requests: asyncio.StreamReader, say: Callable[[dict[str, JsonValue]], None]) -> None:
    """Answer requests until the controller closes its end; the first one is the set-up."""
    judge: Judge | None = None
    try:
        while line := await requests.readline():
            message = json.loads(line)
            number, body = message["id"], message["body"]
            if message["op"] == "open":
                judge = Judge(JudgeSetup.model_validate(body))
                say({"id": number, "ok": {}})
                continue
            assert judge is not None
            answer = asyncio.ensure_future(_answered(judge.answer(message["op"], body)))
            while not (await asyncio.wait([answer], timeout=HEARTBEAT_SECONDS))[0]:
                if requests.at_eof():
                    answer.cancel()
                    await asyncio.gather(answer, return_exceptions=True)
                    return
                say({"id": number, "alive": True})
            say({"id": number, **answer.result()})
    finally:
        if judge is not None:
            await judge.close()


async def _answered(answer: Awaitable[BaseModel]) -> dict[str, JsonValue]:
    try:
        return {"ok": (await answer).model_dump(mode="json")}
    except PawlError as error:
        return {"error": {"type": type(error).__name__, "message": str(error)}}
    except Exception as error:
        traceback.print_exc()
        # The text of an unforeseen error may quote what is sealed: it stays in the judge's log.
        return {"error": {"type": "PawlError", "message": f"The judge met {type(error).__name__}; its log says more."}}


async def _main(answers: IO[str]) -> None:
    requests = asyncio.StreamReader(limit=1 << 26)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(requests), sys.stdin)

    def say(message: dict[str, JsonValue]) -> None:
        print(json.dumps(message), file=answers, flush=True)

    await serve(requests, say)


def main() -> None:
    """Run until the controller is gone."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.umask(0o077)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    asyncio.run(_main(answers))


if __name__ == "__main__":
    main()
