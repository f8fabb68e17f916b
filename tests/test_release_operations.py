from pathlib import Path

import pytest

from pawl.core import Conflict, Database, NotFound
from pawl.release import Operations

from .postgres_fixtures import database, postgres_server  # noqa: F401
from .release_fixtures import dies

ONCE = """
    import asyncio, sys
    from pathlib import Path
    from pawl.core import Database
    from pawl.release import Operations

    url, folder = sys.argv[1:]

    async def effect():
        with (Path(folder) / "tries").open("a") as tries:
            tries.write("x")
        (Path(folder) / "result").write_text("adapter")
        return {"adapter": "abc"}

    print(asyncio.run(Operations(Database(url)).once("c1/3/trainer", "train", effect)))
"""


class Effect:
    def __init__(self, result: object = "done", error: Exception | None = None) -> None:
        self.calls, self.result, self.error = 0, result, error

    async def __call__(self):
        self.calls += 1
        if self.error is not None:
            raise self.error
        return self.result


@pytest.mark.parametrize("result", [{"b": [1, None], "a": 0.1}, "text", 0, None, []])
async def test_an_effect_is_done_once_and_its_result_kept(db: Database, result: object):
    operations = Operations(db)
    first, second = Effect(result), Effect("never")
    assert await operations.once("k", "train", first) == result
    assert await operations.once("k", "train", second) == result
    assert (first.calls, second.calls) == (1, 0)
    assert operations.lookup("k") == result
    assert operations.unfinished() == []


async def test_an_effect_that_failed_is_tried_again(db: Database):
    operations = Operations(db)
    with pytest.raises(OSError, match="disk"):
        await operations.once("k", "train", Effect(error=OSError("disk")))
    assert [operation.key for operation in operations.unfinished()] == ["k"]
    assert operations.lookup("k") is None
    assert await operations.once("k", "train", Effect("mended")) == "mended"


async def test_the_first_result_counts_and_a_key_has_one_kind(db: Database):
    operations = Operations(db)
    operations.begin("k", "train")
    operations.begin("k", "train")
    assert operations.finish("k", 1) == 1
    assert operations.finish("k", 2) == 1
    with pytest.raises(Conflict, match="'train', not a 'promote'"):
        await operations.once("k", "promote", Effect())
    with pytest.raises(NotFound, match="begin"):
        operations.finish("other", 1)


@pytest.mark.parametrize(
    ("fault", "tries"), [("operation.begun:1", 1), ("operation.effected:1", 2), ("operation.finished:1", 1)]
)
def test_killed_anywhere_in_an_operation_it_is_finished_by_the_next_try(fault: str, tries: int, tmp_path: Path):
    db = Database.sqlite(tmp_path / "pawl.sqlite")
    db.create()
    assert dies(ONCE, db.url, str(tmp_path), fault=fault)
    assert not dies(ONCE, db.url, str(tmp_path), fault="none:1")
    assert Operations(db).lookup("c1/3/trainer") == {"adapter": "abc"}
    assert len((tmp_path / "tries").read_text()) == tries
