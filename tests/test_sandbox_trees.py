"""Promises about folders that a candidate wrote in: seen whole, and removed, whatever is in them."""

import os
import signal
import stat
import time

import pytest

from pawl.safety.sandbox.trees import Moved, entries, remove_tree, written


def deep(folder, depth, name="d"):
    here = os.getcwd()
    os.chdir(folder)
    try:
        for _ in range(depth):
            os.mkdir(name)
            os.chdir(name)
        open("deepest", "w").close()
    finally:
        os.chdir(here)


def test_what_lies_deeper_than_any_path_can_say_is_seen_and_removed(tmp_path):
    folder, outside = tmp_path / "work", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (outside / "kept").write_text("x")
    deep(folder, 1500)
    deep(folder, 20, "x" * 250)
    (folder / "link").symlink_to(outside)
    (folder / "d" / "closed").mkdir()
    (folder / "d" / "closed" / "file").write_text("x")
    (folder / "d" / "closed").chmod(0)
    os.mkfifo(folder / "pipe")
    names = [name for _, name, _ in entries(folder)]
    assert (names.count("d"), names.count("deepest"), names.count("x" * 250)) == (1500, 2, 20)
    assert "kept" not in names
    remove_tree(folder)
    assert not folder.exists()
    assert (outside / "kept").read_text() == "x"


def test_a_folder_comes_before_what_is_in_it_and_links_are_named_not_followed(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "link").symlink_to("/")
    seen = list(entries(tmp_path))
    assert [name for _, name, _ in seen] == ["a", "b", "link"]
    assert stat.S_ISLNK(seen[-1][2].st_mode)


def test_a_folder_that_is_not_there_holds_nothing(tmp_path):
    assert list(entries(tmp_path / "none")) == []
    remove_tree(tmp_path / "none")


def test_folders_that_are_moved_while_they_are_walked_hide_nothing(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "x").mkdir(parents=True)
        (tmp_path / name / "x" / f"file-{name}").write_text("x")
    seen = set()
    for _, name, _ in entries(tmp_path):
        if name == "x":
            for other in {"a", "b"} - seen:
                os.rename(tmp_path / other / "x", tmp_path / f"moved-{other}")
                os.mkdir(tmp_path / other / "x")
                (tmp_path / other / "x" / f"file-{other}").write_text("x")
        seen.add(name)
    assert {"a", "b", "file-a", "file-b"} <= seen


def test_a_walk_that_is_led_astray_in_the_deep_says_so(tmp_path):
    deep(tmp_path, 60)
    (tmp_path / "elsewhere").mkdir()

    def look():
        for _, name, _ in entries(tmp_path):
            if name == "deepest":
                (tmp_path / "/".join("d" * 50)).rename(tmp_path / "elsewhere" / "d")

    with pytest.raises(Moved):
        look()


def test_a_folder_that_goes_while_it_is_walked_is_no_trouble(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_text("x")
    seen = []
    for _, name, _ in entries(tmp_path):
        seen.append(name)
        if name == "file":
            remove_tree(tmp_path / "a")
    assert seen == ["a", "b", "file"]


def test_what_is_written_is_seen_while_folders_are_moved_to_and_fro(tmp_path):
    for number in range(40):
        (tmp_path / f"d{number}").mkdir()
    first, *_, one, two, three, four = os.listdir(tmp_path)
    (tmp_path / first / "file").write_bytes(b"x" * (4 << 20))
    children = []
    for here, there in ((one, two), (three, four)):
        here, there = tmp_path / here / "x", tmp_path / there / "x"
        here.mkdir()
        for number in range(300):
            (here / str(number)).touch()
        pid = os.fork()
        if pid == 0:
            while True:
                os.rename(here, there)
                os.rename(there, here)
        children.append(pid)
    try:
        time.sleep(0.05)
        looks = [written(tmp_path, 1 << 30) for _ in range(30)]
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    assert min(looks) > 4 << 20


def test_more_files_than_a_look_is_for_are_too_much(tmp_path):
    for number in range(40):
        (tmp_path / str(number)).touch()
    assert written(tmp_path, 1 << 30, files=40) == 40 * 4096
    assert written(tmp_path, 1 << 30, files=39) > 1 << 30
    assert written(tmp_path, 40 * 4096 - 1) >= 40 * 4096
