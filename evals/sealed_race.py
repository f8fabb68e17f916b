"""How the judge runs a sealed race: fresh items, paired rollouts of candidate and live, one outcome, its evidence."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from pydantic import JsonValue

from ..core import (
    ArtifactStore,
    ModelUnavailable,
    RolloutStop,
    Trajectory,
    Usage,
    Version,
    derive_seed,
    digest_json,
    faults,
)
from ..safety.sandbox import Sandbox
from ..serving.policy import Endpoint
from .bills import billed_limits
from .evaluate import Attempt, evaluate, rollout_seed
from .races import Effect, Guard, Outcome, Race, Verdict, adversarial_race, holdout_race, paired_effects
from .sealed import EnteredRace, SealedCampaign, SealedStore
from .statistics import alpha_of_race
from .task import Cheat, Item, Split, Task

REGRESSION_POOL = 4
"""Items that are drawn for each regression item that is kept, so that rare slices get their share."""


@dataclass(frozen=True)
class Arena:
    """Where the judge's rollouts run."""

    store: ArtifactStore
    endpoint: Endpoint
    sandbox: Sandbox
    work: Path
    sealed: SealedStore
    tasks: Mapping[str, Task]


@dataclass
class SealedRace:
    """One race while it runs; running it again from the start repeats it, from the batches that were kept."""

    arena: Arena
    campaign: SealedCampaign
    entered: EnteredRace
    usage: Usage = Usage()
    cheats: list[Cheat] = field(default_factory=list[Cheat])

    async def run(self) -> tuple[Outcome, JsonValue, Usage]:
        """Run to the outcome.

        Returns:
            Outcome, evidence, and what the rollouts cost.

        Raises:
            ModelUnavailable: the model endpoint failed; the race stays entered and goes on under the same key.
        """
        request = self.entered.request
        verdict, effects = await (self._holdout() if request.race is Race.HOLDOUT else self._adversarial())
        evidence: JsonValue = {
            "request": request.model_dump(mode="json"),
            "number": self.entered.number,
            "verdict": verdict.model_dump(mode="json"),
            "effects": [effect.model_dump(mode="json") for effect in effects],
            "cheats": [cheat.model_dump(mode="json") for cheat in self.cheats],
            # Without it, a guessed outcome could be checked against the digest before the reveal.
            "nonce": digest_json([self.campaign.secret, request.key]),
        }
        return verdict.outcome, evidence, self.usage

    async def _holdout(self) -> tuple[Verdict, list[Effect]]:
        request, rules, seed = self.entered.request, self.campaign.rules, self._seed("items")
        task = self.arena.tasks[request.task]
        alpha = alpha_of_race(rules.alpha, self.entered.number) / rules.looks
        target: list[Effect] = []
        kept: list[Effect] = []
        others: dict[str, Guard] = {}
        verdict: Verdict | None = None
        for look in range(rules.looks):
            fresh = task.items(Split.HOLDOUT, seed, rules.holdout, look * rules.holdout)
            guarding = spread(task, seed, rules.regression, look)
            effects = await self._effects(task, [*fresh, *guarding], request.candidate, request.live)
            ids = {item.id for item in fresh}
            target += [effect for effect in effects if effect.item in ids]
            kept += [effect for effect in effects if effect.item not in ids]
            for name, guard in (await self._other_tasks(seed, look)).items():
                before = others[name].effects if name in others else []
                others[name] = Guard(effects=before + guard.effects, margin=guard.margin)
            guards = {**_by_slice([*target, *kept], task.metric.margin), **others}
            verdict = holdout_race(target, guards, alpha=alpha, rules=rules, seed=seed)
            if verdict.outcome is not Outcome.INCONCLUSIVE or verdict.mean <= 0.0:
                break
        assert verdict is not None
        return verdict, [*target, *kept]

    async def _other_tasks(self, seed: int, look: int) -> dict[str, Guard]:
        """Effects of the candidate's adapter under the live scaffold of each other task."""
        request = self.entered.request
        guards: dict[str, Guard] = {}
        if request.candidate.adapter == request.live.adapter:
            return guards
        for name, live in sorted(request.others.items()):
            task = self.arena.tasks[name]
            candidate = live.model_copy(update={"adapter": request.candidate.adapter})
            items = spread(task, seed, self.campaign.rules.regression, look)
            effects = await self._effects(task, items, candidate, live)
            guards[f"task:{name}"] = Guard(effects=[effect.value for effect in effects], margin=task.metric.margin)
        return guards

    async def _adversarial(self) -> tuple[Verdict, list[Effect]]:
        request, rules, seed = self.entered.request, self.campaign.rules, self._seed("items")
        task = self.arena.tasks[request.task]
        items = task.items(Split.ADVERSARIAL, seed, rules.adversarial)
        effects = await self._effects(task, items, request.candidate, request.live, perturb=True)
        earlier = [race.evidence for race in self.arena.sealed.races(request.campaign, request.candidate.id)]
        pooled = [*effects, *_effects_in(earlier)]
        codes = [cheat.code for cheat in self.cheats] + _cheats_in(earlier)
        return adversarial_race(pooled, cheats=codes, margin=task.metric.margin, rules=rules, seed=seed), effects

    async def _effects(
        self, task: Task, items: Sequence[Item], candidate: Version, live: Version, *, perturb: bool = False
    ) -> list[Effect]:
        by_id = {item.id: item for item in items}
        attempts = [(item, rollout_seed(self._seed("rollouts"), item)) for item in by_id.values()]
        ours = await self._trajectories(task, candidate, attempts, is_live=False)
        theirs = await self._trajectories(task, live, attempts, is_live=True)
        for each in ours:
            if each.grade is not None:
                self.cheats += task.cheats(by_id[each.item], each.output, each.grade)
        if perturb:
            ours = [await _perturbed(task, by_id[each.item], each) for each in ours]
            theirs = [await _perturbed(task, by_id[each.item], each) for each in theirs]
        return paired_effects(by_id.values(), ours, theirs, task.metric)

    async def _trajectories(
        self, task: Task, version: Version, attempts: Sequence[Attempt], *, is_live: bool
    ) -> list[Trajectory]:
        done: list[Trajectory] = []
        for start in range(0, len(attempts), self.campaign.rules.batch):
            done += await self._batch(task, version, attempts[start : start + self.campaign.rules.batch], is_live)
        self.usage = sum((each.usage for each in done), self.usage)
        return done

    async def _batch(
        self, task: Task, version: Version, attempts: Sequence[Attempt], is_live: bool
    ) -> list[Trajectory]:
        digest = digest_json([task.name, version.id, [[item.id, seed] for item, seed in attempts]])
        kept = self.arena.sealed.batch(digest)
        if kept is not None:
            return kept
        done = await evaluate(
            version,
            attempts,
            task=task,
            store=self.arena.store,
            endpoint=self.arena.endpoint,
            sandbox=self.arena.sandbox,
            work=self.arena.work,
            batch=len(attempts),
            limits=billed_limits(self.campaign.rules.rollout_bill),
        )
        failed = sum(each.stop is RolloutStop.MODEL_FAILED for each in done)
        # A failing endpoint must not speak for the candidate (live graded worst), nor against a whole batch of it.
        if failed and (is_live or failed == len(done)):
            raise ModelUnavailable(
                "The model endpoint failed during a sealed race. Nothing is lost: bring the endpoint back, and the "
                "race goes on under the same key."
            )
        self.arena.sealed.keep_batch(digest, done)
        faults.point("judge.batch")
        return done

    def _seed(self, use: str) -> int:
        return derive_seed(self.campaign.seed, use, self.entered.request.race, self.entered.number)


