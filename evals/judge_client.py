"""The controller's end of the judge: starts its process, asks, and turns its errors back into ours.

judge = await JudgeClient.start(home, settings, endpoint)
await judge.commit("c-1", "trimul", seed=7)
result = await judge.race(RaceRequest(key=..., campaign="c-1", race=Race.HOLDOUT, ...))
await judge.close()
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, JsonValue

from ..core import Home, PawlError, Settings, errors
from ..serving.policy import Endpoint
from .judge_wire import Commitment, CommitRequest, JudgeSetup, RaceRequest, RaceResult, Reveal
from .races import RaceRules
from .relay import ModelRelay

INHERITED = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "TMPDIR")
"""Variables that the judge's process gets; no key is among them."""
LOG_TAIL = 2_000

_Answer = TypeVar("_Answer", bound=BaseModel)


class JudgeClient:
    """One judge process, one request at a time; start it with `JudgeClient.start`."""

    def __init__(self, process: asyncio.subprocess.Process, relay: ModelRelay, log: Path) -> None:
        self._process = process
        self._relay = relay
        self._log = log
        self._lock = asyncio.Lock()
        self._last = 0

    @classmethod
    async def start(
        cls, home: Home, settings: Settings, endpoint: Endpoint, *, sealed_seed: int | None = None
    ) -> "JudgeClient":
        """Start a judge for a home.

        Args:
            home: its `judge/` folder is the judge's own.
            settings: gives the number of verification workers.
            endpoint: the model server; its key stays in this process.
            sealed_seed: replaces the home's random secret, so that runs in fresh homes repeat. The seal is then only
                as secret as this number: for demonstrations and tests.

        Raises:
            PawlError: the process didn't come up; the message has the tail of its log.
        """
        home.create()
        relay = ModelRelay(endpoint)
        await relay.start()
        log = home.judge / "judge.log"
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        environment |= {"HOME": str(home.judge)}
        if "PAWL_JUDGE_FAULT" in os.environ:
            environment["PAWL_FAULT"] = os.environ["PAWL_JUDGE_FAULT"]
        with log.open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "pawl.evals.judge"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                env=environment,
                cwd=home.judge,
                start_new_session=True,
                limit=1 << 28,
            )
        judge = cls(process, relay, log)
        setup = JudgeSetup(
            home=home.root,
            socket=relay.socket,
            token=relay.token,
            base_model=endpoint.base_model,
            is_local=endpoint.is_local,
            timeout_seconds=endpoint.timeout_seconds,
            workers=settings.workers,
            sealed_seed=sealed_seed,
        )
        try:
            await judge._ask("open", setup.model_dump(mode="json"))
        except BaseException:
            await judge.close()
            raise
        return judge

    @property
    def pid(self) -> int:
        """The process id of the judge."""
        return self._process.pid

    def use(self, endpoint: Endpoint) -> None:
        """Reach the model at another address from now on; it must serve the same base model."""
        self._relay.endpoint = endpoint

    async def commit(self, campaign: str, task: str, seed: int, rules: RaceRules | None = None) -> Commitment:
        """Bind the judge to a campaign's sealed splits and rules; again with the same ones changes nothing.

        Raises:
            NotFound: no such task.
            Conflict: the campaign was committed to with another task, seed or rules.
        """
        request = CommitRequest(campaign=campaign, task=task, seed=seed, rules=rules or RaceRules())
        return Commitment.model_validate(await self._ask("commit", request.model_dump(mode="json")))

    async def race(self, request: RaceRequest, on_alive: Callable[[], None] | None = None) -> RaceResult:
        """Run a sealed race, or look up what came of it.

        Args:
            request: the comparison; its key makes it idempotent.
            on_alive: called every few seconds while the judge works.

        Raises:
            ModelUnavailable: the endpoint failed; ask again with the same key once it is back.
            AccountExhausted: the campaign's account has no bits left.
            Conflict: the key stands for another comparison.
            CampaignFinished: the campaign is revealed.
            PawlError: the judge died; start it again, and ask again with the same key.
        """
        return RaceResult.model_validate(await self._ask("race", request.model_dump(mode="json"), on_alive))

    async def reveal(self, campaign: str) -> Reveal:
        """End a campaign's seal: its secret and all evidence.

        Raises:
            NotFound: the judge has no commitment to it.
        """
        return Reveal.model_validate(await self._ask("reveal", campaign))

    async def close(self) -> None:
        """End the process and the relay; a race under way stays entered."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 10.0)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._relay.close()

    async def _ask(self, op: str, body: JsonValue, on_alive: Callable[[], None] | None = None) -> JsonValue:
        async with self._lock:
            self._last += 1
            number = self._last
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            try:
                self._process.stdin.write(json.dumps({"id": number, "op": op, "body": body}).encode() + b"\n")
                await self._process.stdin.drain()
            except (BrokenPipeError, ConnectionResetError):
                raise await self._died() from None
            while True:
                line = await self._process.stdout.readline()
                if not line:
                    raise await self._died()
                message = json.loads(line)
                if message["id"] != number:
                    continue  # of a request that was given up
                if "ok" in message:
                    return message["ok"]
                if "error" in message:
                    raise _error(message["error"]["type"], message["error"]["message"])
                if on_alive is not None:
                    on_alive()

    async def _died(self) -> PawlError:
        status = await self._process.wait()
        tail = self._log.read_bytes()[-LOG_TAIL:].decode(errors="replace").strip()
        return PawlError(
            f"The judge's process ended with status {status}. Start it again: what it had is kept, and a race goes "
            f"on under its key. The end of its log:\n{tail or '(nothing)'}"
        )


def _error(kind: str, message: str) -> PawlError:
    found = getattr(errors, kind, PawlError)
    return found(message) if isinstance(found, type) and issubclass(found, PawlError) else PawlError(message)
