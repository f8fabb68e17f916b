"""Promises of vLLM behind Pawl: the wire's contract, parity with the trainer, and a round of training.

`make test-vllm` builds vLLM for the CPU in an environment of its own and runs this; PAWL_VLLM names that environment.
The server is started by `pawl serve`, over SmolLM2 in float32, as the trainer computes here: then what differs is
what is wrong, and not how it is rounded.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from pawl.core import ArtifactStore, ConfigurationError, Home, ModelCall, Sampling, Settings, Version
from pawl.graph.parity import Parity, fingerprint
from pawl.nodes.context import TrainingBase
from pawl.safety import default_sandbox
from pawl.serving.adapters import AdapterPublisher
from pawl.serving.connect import connect
from pawl.serving.policy import Endpoint
from pawl.serving.runner import Rollout, run_rollouts
from pawl.serving.weights import BaseModelFiles, base_model
from pawl.training import Datum, GroupRelative, JobState, LocalBackend, TrainJob, adapter_files, to_datums

from ..model_fixtures import make_adapter

pytestmark = pytest.mark.vllm

ROOT = Path(__file__).parents[2]
KEY = "key-of-this-test"
TRAINING = {"precision": "float32", "rank": 16, "layers": 10}
CHOSEN = " C"
CLIENT = (ROOT / "evals" / "scaffolds" / "client.py").read_bytes()
AGENT = """
from client import Policy, answer, load_item
policy, text = Policy(), load_item()["payload"]["text"]
answer({"label": policy.choose(text, [" A", " B", " C", " D"])})
"""


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[dict[str, str]]:
    """`pawl serve` with vLLM, for as long as the block lasts; what it says to export."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", "pawl.cli.main", "serve", "--json", "--port", "0", *options]
    environment = {**os.environ, "PAWL_MODEL_API_KEY": KEY}
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment, cwd=folder)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, (folder / "serve.log").read_text()[-3000:]
        yield json.loads(line)["export"]
    finally:
        process.terminate()
        assert process.wait(60) == 0
        process.stdout.close()


@pytest.fixture(scope="module")
def model() -> BaseModelFiles:
    return base_model(Settings(model_dir=None))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    if "PAWL_VLLM" not in os.environ:
        pytest.fail("PAWL_VLLM names no environment with vLLM: run `make test-vllm`")
    options = ("--dtype", "float32", "--max-model-len", "2048", "--rank", "16")
    with serving(tmp_path_factory.mktemp("vllm"), *options) as found:
        yield found


@pytest.fixture
async def endpoint(exported: dict[str, str], tmp_path: Path) -> Endpoint:
    settings = Settings(
        model_url=exported["PAWL_MODEL_URL"],
        model_name=exported["PAWL_MODEL_NAME"],
        model_api_key=SecretStr(KEY),
    )
    found = await connect(Home(tmp_path), settings)
    assert found.is_vllm
    return found.model_copy(update={"timeout_seconds": 300.0})


def base(model: BaseModelFiles, folder: Path) -> TrainingBase:
    return TrainingBase(
        model_dir=str(model.path),
        model_name=model.name,
        adapters=str(folder),
        threads=2,
        digest=fingerprint(model.path),
    )


def job(model: BaseModelFiles, **changes: object) -> TrainJob:
    given = {
        "id": "round",
        "objective": GroupRelative(),
        "base_model_dir": model.path,
        "base_model_name": model.name,
        "seed": 3,
        **TRAINING,
    }
    return TrainJob.model_validate(given | changes)


def parity(endpoint: Endpoint, model: BaseModelFiles, folder: Path, **training: object) -> Parity:
    home = Home(folder / "home").create()
    publisher = AdapterPublisher(endpoint, ArtifactStore(home.artifacts), home.served(endpoint.base_url))
    shape = {**TRAINING, **training}
    return Parity(publisher, default_sandbox(), base(model, folder), shape, home, Settings())


