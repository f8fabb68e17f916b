"""Promises of the judge: one outcome out, the rest sealed; killed anywhere, the same key gets the same answer."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from pawl.core import (
    AccountExhausted,
    ArtifactStore,
    CampaignFinished,
    Conflict,
    Home,
    ModelUnavailable,
    NotFound,
    PawlError,
    SealBroken,
    Settings,
    Version,
    digest_json,
)
from pawl.evals import Outcome, Race, RaceRules, TaskEnvironment, load_task
from pawl.evals.judge_client import JudgeClient
from pawl.evals.judge_wire import RaceRequest
from pawl.evals.labels import WORDS
from pawl.evals.reveal import check_reveal
from pawl.safety import default_sandbox

from .evals_fixtures import KEY, planted_server

GOOD, HARMFUL = "a" * 64, "b" * 64
SKILLS = {GOOD: [" C", " D"], f"{GOOD}/chat": [" C"], HARMFUL: [" C", " D"], f"{HARMFUL}/chat": [" F"]}
RULES = RaceRules(holdout=9, regression=3, adversarial=4, guard_items=4, batch=6)


@pytest.fixture(scope="module")
def server():
    with planted_server(SKILLS) as planted:
        yield planted


class Bench:
    """A home with a live version of the labels task, and requests to race against it."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root).create()
        self.store = ArtifactStore(self.home.artifacts)
        self.task = load_task("labels", TaskEnvironment(sandbox=default_sandbox(), cache=root))
        self.live = self.version(capable=False)

    def version(self, *, capable: bool, adapter: str | None = None) -> Version:
        scaffold = self.store.put_tree(self.task.seed_scaffold(capable))
        return Version(scaffold=scaffold, adapter=adapter, base_model="planted")

    def request(self, key: str, adapter: str | None, race: Race = Race.HOLDOUT, **more: object) -> RaceRequest:
        candidate = self.live.model_copy(update={"adapter": adapter})
        fixed = {"campaign": "c", "task": "labels", "lever": "weights"}
        return RaceRequest(key=key, race=race, candidate=candidate, live=self.live, **fixed, **more)

    async def judge(self, server, rules: RaceRules = RULES) -> JudgeClient:
        judge = await JudgeClient.start(self.home, Settings(), server.endpoint, sealed_seed=11)
        await judge.commit("c", "labels", 7, rules)
        return judge


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path / "home")


async def test_a_planted_lift_passes_both_sealed_races_and_equal_versions_do_not(bench, server):
    judge = await bench.judge(server)
    try:
        first = await judge.race(bench.request("1", GOOD))
        last = await judge.race(bench.request("2", GOOD, Race.ADVERSARIAL))
        asked = len(server.requests)
        again = await judge.race(bench.request("1", GOOD))
        assert len(server.requests) == asked
        equal = await judge.race(bench.request("3", None))
    finally:
        await judge.close()
    assert (first.outcome, last.outcome, equal.outcome) == (Outcome.PASSED, Outcome.PASSED, Outcome.INCONCLUSIVE)
    assert again == first
    assert first.alpha > equal.alpha > last.alpha == 0.0
    # Fixed bills: a race that stops at its first look costs what one costs that takes both.
    assert first.bill == equal.bill


async def test_nothing_sealed_is_written_outside_the_judges_folder_and_the_judge_has_no_key(bench, server):
    judge = await bench.judge(server)
    try:
        await judge.race(bench.request("1", GOOD))
        environment = Path(f"/proc/{judge.pid}/environ").read_bytes()
    finally:
        await judge.close()
    assert KEY.encode() not in environment
    assert b"PAWL_" not in environment
    outside = [p for p in bench.home.root.rglob("*") if p.is_file() and bench.home.judge not in p.parents]
    assert outside
    for path in outside:
        text = path.read_bytes()
        assert not any(word.encode() in text for word in [*WORDS, KEY])
    assert bench.home.judge.stat().st_mode & 0o077 == 0


FAULTS = ("judge.entered:1", "judge.batch:1", "judge.batch:2", "judge.run:1", "judge.decided:1")


@pytest.mark.slow  # tests/test_kill.py has these deaths within a campaign
async def test_a_judge_killed_again_and_again_goes_on_under_the_same_key_and_pays_once(tmp_path, server, monkeypatch):
    unbroken, broken = Bench(tmp_path / "unbroken"), Bench(tmp_path / "broken")
    for fault in FAULTS:
        monkeypatch.setenv("PAWL_JUDGE_FAULT", fault)
        judge = await broken.judge(server)
        with pytest.raises(PawlError, match="goes on under its key"):
            await judge.race(broken.request("1", GOOD))
        await judge.close()
    monkeypatch.delenv("PAWL_JUDGE_FAULT")
    ends = []
    for bench in (unbroken, broken):
        judge = await bench.judge(server)
        ends.append((await judge.race(bench.request("1", GOOD)), await judge.reveal("c")))
        await judge.close()
    (result, reveal), (resumed, revealed) = ends
    assert resumed == result
    assert len(revealed.races) == 1
    assert revealed.commitment == reveal.commitment
    assert revealed.races[0].evidence == reveal.races[0].evidence
    assert revealed.races[0].usage.tokens == reveal.races[0].usage.tokens


