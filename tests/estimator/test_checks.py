"""scikit-learn's own checks of an estimator, all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from infoae import InfoAEClusterer
from tests.estimator.settings import on_rows

OF_ONE = "it sets n_clusters to 1, and between fewer than two categories there is no mutual information"
FAIL = {
    "check_dont_overwrite_parameters": OF_ONE,
    "check_fit2d_1feature": OF_ONE,
    "check_fit2d_predict1d": OF_ONE,
    "check_methods_subset_invariance": f"{OF_ONE}; float32 is rounded otherwise where fewer are computed at once",
}
"""The checks that fail, and why. The tests below are the same but for what makes them fail."""


def expected(_estimator: InfoAEClusterer) -> dict[str, str]:
    """Return the checks that fail."""
    return FAIL


class OfAtLeastTwo(InfoAEClusterer):
    """One that takes two categories for one."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, 2 if (name, value) == ("n_clusters", 1) else value)


@pytest.mark.slow
@parametrize_with_checks([on_rows()], expected_failed_checks=expected)  # type: ignore[untyped-decorator]
def test_check(estimator: InfoAEClusterer, check: Callable[[Any], None]) -> None:
    check(estimator)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FAIL if "invariance" not in name])
def test_checks_of_one_category_pass_with_two(name: str) -> None:
    getattr(estimator_checks, name)("InfoAEClusterer", OfAtLeastTwo(**on_rows().get_params()))


def test_answers_for_one_sample_are_those_among_others() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 3))
    fitted = on_rows().fit(rows)
    for method in (fitted.predict_proba, fitted.transform):
        found = np.concatenate([method(rows[number : number + 1]) for number in range(40)])
        np.testing.assert_allclose(found, method(rows), rtol=1e-5, atol=1e-5)
