"""Everything of a home that is cheap to open: databases and artefacts, without model, judge or sandbox."""

import json
from collections.abc import Mapping

from pydantic import JsonValue
from sqlalchemy import select

from ..core import ArtifactStore, Database, Home, NotFound, Version
from ..release import (
    Campaigns,
    Channel,
    Channels,
    Decisions,
    KillSwitch,
    Ledger,
    Operations,
    Registry,
    TrajectoryIndex,
)
from ..release.campaigns import campaigns_table
from ..release.channels import channels_table
from ..release.decisions import requests_table
from ..safety.budget import Budget, Meter, Warnings


class Store:
    """The records of one home.

    Raises:
        HomeDamaged: the database can't be used.
    """

    def __init__(self, home: Home, database_url: str | None) -> None:
        self.db = Database(database_url) if database_url else Database.sqlite(home.database)
        self.db.create(home.left)
        self.artifacts = ArtifactStore(home.artifacts)
        self.registry = Registry(self.db, self.artifacts)
        self.channels = Channels(self.db)
        self.ledger = Ledger(self.db)
        self.operations = Operations(self.db)
        self.decisions = Decisions(self.db)
        self.campaigns = Campaigns(self.db)
        self.trajectories = TrajectoryIndex(self.db)
        self.kill_switch = KillSwitch(self.db)
        self.meter = Meter(self.db)
        self.warnings = Warnings(self.db)

    def close(self) -> None:
        """Give the connections back."""
        self.db.close()

    def next_name(self, task: str) -> str:
        """A free campaign id, such as `trimul-3`."""
        taken = {row.id for row in self.campaigns.all()}
        number = 1
        while f"{task}-{number}" in taken:
            number += 1
        return f"{task}-{number}"

    def live_versions(self) -> dict[str, Version]:
        """Every task that has a live version, and that version."""
        query = select(channels_table.c.task, channels_table.c.version).where(
            channels_table.c.channel == Channel.LIVE.value
        )
        with self.db.read() as connection:
            rows = connection.execute(query.order_by(channels_table.c.task)).all()
        return {row.task: self.registry.get(row.version, row.task).version for row in rows}

    def bootstrap(self, task: str, version: str, key: str) -> str:
        """Make a version live where the task has none; return which one is live."""
        pointer = self.channels.get(task, Channel.LIVE)
        if pointer is None:
            pointer = self.channels.move(
                task,
                Channel.LIVE,
                version,
                expected_epoch=0,
                key=key,
                reason="the first version of this task; nothing was live before",
                actor="rule:bootstrap",
            )
        return pointer.version

    def budget(self, campaign: str) -> Budget:
        """A campaign's limits."""
        return Budget.model_validate(self.campaigns.get(campaign).settings["budget"])

    def set_budget(self, campaign: str, budget: Budget) -> None:
        """Replace a campaign's limits."""
        self.change_settings(campaign, {"budget": budget.model_dump(mode="json")})

    def change_settings(self, campaign: str, changes: Mapping[str, JsonValue]) -> None:
        """Replace some of what a campaign was started with."""
        settings = {**self.campaigns.get(campaign).settings, **changes}
        with self.db.write() as connection:
            connection.execute(
                campaigns_table.update().where(campaigns_table.c.id == campaign).values(settings=settings)
            )

    def copy_rounds(self, source: str, target: str, before: int) -> None:
        """Give a fork the rounds that lie behind its starting point."""
        for number, record in self.campaigns.rounds(source).items():
            if number < before:
                self.campaigns.record_round(target, number, json.loads(json.dumps(record)))

    def full_request_id(self, campaign: str, prefix: str) -> str:
        """The id of a request that was asked at some time, decided or not, from its beginning.

        Raises:
            NotFound: nothing in this campaign begins so.
        """
        query = select(requests_table.c.interrupt_id).where(requests_table.c.thread == campaign)
        with self.db.read() as connection:
            known = [row.interrupt_id for row in connection.execute(query)]
        found = [each for each in known if prefix and each.startswith(prefix)]
        if len(found) != 1:
            waiting = ", ".join(each.interrupt_id[:8] for each in self.decisions.pending(campaign)) or "nothing"
            raise NotFound(f"Campaign {campaign} asked nothing with the id {prefix!r}. Waiting there: {waiting}.")
        return found[0]
