"""Pictures into folders and back: nothing overwritten, lost, doubled, or removed that people changed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import get_args

import pytest

from infoae.errors import InfoAEError, UsageError
from infoae.placing import place as placing
from infoae.placing import transfer
from infoae.placing.place import Row
from infoae.placing.transfer import How
from tests.placing.killing import listed, tree
from tests.placing.pile import Pile

HOWS = get_args(How)
PLACED = ["cat/1 (2).jpg", "cat/1.jpg", "dog_puppy/2.jpg", "unsure/3.jpg"]


@pytest.mark.parametrize("how", HOWS)
def test_each_picture_comes_where_it_belongs_as_it_was_and_back(pile: Pile, how: How) -> None:
    before = tree(pile.source)
    steps: list[int] = []
    outcome = placing.place(pile.planned(how), steps.append)
    assert sum(steps) == 4 == outcome.done.total()
    assert not outcome.left
    assert pile.names() == PLACED
    assert sorted(tree(pile.into).values()) == sorted(before.values())  # content, permissions and time
    assert tree(pile.into)["cat/1.jpg"] == before["a/1.jpg"]
    assert tree(pile.source) == ({} if how == "move" else before)
    if how == "link":
        assert (pile.into / "cat/1.jpg").samefile(pile.source / "a/1.jpg")
        assert set(outcome.done) == {"hard link"}
    undone = placing.undo(pile.journal)
    assert (undone.done, undone.left) == (outcome.done, [])
    assert tree(pile.source) == before
    assert listed(pile.root) == ["photos"]  # neither folders nor journal


@pytest.mark.parametrize("how", HOWS)
def test_the_same_call_again_does_only_what_is_new(pile: Pile, how: How) -> None:
    pile.place(how)
    before = tree(pile.into)
    assert pile.place(how).done.total() == 0
    pile.add("c/1.jpg", "cat")
    preview = pile.planned(how)
    assert (preview.placed, [entry.target for entry in preview.entries]) == (4, ["cat/1 (3).jpg"])
    placing.place(preview)
    assert {name: file for name, file in tree(pile.into).items() if name != "cat/1 (3).jpg"} == before


def test_a_preview_says_all_and_changes_nothing(pile: Pile) -> None:
    (pile.into / "cat").mkdir(parents=True)
    (pile.into / "cat" / "1.JPG").write_text("the user's")
    before = tree(pile.root)
    preview = pile.planned()
    told = "\n".join(preview.describe())
    assert tree(pile.root) == before
    assert preview.counts() == {"cat": 2, "dog_puppy": 1, "unsure": 1}
    assert preview.needed == 4 * 4096  # a block each
    assert "4 pictures would be copied into 3 folders of" in told
    assert "  cat: 2" in told
    assert "2 have a name that is taken" in told
    assert "cat/1 (2).jpg for" in told
    placing.place(preview)
    assert (pile.into / "cat" / "1.JPG").read_text() == "the user's"
    assert pile.names() == ["cat/1 (2).jpg", "cat/1 (3).jpg", "cat/1.JPG", "dog_puppy/2.jpg", "unsure/3.jpg"]


def test_many_that_are_refused_are_a_few_lines(pile: Pile) -> None:
    rows = [placing.Row(pile.root / f"gone/{number}.jpg", "cat") for number in range(1000)]
    preview = placing.planned(rows, pile.into, "copy", placing.beside(pile.into), [pile.root / "gone"])
    refused = [line for line in preview.describe() if line.startswith("refused: ")]
    assert (len(refused), refused[-1]) == (6, "refused: and 995 more")
    with pytest.raises(InfoAEError, match=r"nothing was copied: .*; and 995 more$"):
        preview.check()


@pytest.mark.parametrize("how", HOWS)
def test_what_came_since_the_preview_is_not_overwritten(pile: Pile, how: How, monkeypatch: pytest.MonkeyPatch) -> None:
    preview = pile.planned(how)
    original = transfer.copy if how == "copy" else transfer.link if how == "link" else transfer.move

    def raced(source: Path, target: Path, *temporary: Path) -> transfer.Kind:
        if target.name == "1.jpg" and not target.exists():
            target.write_text("another's")
        return original(source, target, *temporary)

    monkeypatch.setattr(transfer, how, raced)
    placing.place(preview)
    assert (pile.into / "cat/1.jpg").read_text() == "another's"
    assert pile.names() == ["cat/1 (2).jpg", "cat/1 (3).jpg", "cat/1.jpg", "dog_puppy/2.jpg", "unsure/3.jpg"]
    monkeypatch.undo()
    placing.undo(pile.journal)
    assert pile.names() == ["cat/1.jpg"]
    assert sorted(tree(pile.source)) == ["a/1.jpg", "b/1.jpg", "b/2.jpg", "b/3.jpg"]


@pytest.mark.parametrize("how", HOWS)
def test_changed_and_lost_pictures_are_named_before_anything_is_done(pile: Pile, how: How) -> None:
    (pile.source / "a/1.jpg").write_bytes(b"other")
    (pile.source / "b/2.jpg").unlink()
    with pytest.raises(
        InfoAEError, match=r"^nothing was .*a/1.jpg changed since it was labelled.*b/2.jpg was labelled"
    ):
        pile.place(how)
    assert not pile.into.exists()
    assert not pile.journal.exists()


def test_a_picture_that_changes_after_the_preview_is_left_and_named(pile: Pile) -> None:
    preview = pile.planned("move")
    (pile.source / "b/2.jpg").write_bytes(b"other")
    outcome = placing.place(preview)
    assert [line.partition(" ")[0] for line in outcome.left] == [str(pile.source / "b/2.jpg")]
    assert (pile.source / "b/2.jpg").read_bytes() == b"other"
    assert placing.undo(pile.journal).left == []


def test_folders_in_each_other_are_refused(pile: Pile) -> None:
    for into in (pile.source / "b" / "sorted", pile.source, pile.root):
        pile.into = into
        with pytest.raises(UsageError, match="lie in each other"):
            pile.planned()
    (pile.root / "link").symlink_to(pile.source)
    pile.into = pile.root / "link" / "sorted"
    with pytest.raises(UsageError, match="lie in each other"):
        pile.planned()


def test_no_space_is_said_before(pile: Pile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 4 * 4096 - 1}))
    with pytest.raises(InfoAEError, match="too little space"):
        pile.place()
    assert not pile.into.exists()
    assert pile.place("move").done == {"move": 4}  # needs none


def test_no_link_is_followed_out(pile: Pile) -> None:
    outside = pile.root / "outside"
    outside.mkdir()
    (outside / "x.jpg").write_text("x")
    pile.into.mkdir()
    (pile.into / "cat").symlink_to(outside)
    with pytest.raises(InfoAEError, match="cat is a link or a file"):
        pile.place()
    (pile.into / "cat").unlink()
    preview = pile.planned()
    (pile.into / "cat").symlink_to(outside)
    with pytest.raises(InfoAEError, match="is a link or no folder now"):
        placing.place(preview)
    assert listed(outside) == ["x.jpg"]


def test_a_move_takes_nothing_from_behind_links(pile: Pile) -> None:
    outside = pile.root / "outside"
    outside.mkdir()
    (outside / "x.jpg").write_text("x")
    (pile.source / "linked").symlink_to(outside)
    (pile.source / "y.jpg").symlink_to(outside / "x.jpg")
    pile.rows += [Row(pile.source / "linked/x.jpg", "cat"), Row(pile.source / "y.jpg", "cat")]
    with pytest.raises(InfoAEError, match=r"linked/x.jpg lies in .*outside.*y.jpg is a link"):
        pile.place("move")
    assert pile.place("copy").done == {"copy": 6}
    assert not (pile.into / "cat/y.jpg").is_symlink()


def test_a_copy_that_was_changed_or_is_the_last_one_is_left_and_named(pile: Pile) -> None:
    pile.place()
    (pile.into / "cat/1.jpg").write_text("edited")
    (pile.into / "cat/own.txt").write_text("the user's")
    (pile.source / "b/2.jpg").unlink()
    left = placing.undo(pile.journal).left
    assert [line.partition(" ")[0] for line in left] == [
        str(pile.into / name) for name in ("dog_puppy/2.jpg", "cat/1.jpg")
    ]
    assert pile.names() == ["cat/1.jpg", "cat/own.txt", "dog_puppy/2.jpg"]
    assert len(placing.undo(pile.journal).left) == 2  # and the journal still knows
    (pile.into / "cat/1.jpg").unlink()
    (pile.into / "dog_puppy/2.jpg").unlink()
    assert placing.undo(pile.journal).left == []
    assert pile.names() == ["cat/own.txt"]


def test_a_moved_picture_comes_not_back_over_another(pile: Pile) -> None:
    pile.place("move")
    (pile.source / "a/1.jpg").write_text("new")
    (pile.into / "unsure/3.jpg").write_text("edited")
    left = placing.undo(pile.journal).left
    assert [re.sub(r".*/sorted/", "", line).partition(":")[0] for line in left] == [
        "unsure/3.jpg changed since it was placed",
        "cat/1.jpg stays",
    ]
    assert (pile.source / "a/1.jpg").read_text() == "new"
    assert pile.names() == ["cat/1.jpg", "unsure/3.jpg"]


def test_another_category_asks_for_undoing_first(pile: Pile) -> None:
    pile.place()
    pile.rows[0] = pile.rows[0]._replace(category="dog/puppy")
    with pytest.raises(
        InfoAEError, match=r"a/1.jpg lies in cat/1.jpg and is of another category now: first infoae sort"
    ):
        pile.place()


def test_a_journal_of_another_kind_version_or_damaged_is_refused(pile: Pile) -> None:
    pile.place()
    with pytest.raises(UsageError, match="is of pictures copied into"):
        pile.planned("move")
    good = pile.journal.read_text()
    placed = pile.names()
    for damaged, message in (
        (good.replace('"version": 1', '"version": 2'), "version 2"),
        (good.replace('{"place": 2', '{"place"; 2'), "line [0-9]+ of journal .* is damaged"),
        (good.replace('"cat/1.jpg"', '"../1.jpg"'), "is damaged"),
        (good.replace('"placed": 1', '"placed": 99'), "is damaged"),
        ("hello\n", "is no journal"),
        ("hello", "is no journal"),
        ("[1]\n", "is no journal"),
    ):
        assert damaged != good
        pile.journal.write_text(damaged)
        with pytest.raises(InfoAEError, match=message):
            placing.undo(pile.journal)
        assert pile.journal.read_text() == damaged
        assert pile.names() == placed
    with pytest.raises(UsageError, match="no journal"):
        placing.undo(pile.root / "none")


def test_half_a_last_line_is_as_if_it_was_never_begun(pile: Pile) -> None:
    before = tree(pile.source)
    pile.place("move")
    content = pile.journal.read_bytes()
    for size in range(content.rindex(b'{"placed": 1'), len(content), 7):
        pile.journal.write_bytes(content[:size])
        preview = pile.planned("move")
        assert preview.placed + len(preview.entries) == 4
        assert placing.place(preview).left == []
        assert pile.names() == PLACED
    pile.journal.write_bytes(pile.journal.read_bytes()[:-3])
    placing.undo(pile.journal)
    assert tree(pile.source) == before


def test_names_that_are_no_text_come_and_go(pile: Pile) -> None:
    name = os.fsdecode(b"\xff\n\x1b.jpg")
    pile.add(name, os.fsdecode(b"\xfe"))
    before = tree(pile.source)
    pile.place("move")
    assert f"_/{name}" in pile.names()
    placing.undo(pile.journal)
    assert tree(pile.source) == before
