import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pawl.core import ArtifactDamaged, ArtifactMissing, ArtifactStore, ConfigurationError, digest_bytes, digest_tree

KILLED_IN_PUT = """
import os, signal, sys
from pathlib import Path
from pawl.core import ArtifactStore

where, when = sys.argv[1:]
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(os, when, die)
ArtifactStore(Path(where)).put(b"weights" * 100_000)
"""


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200))
def test_bytes_come_back_under_their_digest(store: ArtifactStore, data: bytes):
    digest = store.put(data)
    assert digest == digest_bytes(data)
    assert store.has(digest)
    assert store.get(digest) == data


def test_json_and_trees_come_back_and_a_checkout_is_the_tree(store: ArtifactStore, tmp_path: Path):
    assert store.get_json(store.put_json({"b": 1, "a": [None]})) == {"a": [None], "b": 1}
    files = {"agent.py": b"print()", "prompts/first.md": b"hello", "empty": b""}
    digest = store.put_tree(files)
    assert digest == digest_tree(files)
    assert store.get_tree(digest) == files
    store.checkout(digest, tmp_path / "out")
    assert {
        str(path.relative_to(tmp_path / "out")): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    } == files


def test_the_same_bytes_are_written_once(store: ArtifactStore):
    path = store.path(store.put(b"x"))
    before = path.stat().st_mtime_ns, path.stat().st_ino
    store.put(b"x")
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before
    assert [file for file in store.root.rglob("*") if file.is_file()] == [path]


def test_a_missing_artefact_is_told_from_a_damaged_one(store: ArtifactStore):
    digest = store.put(b"weights")
    path = store.path(digest)
    for damage in (b"weightz", b"weigh", b""):
        path.write_bytes(damage)
        with pytest.raises(ArtifactDamaged, match=digest[:12]):
            store.get(digest)
    path.unlink()
    with pytest.raises(ArtifactMissing, match="backup"):
        store.get(digest)
    assert store.put(b"weights") == digest
    assert store.get(digest) == b"weights"


def test_a_tree_with_one_file_gone_is_missing_not_smaller(store: ArtifactStore):
    digest = store.put_tree({"a": b"1", "b": b"2"})
    store.path(digest_bytes(b"2")).unlink()
    with pytest.raises(ArtifactMissing):
        store.get_tree(digest)
    with pytest.raises(ArtifactDamaged, match="manifest"):
        store.get_tree(store.put_json([1]))


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../up", "a/../../b", "a\\b", "a\0b"])
def test_a_path_that_leaves_its_tree_is_refused_on_the_way_in_and_out(store: ArtifactStore, path: str, tmp_path: Path):
    with pytest.raises(ConfigurationError, match="file tree"):
        store.put_tree({path: b"x"})
    planted = store.put_json({path: store.put(b"x")})
    with pytest.raises(ConfigurationError, match="file tree"):
        store.checkout(planted, tmp_path / "out")


@pytest.mark.parametrize("digest", ["", "abc", "A" * 64, "../" + "a" * 61, "g" * 64])
def test_what_is_no_digest_never_becomes_a_path(store: ArtifactStore, digest: str):
    with pytest.raises(ConfigurationError, match="64 hexadecimal"):
        store.get(digest)


@pytest.mark.parametrize("when", ["fsync", "replace"])
def test_killed_in_a_put_nothing_is_there_and_the_next_put_is_whole(store: ArtifactStore, when: str):
    data = b"weights" * 100_000
    killed = subprocess.run([sys.executable, "-c", KILLED_IN_PUT, str(store.root), when], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not store.has(digest_bytes(data))
    assert store.get(store.put(data)) == data


def test_a_disk_that_refuses_leaves_no_rest(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            store.put(b"data")
    assert [file for file in store.root.rglob("*") if file.is_file()] == []
    assert store.get(store.put(b"data")) == b"data"


def test_threads_that_put_the_same_bytes_agree(store: ArtifactStore):
    data, found = b"x" * 100_000, []
    threads = [threading.Thread(target=lambda: found.append(store.get(store.put(data)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [data] * 8
