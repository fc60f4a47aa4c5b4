from __future__ import annotations

from pathlib import Path

import pytest

from infoae.config import Config
from infoae.errors import InfoAEError, Notice, UsageError
from infoae.runs.run import Run


def test_a_run_keeps_its_resolved_config_and_latest_points_to_it(tmp_path: Path, tiny_config: Config) -> None:
    first = Run.create(tmp_path, "one", "smoke", tiny_config)
    assert first.config() == tiny_config
    second = Run.create(tmp_path, None, "smoke", tiny_config)
    assert second.name.startswith("smoke-")
    assert Run.open("latest", tmp_path).path == second.path
    assert Run.open(tmp_path / "latest").path == second.path
    assert Run.open("one", tmp_path).path == Run.open(tmp_path / "one").path == first.path
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["latest", "one", second.name])


def test_unnamed_runs_of_one_second_get_names_of_their_own(tmp_path: Path, tiny_config: Config) -> None:
    assert len({Run.create(tmp_path, None, "smoke", tiny_config).name for _ in range(3)}) == 3


def test_a_taken_name_is_refused_and_the_run_left_alone(tmp_path: Path, tiny_config: Config) -> None:
    Run.create(tmp_path, "one", "smoke", tiny_config)
    with pytest.raises(UsageError, match="--resume one"):
        Run.create(tmp_path, "one", "smoke", tiny_config.model_copy(update={"seed": 9}))
    assert Run.open("one", tmp_path).config().seed == tiny_config.seed


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "latest", "-x", "a b"])
def test_names_that_are_no_folder_names_are_refused(name: str, tmp_path: Path, tiny_config: Config) -> None:
    with pytest.raises(UsageError, match="run name"):
        Run.create(tmp_path, name, "smoke", tiny_config)


def test_a_missing_run_says_where_it_was_sought(tmp_path: Path) -> None:
    with pytest.raises(InfoAEError, match=r"no run 'gone', neither that folder nor in "):
        Run.open("gone", tmp_path)
    with pytest.raises(InfoAEError, match="start one with infoae train"):
        Run.open("latest", tmp_path)


def test_a_latest_that_is_no_link_is_not_overwritten(tmp_path: Path, tiny_config: Config) -> None:
    (tmp_path / "latest").mkdir()
    (tmp_path / "latest" / "precious").touch()
    with pytest.warns(Notice, match="no link .*latest to one"):
        Run.create(tmp_path, "one", "smoke", tiny_config)
    assert (tmp_path / "latest" / "precious").exists()
    assert Run.open("one", tmp_path).config() == tiny_config


def test_each_start_is_added_to_the_environment(finished_run: Run) -> None:
    entries = finished_run.environments()
    assert [entry["step"] for entry in entries] == [0]
    assert entries[0]["versions"]["torch"]
    assert entries[0]["precision"] == "float32"
    assert (entries[0]["seed"], entries[0]["threads"] > 0) == (0, True)


@pytest.mark.parametrize("content", ["", "{", "3", "[1]"])
def test_a_damaged_environment_is_one_line(tmp_path: Path, tiny_config: Config, content: str) -> None:
    run = Run.create(tmp_path, "one", "smoke", tiny_config)
    run.add_environment({"seed": 0})
    assert run.environments() == [{"seed": 0}]
    (run.path / "environment.json").write_text(content)
    with pytest.raises(InfoAEError, match=r"environment\.json is damaged .*remove it"):
        run.add_environment({"seed": 1})


@pytest.mark.parametrize("content", ["", "[]", '{"categories": 3}', '{"information_kept": {"two": 1.0}}'])
def test_a_damaged_curve_of_categories_is_one_line(tmp_path: Path, tiny_config: Config, content: str) -> None:
    run = Run.create(tmp_path, "one", "smoke", tiny_config)
    assert run.information_kept() == {}
    (run.path / "categories.json").write_text(content)
    with pytest.raises(InfoAEError, match=r"categories\.json is damaged .*remove it"):
        run.information_kept()
