"""Promises about folders that a candidate wrote in: seen whole, and removed, whatever is in them."""

import os
import stat

from pawl.safety.sandbox.trees import entries, remove_tree


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
