"""requirements-dev.lock pins all that pyproject.toml asks for, and where packages come from is not its business."""

from __future__ import annotations

import os

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.helpers.paths import PROJECT, ROOT

LINES = [line.partition("#")[0].strip() for line in (ROOT / "requirements-dev.lock").read_text().splitlines()]
LOCKED = [Requirement(line) for line in LINES if line]
PLATFORMS = [
    {
        "python_version": version,
        "python_full_version": f"{version}.1",
        "sys_platform": system,
        "platform_machine": machine,
    }
    for version in ("3.11", "3.12", "3.13", "3.14")
    for system, machine in (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"))
]


@pytest.mark.parametrize("line", [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]])
def test_what_pyproject_asks_for_is_pinned_to_one_version_that_it_allows(line: str) -> None:
    asked = Requirement(line)
    pins = [pin for pin in LOCKED if canonicalize_name(pin.name) == canonicalize_name(asked.name)]
    for platform in PLATFORMS:
        if asked.marker is not None and not asked.marker.evaluate(platform):
            continue
        here = [pin for pin in pins if pin.marker is None or pin.marker.evaluate(platform)]
        assert len(here) == 1, f"{asked.name} on {platform}: run `just lock`"
        (version,) = here[0].specifier
        assert version.operator == "=="
        assert asked.specifier.contains(version.version), f"{here[0]}: run `just lock`"


def test_a_lock_names_no_index() -> None:
    assert all(pin.url is None for pin in LOCKED)
    assert not any(line.startswith("-") for line in LINES)


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="in one process all tests are together")
@pytest.mark.xdist_group("ray")
def test_these_versions_keep_groups_of_tests_together(request: pytest.FixtureRequest) -> None:
    """Or Rays would run beside each other, and what a file makes once would be made by each worker."""
    assert request.node.nodeid.endswith("@ray")
