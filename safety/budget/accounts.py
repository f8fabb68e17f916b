"""Accounts: what is settled and what is set aside, by scope and dimension, in one transaction over nested scopes.

An account holds `settled + reserved <= limit` for each limit that whoever reserves brings along: a limit belongs to
the campaign that it was given to, while the account of a day is shared by all campaigns of the home.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import BigInteger, Column, Connection, Integer, String, Table, select

from ...core import Database
from ...core.database import metadata
from ...core.tables import insert_new
from ..telemetry import measure, names
from .limits import Amount, Budget, Dimension, Limits, Scope, reached

accounts_table = Table(
    "budget_accounts",
    metadata,
    Column("account", String, primary_key=True),
    Column("dimension", String, primary_key=True),
    Column("settled", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
)

warnings_table = Table(
    "budget_warnings",
    metadata,
    Column("account", String, primary_key=True),
    Column("dimension", String, primary_key=True),
    Column("most", BigInteger, primary_key=True, autoincrement=False),
    Column("campaign", String, nullable=False),
    Column("scope", String, nullable=False),
    Column("settled", BigInteger, nullable=False),
    Column("told", Integer, nullable=False),
)

WARN_PERCENT = 80


@dataclass(frozen=True)
class Charge:
    """For what something is spent."""

    campaign: str
    round: int
    node: str
    lever: str | None = None
    model: str | None = None
    candidate: str | None = None
    """The version that it is spent on; empty while that is still being made, none where it is for no candidate."""

    def accounts(self, day: str) -> dict[Scope, str]:
        """The accounts that pay, the widest last."""
        accounts = {
            Scope.CANDIDATE: f"candidate/{self.campaign}/{self.round}",
            Scope.ROUND: f"round/{self.campaign}/{self.round}",
            Scope.CAMPAIGN: f"campaign/{self.campaign}",
            Scope.DAY: f"day/{day}",
        }
        if self.candidate is None:
            del accounts[Scope.CANDIDATE]
        return accounts


@dataclass(frozen=True)
class Balance:
    """The state of one account."""

    settled: Amount = Amount()
    reserved: Amount = Amount()

    def room(self, limits: Limits) -> dict[Dimension, int]:
        """What is left under each limit; less than nothing where hardware took more than was left."""
        return {
            dimension: most - self.settled.of(dimension) - self.reserved.of(dimension)
            for dimension in Dimension
            if (most := limits.most(dimension)) is not None
        }


@dataclass(frozen=True)
class BudgetWarning:
    """A limit of which 80 % are spent; told once for each limit of each account."""

    campaign: str
    account: str
    scope: Scope
    dimension: Dimension
    settled: int
    limit: int


def balances(connection: Connection, accounts: Iterable[str]) -> dict[str, Balance]:
    """The state of accounts; one that nothing was spent from yet is empty."""
    names = list(accounts)
    c = accounts_table.c
    settled: dict[str, dict[str, int]] = {name: {} for name in names}
    reserved: dict[str, dict[str, int]] = {name: {} for name in names}
    for row in connection.execute(select(accounts_table).where(c.account.in_(names))):
        settled[row.account][row.dimension] = row.settled
        reserved[row.account][row.dimension] = row.reserved
    return {name: Balance(Amount(**settled[name]), Amount(**reserved[name])) for name in names}


def move(connection: Connection, accounts: Iterable[str], settled: Amount, reserved: Amount) -> None:
    """Change what is settled and what is set aside, in every one of the accounts."""
    if connection.dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert
    else:
        from sqlalchemy.dialects.postgresql import insert
    rows = [
        {
            "account": account,
            "dimension": dimension.value,
            "settled": settled.of(dimension),
            "reserved": reserved.of(dimension),
        }
        for account in accounts
        for dimension in Dimension
        if settled.of(dimension) or reserved.of(dimension)
    ]
    if not rows:
        return
    statement = insert(accounts_table)
    c, new = accounts_table.c, statement.excluded
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[c.account, c.dimension],
            set_={"settled": c.settled + new.settled, "reserved": c.reserved + new.reserved},
        ),
        rows,
    )


def whose(charge: Charge, scope: Scope, day: str) -> str:
    """What a budget belongs to, for people."""
    return {
        Scope.CAMPAIGN: f"Campaign {charge.campaign}",
        Scope.ROUND: f"Round {charge.round} of campaign {charge.campaign}",
        Scope.CANDIDATE: f"The candidate of round {charge.round} of campaign {charge.campaign}",
        Scope.DAY: f"The day {day} of this home",
    }[scope]


def require(
    connection: Connection, charge: Charge, day: str, budget: Budget, wanted: Amount, scopes: Iterable[Scope]
) -> None:
    """Return if every scope has room for an amount; for none, if nothing of a limit has been reached.

    Raises:
        LimitReached: one hasn't.
    """
    accounts = charge.accounts(day)
    watched = [scope for scope in scopes if scope in accounts and budget.of(scope).any_limit]
    found = balances(connection, [accounts[scope] for scope in watched]) if watched else {}
    for scope in watched:
        balance, limits = found[accounts[scope]], budget.of(scope)
        for dimension, room in balance.room(limits).items():
            need = wanted.of(dimension)
            reserved = balance.reserved.of(dimension)
            if room < need if need else wanted == Amount() and room + reserved <= 0:
                raise reached(
                    charge.campaign,
                    scope,
                    whose(charge, scope, day),
                    dimension,
                    settled=balance.settled.of(dimension),
                    reserved=reserved,
                    limit=limits.most(dimension) or 0,
                    wanted=need,
                )


def nearly_spent(connection: Connection, charge: Charge, day: str, budget: Budget) -> list[BudgetWarning]:
    """Every limit of which 80 % are settled, whether or not anybody was told."""
    accounts = charge.accounts(day)
    watched = {scope: limits for scope in accounts if (limits := budget.of(scope)).any_limit}
    found = balances(connection, [accounts[scope] for scope in watched]) if watched else {}
    near: list[BudgetWarning] = []
    for scope, limits in watched.items():
        account = accounts[scope]
        for dimension in Dimension:
            most, settled = limits.most(dimension), found[account].settled.of(dimension)
            if most:
                measure(names.BUDGET_USED, settled / most, {names.SCOPE_OF_LIMIT: scope, names.LIMIT: dimension})
            if most is not None and settled and settled * 100 >= most * WARN_PERCENT:
                near.append(BudgetWarning(charge.campaign, account, scope, dimension, settled, most))
    return near


def warn(connection: Connection, charge: Charge, day: str, budget: Budget) -> None:
    """Note every limit of which 80 % are settled, once."""
    for each in nearly_spent(connection, charge, day, budget):
        insert_new(
            connection,
            warnings_table,
            {
                "account": each.account,
                "dimension": each.dimension.value,
                "most": each.limit,
                "campaign": each.campaign,
                "scope": each.scope.value,
                "settled": each.settled,
                "told": 0,
            },
        )


class Warnings:
    """The warnings of one database."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def untold(self, campaign: str) -> list[BudgetWarning]:
        """What nobody has been told yet."""
        c = warnings_table.c
        query = select(warnings_table).where(c.campaign == campaign, c.told == 0).order_by(c.account, c.dimension)
        with self._db.read() as connection:
            return [
                BudgetWarning(
                    campaign=row.campaign,
                    account=row.account,
                    scope=Scope(row.scope),
                    dimension=Dimension(row.dimension),
                    settled=row.settled,
                    limit=row.most,
                )
                for row in connection.execute(query)
            ]

    def tell(self, warning: BudgetWarning) -> None:
        """Take note that it was told."""
        c = warnings_table.c
        with self._db.write() as connection:
            connection.execute(
                warnings_table.update()
                .where(c.account == warning.account, c.dimension == warning.dimension.value, c.most == warning.limit)
                .values(told=1)
            )
