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
from typing import TypeVar

from pydantic import BaseModel, JsonValue

from ..core import Home, PawlError, SealBroken, Settings, errors
from ..serving.policy import Endpoint
from .judge_wire import Commitment, CommitRequest, JudgeSetup, RaceRequest, RaceResult, Reveal
from .races import RaceRules
from .relay import ModelRelay

INHERITED = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "TMPDIR")
"""Variables that the judge's process gets; no key is among them."""
LOG_TAIL = 2_000

_Answer = TypeVar("_Answer", bound=BaseModel)


class JudgeClient:
    """One judge process, one request at a time; it starts with the first request, or with `JudgeClient.start`."""

    def __init__(self, home: Home, settings: Settings, endpoint: Endpoint, *, sealed_seed: int | None = None) -> None:
        """Say what to start.

        Args:
            home: its `judge/` folder is the judge's own.
            settings: gives the number of verification workers.
            endpoint: the model server; its key stays in this process.
            sealed_seed: replaces the home's random secret, so that runs in fresh homes repeat. The seal is then only
                as secret as this number: for demonstrations and tests.
        """
        self._home = home
        self._settings = settings
        self._sealed_seed = sealed_seed
        self._endpoint = endpoint
        self._relay: ModelRelay | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._log = home.judge / "judge.log"
        self._known: list[tuple[CommitRequest, str]] = []
        self._lock = asyncio.Lock()
        self._last = 0

    @classmethod
    async def start(
        cls, home: Home, settings: Settings, endpoint: Endpoint, *, sealed_seed: int | None = None
    ) -> "JudgeClient":
        """Start a judge for a home; the arguments are those of the class.

        Raises:
            PawlError: the process didn't come up; the message has the tail of its log.
        """
        judge = cls(home, settings, endpoint, sealed_seed=sealed_seed)
        await judge._started()
        return judge

    async def _started(self) -> asyncio.subprocess.Process:
        """The process, which holds to what it was known to have committed itself to."""
        if self._process is None:
            self._home.create()
            self._relay = relay = ModelRelay(self._endpoint)
            await relay.start()
            try:
                self._process = process = await self._spawn()
                await self._exchange(process, "open", self._setup(relay).model_dump(mode="json"))
                for request, digest in self._known:
                    answer = await self._exchange(process, "commit", request.model_dump(mode="json"))
                    _check_same(Commitment.model_validate(answer), digest)
            except BaseException:
                await self.close()
                raise
        return self._process

    async def _spawn(self) -> asyncio.subprocess.Process:
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        environment |= {"HOME": str(self._home.judge)}
        if "PAWL_JUDGE_FAULT" in os.environ:
            environment["PAWL_FAULT"] = os.environ["PAWL_JUDGE_FAULT"]
        with self._log.open("ab") as stderr:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "pawl.evals.judge"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                env=environment,
                cwd=self._home.judge,
                start_new_session=True,
                limit=1 << 28,
            )

    def _setup(self, relay: ModelRelay) -> JudgeSetup:
        return JudgeSetup(
            home=self._home.root,
            socket=relay.socket,
            token=relay.token,
            base_model=self._endpoint.base_model,
            is_local=self._endpoint.is_local,
            is_vllm=self._endpoint.is_vllm,
            timeout_seconds=self._endpoint.timeout_seconds,
            workers=self._settings.workers,
            sealed_seed=self._sealed_seed,
        )

    @property
    def pid(self) -> int:
        """The process id of the judge; 0 while it has not been started."""
        return self._process.pid if self._process is not None else 0

    def use(self, endpoint: Endpoint) -> None:
        """Reach the model at another address from now on; it must serve the same base model."""
        self._endpoint = endpoint
        if self._relay is not None:
            self._relay.endpoint = endpoint

    async def commit(self, campaign: str, task: str, seed: int, rules: RaceRules | None = None) -> Commitment:
        """Bind the judge to a campaign's sealed splits and rules; again with the same ones changes nothing.

        Raises:
            NotFound: no such task.
            Conflict: the campaign was committed to with another task, seed or rules.
        """
        request = CommitRequest(campaign=campaign, task=task, seed=seed, rules=rules or RaceRules())
        return Commitment.model_validate(await self._ask("commit", request.model_dump(mode="json")))

    def recall(self, commitment: str, campaign: str, task: str, seed: int, rules: RaceRules) -> None:
        """Hold the judge to a commitment that it made before, as soon as it has to be started for anything.

        Starts nothing. The request that starts the judge raises `SealBroken` if it no longer has that commitment.

        Args:
            commitment: its digest.
            campaign: what it committed itself to, as in `commit`; so are the others.
            task: see `commit`.
            seed: see `commit`.
            rules: see `commit`.
        """
        self._known.append((CommitRequest(campaign=campaign, task=task, seed=seed, rules=rules), commitment))

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
        """End the process and the relay, where they were started; a race under way stays entered."""
        process, relay = self._process, self._relay
        self._process = self._relay = None
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), 10.0)
            except TimeoutError:
                process.kill()
                await process.wait()
        if relay is not None:
            await relay.close()

    async def _ask(self, op: str, body: JsonValue, on_alive: Callable[[], None] | None = None) -> JsonValue:
        async with self._lock:
            return await self._exchange(await self._started(), op, body, on_alive)

    async def _exchange(
        self,
        process: asyncio.subprocess.Process,
        op: str,
        body: JsonValue,
        on_alive: Callable[[], None] | None = None,
    ) -> JsonValue:
        self._last += 1
        number = self._last
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps({"id": number, "op": op, "body": body}).encode() + b"\n")
            await process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            raise await self._died(process) from None
        while True:
            line = await process.stdout.readline()
            if not line:
                raise await self._died(process)
            message = json.loads(line)
            if message["id"] != number:
                continue  # of a request that was given up
            if "ok" in message:
                return message["ok"]
            if "error" in message:
                raise _error(message["error"]["type"], message["error"]["message"])
            if on_alive is not None:
                on_alive()

    async def _died(self, process: asyncio.subprocess.Process) -> PawlError:
        status = await process.wait()
        tail = self._log.read_bytes()[-LOG_TAIL:].decode(errors="replace").strip()
        return PawlError(
            f"The judge's process ended with status {status}. Start it again: what it had is kept, and a race goes "
            f"on under its key. The end of its log:\n{tail or '(nothing)'}"
        )


def _check_same(found: Commitment, digest: str) -> None:
    if found.digest != digest:
        raise SealBroken(
            f"The judge is bound to {found.digest[:12]} in campaign {found.campaign}, the ledger has {digest[:12]}: "
            "the judge's folder and the database are not of one home. Restore both from the same backup, or start "
            "another campaign; trust no outcome of this one's sealed races until then."
        )


def _error(kind: str, message: str) -> PawlError:
    found = getattr(errors, kind, PawlError)
    return found(message) if isinstance(found, type) and issubclass(found, PawlError) else PawlError(message)
