"""What a campaign runs on, put together: model server, judge, sandbox, task, trainer, feedback agent, editor.

`LocalFactory` opens the real ones, lazily, since looking at a home needs none of them. Give `Session` another
factory to swap a part:

    class MyFactory(LocalFactory):
        def feedback(self, endpoint): return MyFeedbackAgent()
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..core import Home, NotFound, PawlError, Sampling, Settings, Trajectory, Usage, Version
from ..evals.registry import TaskEnvironment, load_task, task_names
from ..evals.task import Item, Task
from ..nodes.context import Rollouts, Services, TrainingBase
from ..nodes.editor import ScaffoldEditor
from ..nodes.feedback import FeedbackAgent
from ..nodes.state import CampaignRules
from ..release import Campaign
from ..safety.budget import Meter, current_spending, prices_of
from ..safety.sandbox import Sandbox
from ..serving.policy import Endpoint
from .budget import LimitedBudget
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
        from .parity import Parity

        async with AsyncExitStack() as stack:
            sandbox = self.sandbox()
            endpoint = await self.endpoint(home, settings)
            own = endpoint.is_local or settings.gpus > 0
            prices = prices_of(settings, endpoint.base_model, own_hardware=own)
            budget = LimitedBudget(store, campaign.id, prices, gpus=settings.gpus)
            stack.callback(budget.close)
            task = load_task(
                campaign.task,
                TaskEnvironment(sandbox=sandbox, cache=home.verifications, workers=settings.workers),
            )
            stack.push_async_callback(task.close)
            rules = CampaignRules.model_validate(campaign.settings["rules"])
            sealed_seed = self._sealed_seed if rules.sealed_seed is None else rules.sealed_seed
            judge = JudgeClient(home, settings, endpoint, sealed_seed=sealed_seed)
            stack.push_async_callback(judge.close)
            training = await self._training(home, settings, sandbox, endpoint)
            publisher = parity = None
            if training is not None:
                folder = home.served("" if endpoint.is_local else endpoint.base_url)
                publisher = AdapterPublisher(endpoint, store.artifacts, folder, settings.adapter_slots)
                parity = Parity(publisher, sandbox, training[1], rules.training, home, settings)
                if not endpoint.is_local:  # before anything is spent
                    await parity.check(self._progress)
            policy = _Policy(lambda: self.endpoint(home, settings), endpoint, judge, publisher)
            await stack.enter_async_context(policy.kept())
            yield Services(
                artifacts=store.artifacts,
                registry=store.registry,
                channels=store.channels,
                ledger=store.ledger,
                operations=store.operations,
                campaigns=store.campaigns,
                trajectories=store.trajectories,
                meter=Meter(store.db, prices),
                kill_switch=store.kill_switch,
                budget=budget,
                task=task,
                rollouts=_rollouts(
                    task,
                    store,
                    policy,
                    sandbox,
                    home.root / "work" / campaign.id,
                    rules.races.rollout_bill,
                ),
                bootstrap=store.bootstrap,
                feedback=self.feedback(endpoint),
                editor=self.editor(endpoint),
                judge=judge,
                live_versions=store.live_versions,
                trainer=training[0] if training is not None else None,
                training_base=training[1] if training is not None else None,
                publisher=publisher,
                parity=parity.check if parity is not None else None,
                base_model=endpoint.base_model,
                capable=not endpoint.is_local,
            )

    async def _training(
        self, home: Home, settings: Settings, sandbox: Sandbox, endpoint: Endpoint
    ) -> "tuple[TrainerBackend, TrainingBase] | None":
        """Who trains, and from what; none where nobody knows the weights that the endpoint serves."""
        if not endpoint.is_local and settings.model_dir is None:
            return None
        from ..serving.weights import base_model, check_model
        from ..training.attempt import default_limits
        from ..training.backends import LocalBackend, RayBackend
        from .parity import fingerprint

        if endpoint.is_local:
            files = await asyncio.to_thread(base_model, settings)
            folder, digest = files.path, files.digest
        else:
            assert settings.model_dir is not None
            folder = check_model(settings.model_dir)
            digest = fingerprint(folder)
        base = TrainingBase(
            model_dir=str(folder),
            model_name=endpoint.base_model,
            adapters=str(home.adapters),
            threads=settings.threads,
            digest=digest,
        )
        limits = default_limits(settings.trainer_seconds, settings.threads)
        if settings.ray_address is not None:
            return RayBackend(home.runs, settings.ray_address, limits, gpus=settings.ray_gpus), base
        return LocalBackend(home.runs, sandbox, limits), base


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

    @asynccontextmanager
    async def serving(self, version: Version) -> AsyncGenerator[Endpoint]:
        """The endpoint, with the version's adapter leased; a local server that died is started again."""
        if self.endpoint.is_local:
            await self._refresh()
        async with AsyncExitStack() as stack:
            if version.adapter is not None and self._publisher is not None:
                await stack.enter_async_context(self._publisher.leased(version.adapter))
            yield self.endpoint

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
                await self._publisher.restore()


def _rollouts(
    task: Task,
    store: Store,
    policy: "_Policy",
    sandbox: Sandbox,
    work: Path,
    bill: Usage,
) -> Rollouts:
    from ..evals.bills import timed_limits
    from ..evals.evaluate import rollout_of
    from ..serving.runner import run_rollouts

    async def roll_out(
        version: Version,
        items: Sequence[tuple[Item, int]],
        on_done: Callable[[Trajectory], None] | None = None,
    ) -> list[Trajectory]:
        rollouts = [rollout_of(version, task, item, seed) for item, seed in items]
        async with policy.serving(version) as endpoint:
            return await run_rollouts(
                rollouts,
                store=store.artifacts,
                endpoint=endpoint,
                sandbox=sandbox,
                work=work,
                limits=timed_limits(bill),
                on_done=on_done,
                spending=current_spending(),
            )

    return roll_out
