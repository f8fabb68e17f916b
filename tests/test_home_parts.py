"""A home whose parts don't belong together is a damaged home, and not a new one: nothing is begun on top of it."""

import asyncio
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pawl.core import HomeDamaged
from pawl.graph.session import Session
from pawl.release import Status

from .child_campaign import small_rules
from .release_fixtures import dies
from .session_fixtures import SEED, Served, served

RULES = small_rules(items=4, attempts=2)
FORK = """
    import asyncio, sys
    from pawl.graph.session import Session

    async def main(home, checkpoint):
        async with Session(home, plugins=False) as session:
            await session.fork("labels-1", checkpoint, name="fork")

    asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def server() -> Served:
    return served()


def options(server: Served) -> dict[str, Any]:
    return {"settings": server.settings(), "factory": server.factory(), "plugins": False}


@pytest.fixture(scope="module")
def at_gate(server: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose campaign, which it named itself, waits at the gate."""
    home = tmp_path_factory.mktemp("at-gate") / "home"

    async def run() -> None:
        async with Session(home, **options(server)) as session:
            assert (await session.start("labels", rules=RULES, seed=SEED)).status is Status.WAITING

    asyncio.run(run())
    return home


@pytest.fixture
def home(at_gate: Path, tmp_path: Path) -> Path:
    """A copy of that home, to damage."""
    return Path(shutil.copytree(at_gate, tmp_path / "home", ignore=shutil.ignore_patterns("run")))


def lose(path: Path, how: str) -> None:
    """Empty a database or remove it, with what SQLite keeps beside it."""
    for beside in path.parent.glob(f"{path.name}-*"):
        beside.unlink()
    path.unlink()
    if how == "emptied":
        path.touch()


@pytest.mark.parametrize("how", ["emptied", "removed"])
async def test_a_lost_database_is_not_silently_begun_anew(how: str, home: Path) -> None:
    lose(home / "pawl.sqlite", how)
    for _ in range(2):
        with pytest.raises(HomeDamaged, match=r"pawl\.sqlite is empty.*artifacts.*backup.*--home"):
            async with Session(home, plugins=False):
                pass


@pytest.mark.parametrize("left", ["artifacts", "judge", "checkpoints.sqlite"])
async def test_any_work_that_an_empty_database_should_know_of_tells_on_it(left: str, home: Path) -> None:
    lose(home / "pawl.sqlite", "emptied")
    for other in {"artifacts", "judge", "checkpoints.sqlite"} - {left}:
        shutil.rmtree(home / other) if (home / other).is_dir() else (home / other).unlink()
    with pytest.raises(HomeDamaged, match=left):
        async with Session(home, plugins=False):
            pass


@pytest.mark.parametrize("how", ["emptied", "removed"])
async def test_a_campaign_whose_checkpoints_are_lost_says_so_instead_of_starting_again(
    how: str, home: Path, server: Served
) -> None:
    lose(home / "checkpoints.sqlite", how)
    async with Session(home, **options(server)) as session:
        session.reject("labels-1", session.pending()[0].id, by="ada", reason="another, please")
        events = len(session.store.ledger.events())
        with pytest.raises(HomeDamaged, match=r"checkpoints\.sqlite no longer has where it stood.*backup"):
            await session.resume("labels-1")
        assert len(session.store.ledger.events()) == events


async def test_a_new_campaign_never_goes_on_with_the_checkpoints_of_another(home: Path, server: Served) -> None:
    other = home.parent / "other"
    async with Session(other, **options(server)) as session:
        assert session.create("labels", rules=RULES, seed=SEED) == "labels-1"
        shutil.copy(home / "checkpoints.sqlite", other / "checkpoints.sqlite")
        with pytest.raises(HomeDamaged, match="of another campaign 'labels-1'"):
            await session.resume("labels-1")
        assert session.store.ledger.events() == []


async def test_a_fork_that_died_before_its_first_state_begins_from_there_all_the_same(
    home: Path, server: Served
) -> None:
    async with Session(home, **options(server)) as session:
        [point] = [each.id for each in await session.history("labels-1") if each.next == ["scaffold_editor"]]
        original = session.store.campaigns.get("labels-1").settings
    assert dies(FORK, str(home), point, fault="campaign.created:1")
    async with Session(home, **options(server)) as session:
        assert await session.history("fork") == []
        nodes = [event.node async for event in session.stream("fork") if event.kind == "node"]
        assert nodes[0] == "scaffold_editor"
        assert session.status("fork").status is Status.WAITING
        settings = session.store.campaigns.get("fork").settings
        assert settings["rules"] == original["rules"]
        assert {event.trace_id for event in session.store.ledger.events("fork")} == {settings["trace_id"]}


def test_campaigns_that_are_started_at_once_without_a_name_get_one_each(tmp_path: Path) -> None:
    sessions = [Session.sync(tmp_path, plugins=False) for _ in range(4)]
    with ExitStack() as stack, ThreadPoolExecutor(len(sessions)) as pool:
        for session in sessions:
            stack.enter_context(session)
        names = pool.map(lambda session: [session.create("labels") for _ in range(5)], sessions)
        assert sorted(name for each in names for name in each) == sorted(f"labels-{number}" for number in range(1, 21))
