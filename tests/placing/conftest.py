"""Pictures that the tests of this folder place."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.placing.pile import Pile


@pytest.fixture
def pile(tmp_path: Path) -> Pile:
    made = Pile(tmp_path)
    made.add("a/1.jpg", "cat").chmod(0o604)
    made.add("b/1.jpg", "cat")
    made.add("b/2.jpg", "dog/puppy")
    made.add("b/3.jpg", "cat", unsure=True)
    return made
