"""scikit-learn's own checks of an estimator, all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from infoae import InfoAEClusterer
from tests.estimator.settings import on_rows

FAIL: dict[str, str] = {}


def expected(_estimator: InfoAEClusterer) -> dict[str, str]:
    return FAIL


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks([on_rows()], expected_failed_checks=expected)  # type: ignore[untyped-decorator]
def test_check(estimator: InfoAEClusterer, check: Callable[[Any], None]) -> None:
    check(estimator)
