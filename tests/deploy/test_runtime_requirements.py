"""deploy/requirements-runtime.txt is enough for the run-time half, and is the same as in pyproject.toml."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from infoae.data import sound
from infoae.deploy.bundle import Bundle, write_checksums, write_manifest
from tests.helpers.bundles import make_bundle
from tests.helpers.paths import PROJECT, ROOT, TEST_IMAGES
from tests.helpers.sounds import encoded, tone

PROGRAM = """
import sys
allowed = set({allowed!r})
installed = set({installed!r})

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in installed - allowed:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
import typer
from infoae.cli.augment import augment
from infoae.cli.classify import classify
from infoae.cli.generate import generate
app = typer.Typer()
for command in (classify, generate, augment):
    app.command(command.__name__)(command)
app()
"""


def requirements() -> list[Requirement]:
    lines = (ROOT / "deploy/requirements-runtime.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def needed(names: set[str]) -> set[str]:
    """The distributions that pip would install for `names`."""
    found: set[str] = set()
    while names:
        name = names.pop()
        found.add(name)
        for line in metadata.requires(name) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                names |= {normal(requirement.name)} - found
    return found


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_requirements_are_enough(tmp_path: Path) -> None:
    names = {normal(requirement.name) for requirement in requirements()}
    present = {normal(distribution.metadata["Name"]) for distribution in metadata.distributions()}
    if "onnxruntime" not in present:
        names = names - {"onnxruntime"} | {"onnxruntime-gpu"}
    distributions = needed(names)
    modules = metadata.packages_distributions()
    allowed = [module for module, owners in modules.items() if {normal(owner) for owner in owners} & distributions]
    allowed.append("infoae")  # installed itself, in most environments; here it is the one under test
    program = PROGRAM.format(allowed=allowed, installed=list(modules))
    assert {"torch", "ray", "sklearn", "pandas", "yaml"} & set(modules) - set(allowed)
    model = make_bundle(tmp_path / "bundle")
    write_manifest(model, Bundle.load(model).manifest.model_copy(update={"sound": sound.DEFAULT}))
    write_checksums(model)
    (tmp_path / "x.wav").write_bytes(encoded(tone(440, 0.2, 8000), "WAV", 8000))  # to be resampled
    images, table = str(TEST_IMAGES), tmp_path / "x.parquet"
    store = {"INFOAE_CACHE": "", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for arguments in (
        ["classify", images, str(tmp_path / "x.wav"), "--out", str(tmp_path / "x.csv")],
        ["classify", images, "--out", str(table), "--latent"],
        ["classify", TEST_IMAGES.as_uri(), "--out", f"file://{tmp_path}/store/x.csv"],
        ["generate", "--out", str(tmp_path / "new"), "--count", "1"],
        ["augment", str(tmp_path / "new"), images, "--out", str(tmp_path / "more"), "--count", "1"],
    ):
        command = [sys.executable, "-c", program, *arguments, "--model", str(model)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | store)
        assert done.returncode == 0, done.stderr
        assert ("1 .csv" in done.stderr) == (arguments[0] == "augment")  # the generated folder's index is no image


def test_the_versions_are_those_of_the_package() -> None:
    wanted = {Requirement(line).name: Requirement(line).specifier for line in PROJECT["dependencies"]}
    for requirement in requirements():
        assert wanted[requirement.name] == requirement.specifier


def test_what_git_ignores_stays_out_of_containers() -> None:
    """`COPY . .` would take runs and virtual environments along."""
    kept_out = (ROOT / ".dockerignore").read_text().split()
    for pattern in (ROOT / ".gitignore").read_text().split():
        name = pattern.strip("/")
        assert name.startswith(".") or {name, f"**/{name}"} & set(kept_out), pattern