def spread(task: Task, seed: int, count: int, look: int) -> list[Item]:
    """Regression items of one look, taken from the stream so that every slice gets its even share."""
    pool = task.items(Split.REGRESSION, seed, count * REGRESSION_POOL, look * count * REGRESSION_POOL)
    slices: dict[str, list[Item]] = {}
    for item in pool:
        slices.setdefault(item.slice, []).append(item)
    rows = zip_longest(*(slices[name] for name in sorted(slices)))
    return [item for row in rows for item in row if item is not None][:count]


def _by_slice(effects: Iterable[Effect], margin: float) -> dict[str, Guard]:
    slices: dict[str, list[float]] = {}
    for effect in effects:
        slices.setdefault(f"slice:{effect.slice}", []).append(effect.value)
    return {name: Guard(effects=values, margin=margin) for name, values in slices.items()}


async def _perturbed(task: Task, item: Item, trajectory: Trajectory) -> Trajectory:
    """The trajectory, with a perturbed grade among its conditions where the task's own valid grade has none."""
    grade = trajectory.grade
    if grade is None or trajectory.output is None or not grade.valid or "conditions" in grade.details:
        return trajectory
    value = (await task.perturb(item, trajectory.output)).value
    details: dict[str, JsonValue] = {**grade.details, "conditions": {"perturbed": value}}
    return trajectory.model_copy(update={"grade": grade.model_copy(update={"details": details})})


def _effects_in(evidence: Iterable[JsonValue]) -> list[Effect]:
    return [Effect.model_validate(each) for part in evidence for each in _list(part, "effects")]


def _cheats_in(evidence: Iterable[JsonValue]) -> list[str]:
    return [Cheat.model_validate(each).code for part in evidence for each in _list(part, "cheats")]


def _list(evidence: JsonValue, name: str) -> list[JsonValue]:
    found = evidence.get(name) if isinstance(evidence, dict) else None
    return found if isinstance(found, list) else []
