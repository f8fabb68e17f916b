"""What a campaign runs on, put together: model server, judge, sandbox, task, trainer, feedback agent, editor.

`LocalFactory` opens the real ones, lazily, since looking at a home needs none of them. Give `Session` another
factory to swap a part:

    class MyFactory(LocalFactory):
        def feedback(self, endpoint): return MyFeedbackAgent()
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..core import Home, NotFound, PawlError, Sampling, Settings, Trajectory, Version
from ..evals.registry import TaskEnvironment, load_task, task_names
from ..evals.task import Item, Task
from ..nodes.context import Rollouts, Services, TrainingBase
from ..nodes.editor import ScaffoldEditor
from ..nodes.evidence import BudgetLeft
from ..nodes.feedback import FeedbackAgent
from ..nodes.state import CampaignRules
from ..release import Campaign
from ..safety.budget import Budget
from ..safety.sandbox import Sandbox
from ..serving.policy import Endpoint
from .store import Store

if TYPE_CHECKING:
    from ..evals.judge_client import JudgeClient
    from ..serving.adapters import AdapterPublisher
    from ..training.backend import TrainerBackend

KEEP_SECONDS = 20.0
"""How often the local server is asked for while a campaign runs."""


class Factory(Protocol):
    """Builds the services of a campaign."""

    def check_task(self, task: str) -> None:
        """Return if the task is registered.

        Raises:
            NotFound: it isn't; the message lists those that are.
        """
        ...

    def open_task(self, home: Home, settings: Settings, task: str) -> AbstractAsyncContextManager[Task]:
        """Open a task alone."""
        ...

    def open(
        self, home: Home, settings: Settings, store: Store, campaign: Campaign
    ) -> AbstractAsyncContextManager[Services]:
        """Open the services, and close them when the context ends."""
        ...


@dataclass
class LimitedBudget:
    """The limits of one campaign over the meter of its home."""

    store: Store
    campaign: str

    def __post_init__(self) -> None:
        # Only time in which somebody worked on the campaign counts, not time in which it waited for a person.
        self._before = float(str(self.store.campaigns.get(self.campaign).settings.get("active_seconds", 0.0)))
        self._since = time.monotonic()

    def check(self) -> None:
        """Return if the campaign may go on.

        Raises:
            BudgetExhausted: a limit is reached.
        """
        limits = self._limits()
        active = self._before + time.monotonic() - self._since
        if limits.seconds is not None:
            self.store.change_settings(self.campaign, {"active_seconds": active})
        self.store.meter.check(self.campaign, limits, started=time.time() - active)

    def left(self) -> BudgetLeft:
        """What may still be spent, limit by limit."""
        limits, spent = self._limits(), self.store.meter.spent(self.campaign)

        def rest(limit: float | None, used: float) -> float | None:
            return None if limit is None else max(0.0, limit - used)

        return BudgetLeft(
            tokens=rest(limits.tokens, spent.tokens),
            verifications=rest(limits.verifications, spent.verifications),
            training_steps=rest(limits.training_steps, spent.training_steps),
            usd=rest(limits.usd, spent.usd),
        )

    def _limits(self) -> Budget:
        return Budget.model_validate(self.store.campaigns.get(self.campaign).settings["budget"])


class LocalFactory:
    """The real services: the local model or the one at `settings.model_url`, a judge process, a sandbox.

    Args:
        sealed_seed: replaces the judge's random secret, so that runs in fresh homes repeat; the seal is then only as
            secret as this number. For demonstrations and tests.
        progress: is told what takes long at the start: fetching and converting the model, starting its server.
    """

    def __init__(self, sealed_seed: int | None = None, progress: Callable[[str], None] | None = None) -> None:
        self._sealed_seed = sealed_seed
        self._progress = progress

    def check_task(self, task: str) -> None:
        """Return if the task is registered.

        Raises:
            NotFound: it isn't.
        """
        if task not in task_names():
            raise NotFound(f"No task {task!r} is installed. There are: {', '.join(task_names()) or 'none'}.")

    def sandbox(self) -> Sandbox:
        """The strongest sandbox that this machine offers.

        Raises:
            SandboxUnavailable: none is strong enough.
        """
        from ..safety.sandbox import default_sandbox

        return default_sandbox()

    async def endpoint(self, home: Home, settings: Settings) -> Endpoint:
        """Where the policy is served; starts the local server where no other is named.

        Raises:
            ModelUnavailable: nothing useful answers there.
        """
        from ..serving.connect import connect

        return await connect(home, settings, self._progress)

    def feedback(self, endpoint: Endpoint) -> FeedbackAgent:
        """The measured rule; in front of it a language model, where the endpoint has a capable one."""
        from ..nodes.feedback_measured import MeasuredFeedback

        if endpoint.is_local:
            return MeasuredFeedback()
        from ..nodes.feedback_model import ModelFeedback
        from ..serving.chat import policy_chat

        return ModelFeedback(policy_chat(endpoint, endpoint.base_model, Sampling(temperature=0.0, max_tokens=4096)))

    def editor(self, endpoint: Endpoint) -> ScaffoldEditor:
        """The typed editor; in front of it a language model, where the endpoint has a capable one."""
        from ..nodes.editor_typed import TypedEditor

        if endpoint.is_local:
            return TypedEditor()
        from ..nodes.editor_model import ModelEditor
        from ..serving.chat import policy_chat

        return ModelEditor(policy_chat(endpoint, endpoint.base_model, Sampling(temperature=0.7, max_tokens=16384)))

    @asynccontextmanager
    async def open_task(self, home: Home, settings: Settings, task: str) -> AsyncGenerator[Task]:
        """Open a task with its own sandbox and cache of verifications."""
        opened = load_task(
            task, TaskEnvironment(sandbox=self.sandbox(), cache=home.verifications, workers=settings.workers)
        )
        try:
            yield opened
        finally:
            await opened.close()

    @asynccontextmanager
    async def open(self, home: Home, settings: Settings, store: Store, campaign: Campaign) -> AsyncGenerator[Services]:
        """Open everything; the local model server outlives this context, the judge does not."""
        from ..evals.judge_client import JudgeClient
        from ..serving.adapters import AdapterPublisher

        async with AsyncExitStack() as stack:
            sandbox = self.sandbox()
            endpoint = await self.endpoint(home, settings)
            task = load_task(
                campaign.task,
                TaskEnvironment(sandbox=sandbox, cache=home.verifications, workers=settings.workers),
            )
            stack.push_async_callback(task.close)
            rules = CampaignRules.model_validate(campaign.settings["rules"])
            sealed_seed = self._sealed_seed if rules.sealed_seed is None else rules.sealed_seed
            judge = await JudgeClient.start(home, settings, endpoint, sealed_seed=sealed_seed)
            stack.push_async_callback(judge.close)
            publisher = AdapterPublisher(endpoint, store.artifacts, home.adapters) if endpoint.is_local else None
            policy = _Policy(lambda: self.endpoint(home, settings), endpoint, judge, publisher)
            await stack.enter_async_context(policy.kept())
            trainer, base = await self._training(home, settings, sandbox, endpoint)
            yield Services(
                artifacts=store.artifacts,
                registry=store.registry,
                channels=store.channels,
                ledger=store.ledger,
                operations=store.operations,
                campaigns=store.campaigns,
                trajectories=store.trajectories,
                meter=store.meter,
                kill_switch=store.kill_switch,
                budget=LimitedBudget(store, campaign.id),
                task=task,
                rollouts=_rollouts(task, store, policy, sandbox, home.root / "work" / campaign.id),
                bootstrap=store.bootstrap,
                feedback=self.feedback(endpoint),
                editor=self.editor(endpoint),
                judge=judge,
                live_versions=store.live_versions,
                trainer=trainer,
                training_base=base,
                publisher=publisher,
                base_model=endpoint.base_model,
                capable=not endpoint.is_local,
            )

    async def _training(
        self, home: Home, settings: Settings, sandbox: Sandbox, endpoint: Endpoint
    ) -> "tuple[TrainerBackend | None, TrainingBase | None]":
        if not endpoint.is_local:
            return None, None
        from ..serving.weights import base_model
        from ..training.backend import LocalBackend

        files = await asyncio.to_thread(base_model, settings)
        base = TrainingBase(
            model_dir=str(files.path), model_name=files.name, adapters=str(home.adapters), threads=settings.threads
        )
        return LocalBackend(home.runs, sandbox), base


class _Policy:
    """Keeps the local server alive while a campaign runs, and everybody's address of it right."""

    def __init__(
        self,
        find: Callable[[], Awaitable[Endpoint]],
        endpoint: Endpoint,
        judge: "JudgeClient",
        publisher: "AdapterPublisher | None",
    ) -> None:
        self._find = find
        self._judge = judge
        self._publisher = publisher
        self.endpoint = endpoint

    async def serving(self, version: Version) -> Endpoint:
        """The endpoint, with the version's adapter loaded; a local server that died is started again."""
        if self.endpoint.is_local:
            await self._refresh()
        if version.adapter is not None and self._publisher is not None:
            await self._publisher.publish(version.adapter)
        return self.endpoint

    @asynccontextmanager
    async def kept(self) -> AsyncGenerator[None]:
        """Ask for the local server now and then, since it ends when nobody does."""

        async def ask() -> None:
            while True:
                await asyncio.sleep(KEEP_SECONDS)
                with suppress(PawlError):  # whoever needs it next will be told
                    await self._refresh()

        task = asyncio.create_task(ask()) if self.endpoint.is_local else None
        try:
            yield
        finally:
            if task is not None:
                task.cancel()

    async def _refresh(self) -> None:
        endpoint = await self._find()
        if endpoint != self.endpoint:
            self.endpoint = endpoint
            self._judge.use(endpoint)
            if self._publisher is not None:
                self._publisher.endpoint = endpoint


def _rollouts(
    task: Task,
    store: Store,
    policy: "_Policy",
    sandbox: Sandbox,
    work: Path,
) -> Rollouts:
    from ..evals.evaluate import rollout_of
    from ..serving.runner import run_rollouts

    async def roll_out(
        version: Version,
        items: Sequence[tuple[Item, int]],
        on_done: Callable[[Trajectory], None] | None = None,
    ) -> list[Trajectory]:
        endpoint = await policy.serving(version)
        rollouts = [rollout_of(version, task, item, seed) for item, seed in items]
        return await run_rollouts(
            rollouts, store=store.artifacts, endpoint=endpoint, sandbox=sandbox, work=work, on_done=on_done
        )

    return roll_out
