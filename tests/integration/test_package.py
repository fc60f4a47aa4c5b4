"""The promises of pyproject and the layout; those of the pages are in docs/test_pages.py."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.markers import Marker

from infoae.config import recipes
from tests.helpers.paths import PROJECT, ROOT


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")) if ".venv" not in path.parts]


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_exactly_one_onnxruntime_is_asked_for_on_every_platform() -> None:
    markers = [Marker(line.partition(";")[2]) for line in PROJECT["dependencies"] if line.startswith("onnxruntime")]
    assert len(markers) == 2
    for system in ("linux", "win32", "darwin"):
        for machine in ("x86_64", "AMD64", "aarch64", "arm64"):
            environment = {"sys_platform": system, "platform_machine": machine}
            assert sum(marker.evaluate(environment) for marker in markers) == 1, environment


def test_development_tools_are_pinned_and_the_library_is_not() -> None:
    assert all("==" in line for line in PROJECT["optional-dependencies"]["dev"])
    assert not any("==" in line.partition(";")[0] for line in PROJECT["dependencies"])


def test_top_level_folders_are_linked_into_the_package() -> None:
    for name in ("cli", "deploy", "configs"):
        link = ROOT / "infoae" / name
        assert link.is_symlink()
        assert link.resolve() == ROOT / name


def test_commands_import_nothing_heavy_before_they_run() -> None:
    heavy = {"torch", "ray", "numpy", "matplotlib", "onnxruntime", "sklearn", "wandb"}
    assert len(sources("cli")) > 10
    for path in sources("cli"):
        found = {name.partition(".")[0] for name in imports(path, top_level_only=True)}
        assert not found & heavy, path


def test_the_package_imports_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; import infoae, infoae.data, infoae.config; print(infoae.__version__)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.filterwarnings("ignore::infoae.errors.Notice")  # of keys of 0.1, which some of them have
@pytest.mark.filterwarnings("ignore::infoae.errors.Notice")  # results of version 0.1 have its keys
def test_results_can_be_gone_on_with() -> None:
    results = ROOT / "docs" / "results"
    seeds = [*results.glob("mnist/seed-*.json"), *results.glob("mnist-best*/seed-*.json")]
    recipes_found = list(results.glob("tune-*/best.yaml"))
    assert len(seeds) >= 2
    assert recipes_found
    for path in seeds:
        recipes.parse(json.dumps(json.loads(path.read_text())["config"]), str(path))
    for path in recipes_found:
        recipes.load(path)
