"""Homes as campaigns leave them, written through the stores that campaigns write to, in milliseconds.

    store = plant(folder, rounds=3, reveal=True, text=HOSTILE)

Every word that a model, a candidate or a person could have written is the given text.
"""

from decimal import Decimal
from pathlib import Path

from pydantic import JsonValue

from pawl.core import Grade, Home, ModelCall, RolloutStop, Settings, Trajectory, Usage, Version, digest_json
from pawl.evals.judge_wire import Commitment, RaceResult, Reveal, RevealedRace
from pawl.evals.races import Outcome, Race, RaceRules, Verdict
from pawl.graph.store import Store
from pawl.nodes.decision import Decision, Diagnosis, Lever, Objective
from pawl.nodes.journal import save_trajectories
from pawl.nodes.rounds import RoundRow
from pawl.nodes.state import Approval, CampaignRules, Candidate, Evaluation, RaceSummary
from pawl.nodes.state import Verdict as Answer
from pawl.release import Campaign, Channel, Status
from pawl.safety.budget import Budget, EventKind, Meter, prices_of

CAMPAIGN = "labels-1"
METERED = 8
"""Rounds whose every step is metered; later ones have the bills of their sealed races alone, to be quick."""
PLAIN = "30 of 32 rollouts were refused. prune promises +0.34 for 65 units."
HOSTILE = (
    "<script>document.title='owned'</script>"
    "</style></pre></textarea><img src=http://evil.test/x onerror=alert(1)>"
    "\"' onmouseover='alert(2) {{ 7*7 }} {% raw %} $x^2$ #0a0b01 "
    "\x00\x07\x1b[31m\r\u202egnp.exe\u2066\u200b\ufeff\x85 \u05d0\u05d1\u05d2 " + "W" * 9_000
)


def plant(
    folder: Path,
    *,
    rounds: int = 3,
    status: Status = Status.FINISHED,
    reveal: bool = True,
    waiting: bool = False,
    text: str = PLAIN,
    budget: Budget | None = None,
) -> Store:
    """A home with one campaign of so many finished rounds."""
    store = Store(Home(folder).create(), None)
    campaign = store.campaigns.create(
        CAMPAIGN,
        task="labels",
        seed=3,
        settings={
            "rules": CampaignRules(rounds=max(rounds, 1)).model_dump(mode="json"),
            "budget": (budget or Budget()).model_dump(mode="json"),
            "trace_id": "00" * 16,
        },
        fingerprint="ab" * 32,
        schema_version=1,
    )
    _log(store, campaign, 0, "campaign.committed", {"commitment": "cd" * 32})
    live = Version(scaffold=store.artifacts.put_tree({"agent.py": b"0"}), base_model="m")
    store.registry.add(live, task="labels", parent=None, lever=None, campaign=CAMPAIGN, round=0)
    store.channels.move("labels", Channel.LIVE, live.id, expected_epoch=0, key="first", reason=text, actor="rule:first")
    revealed: list[RevealedRace] = []
    for number in range(1, rounds + 1):
        live = _round(store, campaign, number, live, text, revealed)
    if waiting:
        request: JsonValue = {
            "action_requests": [{"name": "promote", "args": {"version": live.id}, "description": text}]
        }
        store.decisions.ask(CAMPAIGN, "feed" * 8, request)
        _log(
            store,
            campaign,
            rounds + 1,
            "round.evaluated",
            {"mean": 0.5, "trajectories": _rollouts(store, live, 9, text)},
        )
        _log(store, campaign, rounds + 1, "approval.requested", {"version": live.id})
    if reveal:
        commitment = Commitment(campaign=CAMPAIGN, task="labels", digest="cd" * 32, rules=RaceRules())
        told = Reveal(campaign=CAMPAIGN, task="labels", seed=3, secret="ef", commitment=commitment, races=revealed)
        digest = store.artifacts.put_json(told.model_dump(mode="json"))
        _log(store, campaign, 0, "campaign.revealed", {"reveal": digest})
    store.campaigns.set_status(CAMPAIGN, status, text if status is Status.FAILED else None)
    return store


def meter(store: Store) -> Meter:
    """A meter with a price on tokens that leaves fractions of a cent everywhere."""
    prices = prices_of(
        Settings(cpu_usd_per_hour=Decimal("0.37"), gpu_usd_per_second=Decimal("0.0011")), "m", own_hardware=True
    )
    return Meter(store.db, prices)


