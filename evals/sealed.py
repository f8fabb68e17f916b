"""The judge's own store: secrets, races, the account, and the trajectories of sealed items, in `home/judge/`.

Nothing but the judge's process opens it. A race is entered, and so debited, before its first rollout; its rollouts
are kept a batch at a time, and its outcome once: whatever kills the judge between, the same key goes on where it was.
"""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue
from sqlalchemy import Column, Integer, MetaData, Row, String, Table, Text, UniqueConstraint, func, select

from ..core import AccountExhausted, CampaignFinished, Conflict, Database, NotFound, Trajectory, Usage, digest_json
from .judge_wire import Commitment, CommitRequest, RaceRequest, RaceResult, Reveal, RevealedRace
from .races import Outcome, Race, RaceRules
from .statistics import alpha_of_race

BITS_OF_OUTCOME = math.log2(len(Outcome))

_metadata = MetaData()
_home = Table("home", _metadata, Column("secret", String, nullable=False))
_campaigns = Table(
    "campaigns",
    _metadata,
    Column("campaign", String, primary_key=True),
    Column("request", Text, nullable=False),
    Column("secret", String, nullable=False),
    Column("revealed", Integer, nullable=False),
)
_races = Table(
    "races",
    _metadata,
    Column("key", String, primary_key=True),
    Column("campaign", String, nullable=False),
    Column("race", String, nullable=False),
    Column("number", Integer, nullable=False),
    Column("candidate", String, nullable=False),
    Column("request", Text, nullable=False),
    Column("outcome", String),
    Column("evidence", Text),
    Column("usage", Text),
    UniqueConstraint("campaign", "race", "number"),
)
_batches = Table(
    "batches",
    _metadata,
    Column("digest", String, primary_key=True),
    Column("trajectories", Text, nullable=False),
)


class SealedCampaign(BaseModel):
    """A campaign as the judge knows it."""

    model_config = ConfigDict(frozen=True)

    request: CommitRequest
    secret: str
    revealed: bool

    @property
    def rules(self) -> RaceRules:
        """The rules that were committed to."""
        return self.request.rules

    @property
    def seed(self) -> int:
        """The seed of everything sealed."""
        return int(self.secret, 16)

    @property
    def commitment(self) -> Commitment:
        """What the judge is bound to."""
        bound = {**self.request.model_dump(mode="json"), "secret": self.secret}
        return Commitment(
            campaign=self.request.campaign, task=self.request.task, digest=digest_json(bound), rules=self.rules
        )


class EnteredRace(BaseModel):
    """A race that is in the account, decided or not."""

    model_config = ConfigDict(frozen=True)

    request: RaceRequest
    number: int
    """Its number among the campaign's races of its kind, from 1."""
    outcome: Outcome | None = None
    evidence: JsonValue = None
    usage: Usage = Usage()

    def result(self, rules: RaceRules) -> RaceResult:
        """What leaves the judge."""
        assert self.outcome is not None
        holdout = self.request.race is Race.HOLDOUT
        return RaceResult(
            key=self.request.key,
            race=self.request.race,
            outcome=self.outcome,
            bits=BITS_OF_OUTCOME,
            alpha=alpha_of_race(rules.alpha, self.number) if holdout else 0.0,
            bill=fixed_bill(self.request, rules),
            evidence=digest_json({"evidence": self.evidence}),
        )


def fixed_bill(request: RaceRequest, rules: RaceRules) -> Usage:
    """What a race is billed: its rollouts, were it to take every look, at the rules' price of one."""
    if request.race is Race.HOLDOUT:
        rollouts = 2 * rules.looks * (rules.holdout + rules.regression * (1 + len(request.others)))
    else:
        rollouts = 2 * rules.adversarial
    one = rules.rollout_bill
    return Usage(
        input_tokens=one.input_tokens * rollouts,
        output_tokens=one.output_tokens * rollouts,
        verifications=one.verifications * rollouts,
        cpu_seconds=one.cpu_seconds * rollouts,
        gpu_seconds=one.gpu_seconds * rollouts,
    )


