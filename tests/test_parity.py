"""Promises of parity: a server that means what the trainer means is trusted, once; any other is refused, with words."""

from pathlib import Path

import pytest

from pawl.core import ArtifactStore, ConfigurationError, Home, Settings
from pawl.graph.parity import Parity, fingerprint
from pawl.nodes.context import TrainingBase
from pawl.safety import default_sandbox
from pawl.serving.adapters import AdapterPublisher
from pawl.serving.parity import Compared, check_parity, difference, server_scores
from pawl.serving.policy import Endpoint
from pawl.training.score import score

from .model_fixtures import save_tiny_model, smollm2, tiny_home, tiny_model_dir, tiny_server
from .training_fixtures import make_job, make_run, torch_settings

__all__ = ["smollm2", "tiny_home", "tiny_model_dir", "tiny_server", "torch_settings"]

ENDPOINT = Endpoint(base_url="http://127.0.0.1:1/v1", base_model="base")


def parity(endpoint: Endpoint, model: Path, folder: Path) -> Parity:
    home = Home(folder / "home").create()
    publisher = AdapterPublisher(endpoint, ArtifactStore(home.artifacts), home.served(""))
    base = TrainingBase(
        model_dir=str(model), model_name="tiny", adapters=str(home.adapters), threads=1, digest=fingerprint(model)
    )
    training = {"rank": 4, "layers": 2, "precision": "float32"}
    return Parity(publisher, default_sandbox(), base, training, home, Settings(cache=folder / "cache"))


async def test_a_server_of_the_same_weights_is_trusted_and_asked_once(
    tiny_server: Endpoint, tiny_model_dir: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    for _ in range(2):
        await parity(tiny_server, tiny_model_dir, tmp_path).check(told.append)
    assert len(told) == 1
    assert len(list((tmp_path / "cache" / "parity").iterdir())) == 1
    publisher = AdapterPublisher(tiny_server, ArtifactStore(tmp_path), tmp_path)
    assert await publisher.published() == []  # what it was tried with is gone


@pytest.mark.usefixtures("torch_settings")
async def test_scores_of_other_weights_are_not_the_servers(tiny_server: Endpoint, smollm2, tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "other", smollm2.path, spread=0.3)
    ours = score(make_run(tmp_path, make_job(tmp_path / "other"), []))
    theirs = await server_scores(tiny_server, tiny_server.base_model, ours.tokens)
    with pytest.raises(ConfigurationError, match=r"disagree about the base model.*PAWL_MODEL_DIR"):
        check_parity(tiny_server, Compared.BASE, ours.base, theirs)


@pytest.mark.slow  # the scores above are the trainer's, too, but for its process
async def test_a_server_of_other_weights_is_refused(tiny_server: Endpoint, smollm2, tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "other", smollm2.path, spread=0.3)
    with pytest.raises(ConfigurationError, match=r"disagree about the base model.*PAWL_MODEL_DIR"):
        await parity(tiny_server, tmp_path / "other", tmp_path).check()
    assert not (tmp_path / "cache" / "parity").exists()


async def test_a_server_that_does_not_know_the_model_says_so(tiny_server: Endpoint) -> None:
    with pytest.raises(ConfigurationError, match="scores no prompt"):
        await server_scores(tiny_server, "no-such-model", [1, 2, 3])


def test_the_limit_is_on_the_mean() -> None:
    ours = [-1.0] * 100
    assert check_parity(ENDPOINT, Compared.BASE, ours, [-1.04] * 100).mean == pytest.approx(0.04)
    check_parity(ENDPOINT, Compared.BASE, ours, [-1.0] * 99 + [-4.0])
    with pytest.raises(ConfigurationError, match=r"disagree about an adapter.*0\.060 nats"):
        check_parity(ENDPOINT, Compared.ADAPTER, ours, [-1.06] * 100)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [([], []), ([-1.0], [-1.0, -1.0]), ([-1.0], [float("nan")]), ([-1.0], [float("-inf")])],
    ids=["nothing", "other lengths", "NaN", "infinite"],
)
def test_scores_that_cannot_be_compared_are_refused(ours: list[float], theirs: list[float]) -> None:
    with pytest.raises(ConfigurationError, match="as many finite"):
        difference(ours, theirs)