def test_the_contract_of_the_wire_holds(exported: dict[str, str], model: BaseModelFiles, tmp_path: Path) -> None:
    """The suite that the local server passes, too."""
    adapter = make_adapter(model.path, tmp_path / "adapter", seed=1, scale=0.01)
    environment = {
        **os.environ,
        "PAWL_TEST_BASE_URL": exported["PAWL_MODEL_URL"],
        "PAWL_TEST_API_KEY": KEY,
        "PAWL_TEST_MODEL": exported["PAWL_MODEL_NAME"],
        "PAWL_TEST_ADAPTER": str(adapter),
    }
    command = [sys.executable, "-m", "pytest", "tests/test_wire.py", "-rs", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


async def test_vllm_and_the_trainer_mean_the_same_and_that_is_remembered(
    endpoint: Endpoint, model: BaseModelFiles, tmp_path: Path
) -> None:
    checked = parity(endpoint, model, tmp_path)
    told: list[str] = []
    await checked.check(told.append)
    await checked.check(told.append)
    assert len(told) == 1
    [note] = (tmp_path / "home" / "parity").glob("*.json")
    found = json.loads(note.read_bytes())["found"]
    assert found["base"]["mean"] < 1e-3
    assert found["adapter"]["mean"] < 1e-3


async def test_a_rank_that_vllm_was_not_started_for_is_refused(
    endpoint: Endpoint, model: BaseModelFiles, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"can't hold an adapter of this rank.*--rank"):
        await parity(endpoint, model, tmp_path, rank=32).check()


async def test_a_round_through_vllm_raises_the_share_of_what_is_rewarded(
    endpoint: Endpoint, model: BaseModelFiles, tmp_path: Path
) -> None:
    """Rollouts, datums, training, publication, and rollouts that are rewarded more often."""
    store = ArtifactStore(tmp_path / "artifacts")
    home, sandbox = Home(tmp_path / "home").create(), default_sandbox()
    first = Version(
        scaffold=store.put_tree({"agent.py": AGENT.encode(), "client.py": CLIENT, "scaffold.json": b"{}"}),
        base_model=model.name,
        sampling=Sampling(max_tokens=4),
    )

    async def play(version: Version) -> tuple[list[Datum], float, float]:
        rollouts = [
            Rollout(version=version, item="i", payload={"text": "Pick one letter. Answer:"}, seed=n) for n in range(32)
        ]
        played = await run_rollouts(rollouts, store=store, endpoint=endpoint, sandbox=sandbox, work=tmp_path / "work")
        assert {each.error for each in played} == {None}
        rewards = [float(json.loads(each.output or b"{}").get("label") == CHOSEN) for each in played]
        mean = sum(rewards) / len(rewards)
        datums = [
            datum
            for each, reward in zip(played, rewards, strict=True)
            for datum in to_datums(each, reward - mean, each.item)
        ]
        calls = [step for each in played for step in each.steps if isinstance(step, ModelCall)]
        assert len(datums) == len(calls) == len(played)  # what vLLM drew can be trained on, all of it
        likely = [call.logprobs[0] for call in calls if call.completion == CHOSEN]
        return datums, mean, sum(likely) / len(likely)

    datums, before, logprob_before = await play(first)
    assert {len(allowed or []) for datum in datums for allowed in datum.allowed if allowed} == {4}
    backend = LocalBackend(home.runs, sandbox)
    handle = backend.submit(job(model, epochs=4, learning_rate=1e-3), datums)
    status = await backend.wait(handle)
    assert status.state is JobState.SUCCEEDED, status.error
    digest = store.put_tree(adapter_files(status))
    publisher = AdapterPublisher(endpoint, store, home.served(endpoint.base_url))
    async with publisher.leased(digest):
        _, after, logprob_after = await play(first.model_copy(update={"adapter": digest}))
    assert await publisher.unload(digest)
    assert after > before
    assert logprob_after > logprob_before + 0.2