async def test_a_failing_endpoint_is_an_error_and_the_race_goes_on_when_it_is_back(bench, server):
    judge = await bench.judge(server)
    try:
        server.down = True
        with pytest.raises(ModelUnavailable, match="same key"):
            await judge.race(bench.request("1", GOOD))
        server.down = False
        assert (await judge.race(bench.request("1", GOOD))).outcome is Outcome.PASSED
    finally:
        server.down = False
        await judge.close()


async def test_weights_that_help_here_and_harm_another_task_do_not_pass(bench, server):
    others = {"labels": bench.version(capable=True)}
    judge = await bench.judge(server, RULES.model_copy(update={"regression": 6}))
    try:
        kept = await judge.race(bench.request("1", GOOD, others=others))
        harmed = await judge.race(bench.request("2", HARMFUL, others=others))
    finally:
        await judge.close()
    assert (kept.outcome, harmed.outcome) == (Outcome.PASSED, Outcome.FAILED)


async def test_the_reveal_opens_the_commitment_and_the_evidence_and_ends_the_campaign(bench, server):
    judge = await bench.judge(server)
    try:
        commitment = await judge.commit("c", "labels", 7, RULES)
        result = await judge.race(bench.request("1", GOOD))
        reveal = await judge.reveal("c")
        with pytest.raises(CampaignFinished):
            await judge.race(bench.request("2", GOOD))
    finally:
        await judge.close()
    bound = {"campaign": "c", "task": "labels", "seed": 7, "rules": RULES.model_dump(mode="json")}
    assert digest_json({**bound, "secret": reveal.secret}) == commitment.digest
    assert [digest_json({"evidence": race.evidence}) for race in reveal.races] == [result.evidence]
    promised = {"commitment": commitment.digest, "evidence": {"holdout race of v": result.evidence}}
    assert check_reveal(reveal, **promised) == []
    [race] = reveal.races
    for forged, words in (
        (reveal.model_copy(update={"secret": "0" * 64}), "not those of the commitment"),
        (reveal.model_copy(update={"seed": 8}), "not those of the commitment"),
        (reveal.model_copy(update={"races": []}), "the evidence of the holdout race of v is missing"),
        (
            reveal.model_copy(update={"races": [race.model_copy(update={"evidence": {"verdict": "passed"}})]}),
            "is not what its outcome was told with",
        ),
    ):
        assert words in "; ".join(check_reveal(forged, **promised))


async def test_the_account_refuses_a_race_that_it_has_no_bits_for_and_a_commitment_stands(bench, server):
    rules = RULES.model_copy(update={"bits": 1.0})
    judge = await bench.judge(server, rules)
    try:
        with pytest.raises(AccountExhausted, match="bits"):
            await judge.race(bench.request("1", GOOD))
        with pytest.raises(Conflict, match="can't be changed"):
            await judge.commit("c", "labels", 8, rules)
        with pytest.raises(NotFound, match="unheard"):
            await judge.commit("d", "unheard", 7)
        with pytest.raises(NotFound, match="no commitment"):
            await judge.reveal("e")
    finally:
        await judge.close()


async def test_a_judge_starts_with_its_first_request_and_is_held_to_what_it_committed_itself_to(
    bench, server, tmp_path
):
    judge = await bench.judge(server)
    commitment = await judge.commit("c", "labels", 7, RULES)
    await judge.close()
    judge = JudgeClient(bench.home, Settings(), server.endpoint, sealed_seed=11)
    judge.recall(commitment.digest, "c", "labels", 7, RULES)
    assert judge.pid == 0
    assert (await judge.reveal("c")).commitment == commitment
    assert judge.pid > 0
    await judge.close()
    other = JudgeClient(Home(tmp_path / "other"), Settings(), server.endpoint, sealed_seed=12)
    other.recall(commitment.digest, "c", "labels", 7, RULES)
    for _ in range(2):
        with pytest.raises(SealBroken, match="not of one home"):
            await other.reveal("c")
    assert other.pid == 0


async def test_the_judge_dies_with_a_controller_that_is_killed(bench, server, tmp_path):
    program = tmp_path / "controller.py"
    program.write_text(
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from pawl.core import Home, Settings\n"
        "from pawl.evals.judge_client import JudgeClient\n"
        "from pawl.serving.policy import Endpoint\n"
        "async def main():\n"
        "    endpoint = Endpoint(base_model='planted')\n"
        "    judge = await JudgeClient.start(Home(Path(sys.argv[1])), Settings(), endpoint)\n"
        "    print(judge.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    controller = await asyncio.create_subprocess_exec(
        *(sys.executable, str(program), str(bench.home.root)), stdout=asyncio.subprocess.PIPE
    )
    assert controller.stdout is not None
    pid = int(await controller.stdout.readline())
    os.kill(controller.pid, signal.SIGKILL)
    await controller.wait()
    for _ in range(100):
        status = Path(f"/proc/{pid}/stat")
        if not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        await asyncio.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the judge outlived its controller")
