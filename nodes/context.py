"""The services that nodes call, and the narrowing that gives each node only what its spec declares."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol, cast

from ..core import ArtifactStore, ConfigurationError, Trajectory, Usage, Version
from ..evals.task import Item, Task
from ..release import Campaigns, Channels, KillSwitch, Lease, Ledger, Operations, Registry, TrajectoryIndex
from ..safety.budget import BudgetWarning, Charge, EventKind, Meter, Prepaid, Scope
from .evidence import BudgetLeft

if TYPE_CHECKING:
    from ..evals.judge_client import JudgeClient
    from ..safety.telemetry.telemetry import Telemetry
    from ..serving.adapters import AdapterPublisher
    from ..training.backend import TrainerBackend
    from .editor import ScaffoldEditor
    from .feedback import FeedbackAgent


class Rollouts(Protocol):
    """Runs a version on visible items and returns ungraded trajectories, in the order of the items."""

    async def __call__(
        self,
        version: Version,
        items: Sequence[tuple[Item, int]],
        on_done: Callable[[Trajectory], None] | None = None,
    ) -> list[Trajectory]:
        """Run `version` on each (item, rollout seed)."""
        ...


class Bootstrap(Protocol):
    """Makes a version live where its task has no live version yet, and answers which one is live."""

    def __call__(self, task: str, version: str, key: str) -> str:
        """Return the id of the version that is live after the call."""
        ...


class CampaignBudget(Protocol):
    """The limits of the campaign that is run."""

    def check(self, charge: Charge, scopes: Collection[Scope] = tuple(Scope)) -> None:
        """Return if the campaign may go on.

        Raises:
            LimitReached: a limit of one of the scopes is reached.
        """
        ...

    def charging(
        self, charge: Charge, operation: str, scopes: Collection[Scope] = tuple(Scope)
    ) -> AbstractContextManager[Prepaid]:
        """Pay for the model calls of a block, under the limits of some scopes; it comes to one event."""
        ...

    def hold(self, charge: Charge, operation: str, most: Usage, scopes: Collection[Scope] = tuple(Scope)) -> None:
        """Set aside what a thing that outlives processes takes at most; once, however often this is called.

        Raises:
            LimitReached: there is not so much left.
        """
        ...

    def settle(self, charge: Charge, operation: str, usage: Usage, kind: EventKind = EventKind.USED) -> None:
        """Count what it took, or what it is billed at, and free the rest; once, however often this is called."""
        ...

    def warnings(self) -> list[BudgetWarning]:
        """Limits of which 80 % are spent, and which nobody has been told of yet; call `told` with each."""
        ...

    def told(self, warning: BudgetWarning) -> None:
        """Take note that a warning is in the ledger."""
        ...

    def left(self) -> BudgetLeft:
        """What may still be spent."""
        ...


@dataclass(frozen=True)
class TrainingBase:
    """What a training job starts from."""

    model_dir: str
    """Folder of the base model's weights."""
    model_name: str
    adapters: str
    """Folder where adapters are checked out to, by digest."""
    threads: int
    digest: str = ""
    """Tells these weights from others."""


@dataclass(frozen=True)
class Services:
    """Everything a campaign runs on. Not part of the state: a process that resumes brings its own."""

    artifacts: ArtifactStore
    registry: Registry
    channels: Channels
    ledger: Ledger
    operations: Operations
    campaigns: Campaigns
    trajectories: TrajectoryIndex
    meter: Meter
    kill_switch: KillSwitch
    budget: "CampaignBudget"
    task: Task
    rollouts: Rollouts
    bootstrap: Bootstrap
    feedback: "FeedbackAgent"
    editor: "ScaffoldEditor"
    judge: "JudgeClient"
    live_versions: Callable[[], Mapping[str, Version]]
    """Every task that has a live version in this home, and that version."""
    trainer: "TrainerBackend | None" = None
    """None where the endpoint takes no adapters: the weights lever is then out of reach."""
    training_base: TrainingBase | None = None
    publisher: "AdapterPublisher | None" = None
    parity: Callable[[], Awaitable[None]] | None = None
    """Compares the server with the trainer, unless that was done before; raises ConfigurationError where they mean
    other things. None where nothing is trained."""
    base_model: str = ""
    capable: bool = False
    """Whether the model can write free text and code."""
    telemetry: "Telemetry | None" = None
    """For the guard around the nodes; what a node tells, it tells by `safety.telemetry.span`."""
    lease: Lease | None = None
    """The right to run the campaign, which the guard asks about."""


OPEN = frozenset({"base_model", "capable", "training_base"})
"""Plain facts that every node may read."""


def narrow(services: Services, node: str, needs: Iterable[str]) -> Services:
    """A view of the services that answers only what `needs` names.

    Raises:
        ConfigurationError: from the view, when the node touches a service that its spec doesn't declare.
    """
    allowed = OPEN | {str(need) for need in needs}
    known = {field.name for field in fields(Services)}

    class Narrowed:
        def __getattr__(self, name: str) -> Any:
            if name in allowed:
                return getattr(services, name)
            if name in known:
                raise ConfigurationError(
                    f"The node {node!r} used context.{name}, which its NodeSpec does not declare. "
                    f"Add it to `needs`; declared are: {', '.join(sorted(allowed - OPEN)) or 'none'}."
                )
            raise AttributeError(name)

    return cast(Services, Narrowed())
