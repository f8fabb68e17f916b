"""What a campaign cost: by node, lever, model and round, in units that repeat and in dollars.

    report = cost_report(store, "trimul-1", metric)
    report.total.dollars == sum(line.dollars for line in report.nodes)      # likewise levers, models, rounds

Everything is a sum over the meter's events, so that each breakdown adds up to the total to the nano-dollar. A sealed
race counts at its fixed bill, since its cost would tell how long it ran; its true cost stands beside it after the
campaign's reveal.
"""

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

from pydantic import BaseModel, ConfigDict

from ..core import Usage
from ..evals.judge_wire import Reveal
from ..evals.races import Race
from ..evals.task import Metric
from ..nodes.decision import Lever
from ..nodes.rounds import RoundRow
from ..release import EventKind as Ledgered
from ..safety.budget import Charge, EventKind, Scope, UsageEvent, dollars
from ..safety.budget.accounts import balances
from ..safety.budget.clock import SystemClock, today
from ..safety.budget.limits import UNITS, Dimension, quantity
from ..safety.budget.meter import COUNTED
from .store import Store

SHARED = "shared"
"""Where steps go that belong to no lever: rollouts, grading, the diagnosis, the watch over what was promoted."""

NO_MODEL = "no model"
"""Where steps go that name no model: grading, training jobs, sealed races, the controller's own CPU time."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Line(_Frozen):
    """What one node, lever, model or round took."""

    of: str
    usage: Usage
    nano_dollars: int
    prices: list[str]
    """Versions of the price tables that the dollars rest on."""

    @property
    def dollars(self) -> Decimal:
        """US dollars, exactly."""
        return dollars(self.nano_dollars)


class Gain(_Frozen):
    """What a lever brought, over what was spent on pulling it."""

    lever: str
    pulled: int
    """Finished rounds that pulled it."""
    promoted: int
    """Those whose candidate was live at the round's end."""
    gain: float | None
    """Sum, over the promoted, of candidate minus live in the target race, in the metric's unit, more being better;
    none where nothing was promoted."""
    nano_dollars: int
    """All that was metered for the lever: making, racing and shadowing its candidates, promoted or not."""
    per_dollar: float | None
    """`gain` over those dollars; none where nothing was promoted, or where it cost no money."""


class SealedCost(_Frozen):
    """One sealed race: what it was billed at, and after the reveal what it really took."""

    round: int
    race: Race
    billed: Line
    true: Line | None
    """None until the reveal."""


class BudgetLine(_Frozen):
    """One limit, and what is left under it; amounts as texts for people, in the dimension's unit."""

    scope: Scope
    of: str
    """Which round, candidate or day."""
    dimension: Dimension
    unit: str
    limit: str
    settled: str
    reserved: str
    """Set aside for what is under way."""
    left: str
    used: float
    """Share of the limit that is settled or set aside; above 1 where hardware took more than was left."""


class CostReport(_Frozen):
    """The cost of one campaign."""

    campaign: str
    total: Line
    """All metered events, sealed races at their fixed bill."""
    lost: Line
    """The part of it that brought no result that was kept: lost leases, and what had to be done again."""
    losses: int
    """Events of that kind."""
    nodes: list[Line]
    levers: list[Line]
    models: list[Line]
    rounds: list[Line]
    gains: list[Gain]
    unit: str
    """Of a gain: the metric's name and unit."""
    sealed: list[SealedCost]
    revealed: bool
    """Whether the judge has revealed the campaign, so that sealed races show their true cost."""
    true_total: Line | None
    """The total with sealed races at their true cost; none until the reveal."""
    budgets: list[BudgetLine]
    """Every limit that is set, for the campaign, its latest round and candidate, and the home's day."""


def cost_report(store: Store, campaign: str, metric: Metric | None) -> CostReport:
    """The cost of a campaign as it stands.

    Args:
        store: records of the home.
        campaign: its id.
        metric: of its task; none where that isn't installed here, and then a gain has no direction and is left out.

    Raises:
        NotFound: there is no such campaign.
    """
    store.campaigns.get(campaign)
    events = store.meter.events(campaign)
    counted = [event for event in events if event.kind in COUNTED]
    lost = [event for event in counted if event.kind is EventKind.LOST]
    rows = [RoundRow.model_validate(each) for each in store.campaigns.rounds(campaign).values()]
    here = {event.round for event in counted}
    own = [row for row in rows if row.round in here]  # a fork has rows of rounds that another campaign paid for
    levers = _lines(counted, lambda event: event.lever or SHARED)
    true = [event for event in events if event.kind is EventKind.SEALED]
    kept = [event for event in counted if event.kind is not EventKind.BILL]
    return CostReport(
        campaign=campaign,
        total=_line("total", counted),
        lost=_line("lost", lost),
        losses=len(lost),
        nodes=_lines(counted, lambda event: event.node),
        levers=levers,
        models=_lines(counted, lambda event: event.model or NO_MODEL),
        rounds=sorted(_lines(counted, lambda event: str(event.round)), key=lambda line: int(line.of)),
        gains=[_gain(lever, own, levers, metric) for lever in (Lever.SCAFFOLD, Lever.WEIGHTS)],
        unit=f"{metric.name}{f' ({metric.unit})' if metric.unit else ''}" if metric is not None else "",
        sealed=_sealed(events),
        revealed=any(event.kind == Ledgered.CAMPAIGN_REVEALED for event in store.ledger.events(campaign)),
        true_total=_line("total", [*kept, *true]) if true else None,
        budgets=_budgets(store, campaign, max((event.round for event in events), default=0)),
    )