class SealedStore:
    """Everything the judge must remember."""

    def __init__(self, folder: Path, sealed_seed: int | None = None) -> None:
        """Open or create the store.

        Args:
            folder: the judge's folder, which only its user may read.
            sealed_seed: replaces the folder's random secret.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        self._db = Database.sqlite(folder / "judge.sqlite")
        with self._db.write() as connection:
            _metadata.create_all(connection)
            secret = connection.execute(select(_home.c.secret)).scalar()
            if secret is None:
                secret = os.urandom(32).hex()
                connection.execute(_home.insert().values(secret=secret))
        self._secret = secret if sealed_seed is None else digest_json(["sealed", sealed_seed])

    def commit(self, request: CommitRequest) -> Commitment:
        """Fix a campaign; again with the same request changes nothing.

        Raises:
            Conflict: the campaign was committed to with another task, seed or rules.
        """
        text = request.model_dump_json()
        secret = digest_json([self._secret, request.campaign, request.task, request.seed])
        with self._db.write() as connection:
            found = connection.execute(
                select(_campaigns.c.request).where(_campaigns.c.campaign == request.campaign)
            ).scalar()
            if found is None:
                connection.execute(
                    _campaigns.insert().values(campaign=request.campaign, request=text, secret=secret, revealed=0)
                )
            elif CommitRequest.model_validate_json(found) != request:
                raise Conflict(
                    f"The campaign {request.campaign} is committed to another task, seed or rules; a commitment "
                    "can't be changed. Start a new campaign."
                )
        return self.campaign(request.campaign).commitment

    def campaign(self, name: str) -> SealedCampaign:
        """Look a campaign up.

        Raises:
            NotFound: the judge has no commitment to it.
        """
        with self._db.read() as connection:
            row = connection.execute(select(_campaigns).where(_campaigns.c.campaign == name)).one_or_none()
        if row is None:
            raise NotFound(f"The judge has no commitment to a campaign {name!r}; commit before the first race.")
        return SealedCampaign(
            request=CommitRequest.model_validate_json(row.request), secret=row.secret, revealed=bool(row.revealed)
        )

    def enter(self, request: RaceRequest) -> EnteredRace:
        """Enter a race into the account, or find it there.

        Raises:
            Conflict: the key was used for another comparison.
            CampaignFinished: the campaign's secrets are out.
            AccountExhausted: the campaign has learnt all the bits that it may.
        """
        campaign = self.campaign(request.campaign)
        with self._db.write() as connection:
            row = connection.execute(select(_races).where(_races.c.key == request.key)).one_or_none()
            if row is not None:
                found = _entered(row)
                if found.request != request:
                    raise Conflict(f"The race {request.key} was another comparison; use a key of its own for each.")
                return found
            if campaign.revealed:
                raise CampaignFinished(f"The campaign {request.campaign} is revealed: its sealed items are spent.")
            mine = select(func.count()).select_from(_races).where(_races.c.campaign == request.campaign)
            count = int(connection.execute(mine).scalar_one())
            if (count + 1) * BITS_OF_OUTCOME > campaign.rules.bits:
                raise AccountExhausted(
                    f"The campaign {request.campaign} has run {count} sealed races; its account of "
                    f"{campaign.rules.bits:g} bits has no room for another. Start a new campaign, with fresh items."
                )
            number = int(connection.execute(mine.where(_races.c.race == request.race.value)).scalar_one()) + 1
            connection.execute(
                _races.insert().values(
                    key=request.key,
                    campaign=request.campaign,
                    race=request.race.value,
                    number=number,
                    candidate=request.candidate.id,
                    request=request.model_dump_json(),
                )
            )
        return EnteredRace(request=request, number=number)

    def decide(self, key: str, outcome: Outcome, evidence: JsonValue, usage: Usage) -> EnteredRace:
        """Write an outcome with its evidence; the first one written stands."""
        with self._db.write() as connection:
            connection.execute(
                _races.update()
                .where(_races.c.key == key, _races.c.outcome.is_(None))
                .values(outcome=outcome.value, evidence=json.dumps(evidence), usage=usage.model_dump_json())
            )
            return _entered(connection.execute(select(_races).where(_races.c.key == key)).one())

    def races(self, campaign: str, candidate: str | None = None) -> list[EnteredRace]:
        """The campaign's races, or those of one candidate, in the order in which they were entered."""
        query = select(_races).where(_races.c.campaign == campaign)
        if candidate is not None:
            query = query.where(_races.c.candidate == candidate)
        with self._db.read() as connection:
            rows = connection.execute(query.order_by(_races.c.number, _races.c.race.desc())).all()
        return [_entered(row) for row in rows]

    def batch(self, digest: str) -> list[Trajectory] | None:
        """A batch of graded trajectories, if it was kept."""
        with self._db.read() as connection:
            text = connection.execute(
                select(_batches.c.trajectories).where(_batches.c.digest == digest)
            ).scalar_one_or_none()
        return None if text is None else [Trajectory.model_validate(each) for each in json.loads(text)]

    def keep_batch(self, digest: str, trajectories: Sequence[Trajectory]) -> None:
        """Keep a batch of graded trajectories."""
        text = json.dumps([each.model_dump(mode="json") for each in trajectories])
        with self._db.write() as connection:
            if connection.execute(select(_batches.c.digest).where(_batches.c.digest == digest)).first() is None:
                connection.execute(_batches.insert().values(digest=digest, trajectories=text))

    def reveal(self, name: str) -> Reveal:
        """Open a campaign: its secret and all evidence. No race of it can be entered from here on."""
        with self._db.write() as connection:
            connection.execute(_campaigns.update().where(_campaigns.c.campaign == name).values(revealed=1))
        campaign = self.campaign(name)
        return Reveal(
            campaign=name,
            task=campaign.request.task,
            seed=campaign.request.seed,
            secret=campaign.secret,
            commitment=campaign.commitment,
            races=[
                RevealedRace(
                    key=race.request.key, result=race.result(campaign.rules), evidence=race.evidence, usage=race.usage
                )
                for race in self.races(name)
                if race.outcome is not None
            ],
        )

    def close(self) -> None:
        """Give the database back."""
        self._db.close()


def _entered(row: Row[Any]) -> EnteredRace:
    return EnteredRace(
        request=RaceRequest.model_validate_json(row.request),
        number=row.number,
        outcome=Outcome(row.outcome) if row.outcome else None,
        evidence=json.loads(row.evidence) if row.evidence else None,
        usage=Usage.model_validate_json(row.usage) if row.usage else Usage(),
    )
