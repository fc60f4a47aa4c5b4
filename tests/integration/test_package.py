"""The promises of pyproject, README and the layout."""

from __future__ import annotations

import ast
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

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


def test_imports_go_one_way() -> None:
    for path in (ROOT / "infoae").glob("*.py"):
        assert not any(name.startswith(("infoae.cli", "infoae.deploy")) for name in imports(path)), path
    for path in sources("deploy"):
        assert not any(name.startswith("infoae.cli") for name in imports(path)), path


def test_commands_import_nothing_heavy_before_they_run() -> None:
    heavy = {"torch", "ray", "numpy", "matplotlib", "onnxruntime", "sklearn", "wandb"}
    for path in sources("cli"):
        found = {name.partition(".")[0] for name in imports(path, top_level_only=True)}
        assert not found & heavy, path


def test_the_package_imports_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; import infoae, infoae.data, infoae.config; print(infoae.__version__)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_every_folder_and_file_that_readme_names_is_there() -> None:
    for name in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / name).exists(), name


def test_readme_commands_are_one_line_each_and_options_exist() -> None:
    text = (ROOT / "README.md").read_text()
    for marker in ("train", "test"):
        block = re.search(rf"<!-- {marker} -->\n```bash\n(.*?)```", text, re.DOTALL)
        assert block, marker
        assert block[1].count("\n") == 1
        assert block[1].startswith("python3 -m venv .venv && .venv/bin/pip install")


def test_results_in_the_pages_are_the_committed_ones() -> None:
    results = ROOT / "docs" / "results"
    summary = json.loads((results / "mnist" / "summary.json").read_text())
    readme, page = (ROOT / "README.md").read_text(), (ROOT / "docs" / "results.md").read_text()
    for text in (readme, page):
        assert summary["command"] in text
        assert f"{summary['measures']['accuracy']['mean']:.2%}".replace("%", " %") in text
        assert f"{summary['measures']['accuracy']['worst']:.2%}".replace("%", " %") in text
    for table in results.glob("*/summary.md"):
        rows = [line for line in table.read_text().splitlines() if line.startswith("|")]
        assert [row for row in rows if row not in page] == []
    for name in ("scaling.json", "scaling-best.json"):
        scaled = json.loads((results / name).read_text())
        for situation in ("two, weak scaling", "two, strong scaling"):
            ratios = scaled[situation]["ratios"]
            assert f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" in page
    ratios = json.loads((results / "classify.json").read_text())["ratios"]
    assert f"{ratios['classifier/torch_eager']:.2f} times torch eager (asked for 1.5)" in page
    four = json.loads((results / "four-nodes.json").read_text())
    for run in (four["four_nodes"], four["one_process"]):
        assert f"{run['accuracy']:.2%}".replace("%", " %") in page
    assert f"{four['four_nodes']['accuracy_of_exported_labels']:.2%}".replace("%", " %") in page


def test_results_can_be_gone_on_with() -> None:
    results = ROOT / "docs" / "results"
    for path in [*results.glob("mnist/seed-*.json"), *results.glob("mnist-best*/seed-*.json")]:
        recipes.parse(json.dumps(json.loads(path.read_text())["config"]), str(path))
    for path in results.glob("tune-*/best.yaml"):
        recipes.load(path)