def shown(nano_dollars: int) -> str:
    """Dollars for people, with so many decimals that the shown parts of a sum add up to the cent."""
    amount = dollars(nano_dollars)
    return f"${amount:,.4f}" if abs(amount) >= 1 else f"${amount:.6f}"


def find_reveal(store: Store, campaign: str) -> Reveal | None:
    """What the judge revealed of a campaign, or none before its end.

    Raises:
        ArtifactMissing: the stored reveal is gone.
        ArtifactDamaged: it was changed.
    """
    for event in store.ledger.events(campaign):
        if event.kind == Ledgered.CAMPAIGN_REVEALED:
            return Reveal.model_validate(store.artifacts.get_json(str(event.body["reveal"])))
    return None


def _gain(lever: Lever, rows: Sequence[RoundRow], lines: Sequence[Line], metric: Metric | None) -> Gain:
    pulled = [row for row in rows if row.decision.lever is lever]
    promoted = [row for row in pulled if row.promoted]
    gains: list[float] = []
    for row in promoted:
        target = row.races[0] if row.races else None
        if metric is not None and target is not None and target.before is not None and target.after is not None:
            gains.append(metric.signed(target.after) - metric.signed(target.before))
    gain = sum(gains) if gains else None
    spent = sum(line.nano_dollars for line in lines if line.of == lever)
    return Gain(
        lever=lever,
        pulled=len(pulled),
        promoted=len(promoted),
        gain=gain,
        nano_dollars=spent,
        per_dollar=gain / float(dollars(spent)) if gain is not None and spent > 0 else None,
    )


def _sealed(events: Sequence[UsageEvent]) -> list[SealedCost]:
    """Sealed races as they were run; a race's true cost is metered under a key that begins with its bill's."""
    true = [event for event in events if event.kind is EventKind.SEALED]
    found: list[SealedCost] = []
    for bill in (event for event in events if event.kind is EventKind.BILL):
        race = next((race for race in Race if f"gauntlet.{race.value}/" in bill.key), None)
        if race is not None:
            known = [event for event in true if event.key.startswith(bill.key)]
            found.append(
                SealedCost(
                    round=bill.round,
                    race=race,
                    billed=_line("billed", [bill]),
                    true=_line("true", known) if known else None,
                )
            )
    return sorted(found, key=lambda each: (each.round, list(Race).index(each.race)))


def _budgets(store: Store, campaign: str, latest: int) -> list[BudgetLine]:
    budget = store.budget(campaign)
    with store.db.write() as connection:
        accounts = Charge(campaign, latest, "", candidate="").accounts(today(connection, SystemClock()))
        found = balances(connection, accounts.values())
    lines: list[BudgetLine] = []
    for scope in (Scope.CAMPAIGN, Scope.ROUND, Scope.CANDIDATE, Scope.DAY):
        limits, balance = budget.of(scope), found[accounts[scope]]
        for dimension, room in balance.room(limits).items():
            most = limits.most(dimension) or 0
            lines.append(
                BudgetLine(
                    scope=scope,
                    of=accounts[scope].partition("/")[2],
                    dimension=dimension,
                    unit=UNITS[dimension],
                    limit=quantity(dimension, most),
                    settled=quantity(dimension, balance.settled.of(dimension)),
                    reserved=quantity(dimension, balance.reserved.of(dimension)),
                    left=quantity(dimension, max(0, room)),
                    used=(most - room) / most if most else 1.0,
                )
            )
    return lines


def _lines(events: Iterable[UsageEvent], of: Callable[[UsageEvent], str]) -> list[Line]:
    """A line for each name, the dearest first."""
    parts: dict[str, list[UsageEvent]] = {}
    for event in events:
        parts.setdefault(of(event), []).append(event)
    lines = [_line(name, members) for name, members in parts.items()]
    return sorted(lines, key=lambda line: (-line.nano_dollars, -line.usage.tokens, line.of))


def _line(of: str, events: Sequence[UsageEvent]) -> Line:
    return Line(
        of=of,
        usage=sum((event.usage for event in events), Usage()),
        nano_dollars=sum(event.nano_dollars for event in events),
        prices=sorted({event.prices for event in events if event.prices}),
    )