def _round(
    store: Store, campaign: Campaign, number: int, live: Version, text: str, revealed: list[RevealedRace]
) -> Version:
    lever = Lever.SCAFFOLD if number % 2 else Lever.WEIGHTS
    promoted = number % 3 != 0
    version = live.model_copy(update={"scaffold": store.artifacts.put_tree({"agent.py": f"{number}".encode()})})
    store.registry.add(version, task="labels", parent=live.id, lever=lever, campaign=CAMPAIGN, round=number)
    before, after = 0.2 + 0.01 * number, 0.2 + 0.01 * number + (0.05 if promoted else -0.02)
    races = [
        RaceSummary(
            race=Race.TARGET,
            outcome=Outcome.PASSED,
            before=before,
            after=after,
            low=after - before - 0.03,
            high=after - before + 0.03,
        )
    ]
    if number <= METERED:
        _spend(store, number, lever, version)
    for race in (Race.HOLDOUT, Race.ADVERSARIAL):
        outcome = Outcome.PASSED if promoted else Outcome.INCONCLUSIVE
        key = f"{CAMPAIGN}/{number}/gauntlet.{race.value}/{version.id[:16]}"
        verdict = Verdict(
            outcome=outcome, why=[] if promoted else [f"guard:{text}"], mean=0.123456789, low=0.05, high=0.2, items=28
        )
        evidence: JsonValue = {"verdict": verdict.model_dump(mode="json")}
        bill = Usage(input_tokens=2_000, output_tokens=20)
        result = RaceResult(
            key=key, race=race, outcome=outcome, bits=1.58, alpha=0.06, bill=bill, evidence=digest_json([key])
        )
        revealed.append(RevealedRace(key=key, result=result, evidence=evidence, usage=Usage(input_tokens=777)))
        races.append(RaceSummary(race=race, outcome=outcome, bits=1.58, alpha=0.06, evidence=result.evidence))
        meter(store).add(CAMPAIGN, key, "judge", number, bill, lever=lever, candidate=version.id, kind=EventKind.BILL)
    trajectories = _rollouts(store, live, number, text)
    _log(store, campaign, number, "approval.requested", {"version": version.id})
    approval = None
    if promoted:
        approval = _approve(store, campaign, number, version, text)
        epoch = store.channels.get("labels", Channel.LIVE)
        store.channels.move(
            "labels",
            Channel.LIVE,
            version.id,
            expected_epoch=epoch.epoch if epoch else 0,
            key=f"p{number}",
            reason=text,
            actor="ada",
        )
    row = RoundRow(
        round=number,
        decision=Decision(
            lever=lever,
            diagnosis=Diagnosis.SPREAD,
            objective=Objective.GROUP_RELATIVE if lever is Lever.WEIGHTS else None,
            objective_reason=text if lever is Lever.WEIGHTS else "",
            default_objective=Objective.ENTROPIC if lever is Lever.WEIGHTS else None,
            reason=text,
            evidence=[text, "1f" * 32],
            expected_gain=0.04,
        ),
        candidate=Candidate(
            version=version.id, parent=live.id, lever=lever, operator=text, summary=store.artifacts.put(text.encode())
        ),
        evaluation=Evaluation(
            mean=before, low=before - 0.1, high=before + 0.1, rollouts=4, valid=2, failures={"refused": 2}
        ),
        races=races,
        approval=approval,
        fate="promoted" if promoted else text[:60],
        live=version.id if promoted else live.id,
        sampled=live.id,
        trajectories=trajectories,
        usage=store.meter.by_round(CAMPAIGN).get(number, Usage()),
    )
    store.campaigns.record_round(CAMPAIGN, number, row.model_dump(mode="json"))
    return version if promoted else live


def _spend(store: Store, number: int, lever: Lever, version: Version) -> None:
    """What a round's steps take, in amounts that don't round well."""
    add = meter(store).add
    shared = Usage(input_tokens=1_001 * number, output_tokens=33, cpu_seconds=1.0007 * number)
    add(CAMPAIGN, f"{number}/task", "task_agent", number, shared, model="m")
    add(CAMPAIGN, f"{number}/grade", "evaluator", number, Usage(verifications=4, cpu_seconds=0.3331))
    making = Usage(training_steps=7, cpu_seconds=3.3333, gpu_seconds=0.77 * number)
    add(CAMPAIGN, f"{number}/made", "trainer", number, making, lever=lever, candidate="")
    add(CAMPAIGN, f"{number}/race", "gauntlet", number, shared, lever=lever, model="m", candidate=version.id)


def _approve(store: Store, campaign: Campaign, number: int, version: Version, text: str) -> Approval:
    if number % 2:
        interrupt = digest_json(["interrupt", number])[:32]
        request: JsonValue = {
            "action_requests": [{"name": "promote", "args": {"version": version.id}, "description": text}]
        }
        store.decisions.ask(CAMPAIGN, interrupt, request)
        store.decisions.record(
            CAMPAIGN, interrupt, {"decisions": [{"type": "approve"}], "actor": text, "reason": text}, text
        )
        return Approval(verdict=Answer.APPROVE, actor=text, reason=text)
    _log(store, campaign, number, "version.promoted", {"version": version.id})
    return Approval(verdict=Answer.APPROVE, actor="rule:auto", reason=text)


def _rollouts(store: Store, version: Version, number: int, text: str) -> str:
    """Four attempts: two of them failed, each in its own way."""
    refused = Grade(value=0.0, valid=False, reasons=[text], details={"failure_class": text})
    good = Grade(value=0.8, valid=True, estimated=True, details={"basis": text})
    steps = [ModelCall(model="m", prompt=text[:50], completion=text[:50])]
    return save_trajectories(
        store.artifacts,
        [
            Trajectory(
                version=version.id,
                item=f"{text[:40]}{number}",
                seed=seed,
                output=text[:99],
                stop=stop,
                grade=grade,
                steps=steps,
            )
            for seed, (stop, grade) in enumerate(
                [
                    (RolloutStop.ANSWERED, good),
                    (RolloutStop.ANSWERED, good),
                    (RolloutStop.ANSWERED, refused),
                    (RolloutStop.CRASHED, refused),
                ]
            )
        ],
    )


def _log(store: Store, campaign: Campaign, number: int, kind: str, body: dict[str, JsonValue]) -> None:
    round_of = {"round": number} if number else {}
    store.ledger.append(f"{CAMPAIGN}/{number}/{kind}", kind, campaign.id, {**round_of, **body}, "00" * 16)
