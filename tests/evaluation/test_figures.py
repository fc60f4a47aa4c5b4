from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from infoae.data import ImageSet
from infoae.evaluation import figures
from infoae.model import InfoAE
from infoae.runs.run import Run


def test_every_figure_is_a_png_with_something_in_it(finished_run: Run, mnist: tuple[ImageSet, ImageSet]) -> None:
    model = InfoAE.of_run(finished_run)
    written = dict(figures.draw_all(finished_run, model, mnist[1]))
    assert {"samples", "reconstructions", "interpolation_within", "losses", "confusion", "tsne"} <= set(written)
    for path in written.values():
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert np.asarray(image.convert("L")).std() > 5
    assert sorted(p.name for p in finished_run.figures.iterdir()) == sorted(p.name for p in written.values())


def test_data_without_labels_gets_the_figures_that_need_none(
    finished_run: Run, mnist: tuple[ImageSet, ImageSet]
) -> None:
    unlabelled = ImageSet(mnist[1].images[:60], None)
    names = [name for name, _ in figures.draw_all(finished_run, InfoAE.of_run(finished_run), unlabelled)]
    assert "confusion" not in names
    assert "tsne" in names


@pytest.mark.parametrize("number", [1, 2, 5, 13, 40])
def test_any_number_of_images_can_be_drawn(number: int, finished_run: Run, mnist: tuple[ImageSet, ImageSet]) -> None:
    few = ImageSet(mnist[1].images[:number], None)
    names = [name for name, _ in figures.draw_all(finished_run, InfoAE.of_run(finished_run), few)]
    assert {"samples", "reconstructions"} <= set(names)


def test_interpolation_pairs_are_within_or_between_categories(
    finished_run: Run, mnist: tuple[ImageSet, ImageSet]
) -> None:
    model, answers = InfoAE.of_run(finished_run), np.array([0, 0, 1, 1, 2, 2] * 5)
    data = ImageSet(mnist[1].images[:30], None)
    for within in (True, False):
        figure = figures.interpolation(model, data, answers, within)
        assert figure is not None
        assert len(figure.axes[0].get_yticks()) == 3  # one row for each starting category
        figure.savefig(io.BytesIO(), format="png")
    assert figures.interpolation(model, data, np.zeros(30, np.int64), within=False) is None
