"""A frozen encoder: features as computed by hand, whatever a file looks like, and one clear line for each bad file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from infoae.config import Features
from infoae.errors import InfoAEError, Notice
from infoae.features.encoder import FrozenEncoder, GivenFeatures, opened
from tests.helpers.encoders import MEAN, STD, by_hand, write_encoder


def pictures(count: int = 5, shape: tuple[int, int, int] = (3, 32, 32)) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (count, *shape), np.uint8)


def frozen(path: Path, **settings: Any) -> FrozenEncoder:
    found = opened(Features(encoder=str(path), **settings))
    assert isinstance(found, FrozenEncoder)
    return found


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"pooled": False},
        {"shape": (1, 3, 32, 32)},
        {"shape": (4, 3, 32, 32)},
        {"shape": ("batch", 3, "height", "width"), "stated": {"mean": MEAN, "std": STD, "size": 32}},
    ],
)
def test_features_are_those_computed_by_hand(settings: Any, tmp_path: Path) -> None:
    encoder = frozen(write_encoder(tmp_path / "e.onnx", **settings))
    assert encoder.image.shape == (3, 32, 32)
    np.testing.assert_allclose(encoder.features(pictures(37), "cpu"), by_hand(pictures(37)), rtol=1e-4, atol=1e-5)


def test_uint8_is_fed_as_it_is(tmp_path: Path) -> None:
    encoder = frozen(write_encoder(tmp_path / "e.onnx", kind=TensorProto.UINT8, stated={}))
    expected = by_hand(pictures(), mean=(0, 0, 0), std=(1 / 255,) * 3)
    np.testing.assert_allclose(encoder.features(pictures(), "cpu"), expected, rtol=1e-4)


def test_a_batch_that_is_fixed_in_the_nodes_is_kept_to(tmp_path: Path) -> None:
    def reshaped(last: str) -> tuple[list[onnx.NodeProto], list[str]]:
        return [helper.make_node("Reshape", [last, "fixed"], ["flat"])], ["flat"]

    fixed = numpy_helper.from_array(np.array([4, 12], np.int64), "fixed")
    encoder = frozen(write_encoder(tmp_path / "e.onnx", (4, 3, 32, 32), tail=reshaped, extra=[fixed]))
    assert encoder.batch == 4
    np.testing.assert_allclose(encoder.features(pictures(7), "cpu"), by_hand(pictures(7)), rtol=1e-4, atol=1e-5)


def test_pictures_of_other_sizes_are_resized_as_files_are_and_grey_is_three_times_grey(tmp_path: Path) -> None:
    encoder = frozen(write_encoder(tmp_path / "e.onnx"))
    shapes: list[tuple[int, int, int]] = [(3, 50, 40), (1, 20, 20)]
    for shape in shapes:
        expected = []
        for pixels in pictures(4, shape):
            picture = Image.fromarray(pixels[0] if shape[0] == 1 else pixels.transpose(1, 2, 0)).convert("RGB")
            small = picture.resize((32, 32), Image.Resampling.BILINEAR)
            expected.append(np.asarray(small).transpose(2, 0, 1))
        found = encoder.features(pictures(4, shape), "cpu")
        np.testing.assert_allclose(found, by_hand(np.stack(expected)), rtol=1e-4, atol=1e-5)


def test_an_encoder_of_grey_pictures_is_fed_grey(tmp_path: Path) -> None:
    stated = {"mean": [0.5], "std": [0.5]}
    encoder = frozen(write_encoder(tmp_path / "e.onnx", ("n", 1, 28, 28), stated=stated))
    grey = pictures(3, (1, 28, 28))
    np.testing.assert_allclose(encoder.features(grey, "cpu"), by_hand(grey, mean=0.5, std=0.5), rtol=1e-4, atol=1e-5)


def test_of_tokens_the_first_is_taken_and_said(tmp_path: Path) -> None:
    def tokens(last: str) -> tuple[list[onnx.NodeProto], list[str]]:
        doubled = helper.make_node("Add", [last, last], ["doubled"])
        parts = [helper.make_node("Unsqueeze", [each, "one"], [f"{each}_token"]) for each in (last, "doubled")]
        return [doubled, *parts, helper.make_node("Concat", ["out_token", "doubled_token"], ["all"], axis=1)], ["all"]

    one = numpy_helper.from_array(np.array([1], np.int64), "one")
    path = write_encoder(tmp_path / "e.onnx", tail=tokens, extra=[one])
    with pytest.warns(Notice, match="of 2 tokens an image, the first is its features"):
        encoder = frozen(path)
    np.testing.assert_allclose(encoder.features(pictures(), "cpu"), by_hand(pictures()), rtol=1e-4, atol=1e-5)


def two_outputs(*names: str) -> Any:
    def tail(last: str) -> tuple[list[onnx.NodeProto], list[str]]:
        return [
            helper.make_node("Identity", [last], [names[0]]),
            helper.make_node("Add", [last, last], [names[1]]),
        ], list(names)

    return tail


def test_of_several_outputs_the_usual_names_or_the_one_that_is_named(tmp_path: Path) -> None:
    usual = frozen(write_encoder(tmp_path / "a.onnx", tail=two_outputs("hidden", "pooler_output")))
    np.testing.assert_allclose(usual.features(pictures(), "cpu"), 2 * by_hand(pictures()), rtol=1e-4, atol=1e-5)
    named = frozen(write_encoder(tmp_path / "b.onnx", tail=two_outputs("hidden", "logits")), output="hidden")
    np.testing.assert_allclose(named.features(pictures(), "cpu"), by_hand(pictures()), rtol=1e-4, atol=1e-5)


def test_another_preprocessing_is_another_encoder(tmp_path: Path) -> None:
    digests = {
        frozen(write_encoder(tmp_path / f"{number}.onnx", stated={"mean": mean, "std": STD})).digest
        for number, mean in enumerate((MEAN, MEAN, (0.1, 0.2, 0.3)))
    }
    assert len(digests) == 2


def nothing(last: str) -> tuple[list[onnx.NodeProto], list[str]]:
    return [helper.make_node("Sub", [last, last], ["zero"])], ["zero"]


def infinite(last: str) -> tuple[list[onnx.NodeProto], list[str]]:
    return [helper.make_node("Sub", [last, last], ["zero"]), helper.make_node("Div", [last, "zero"], ["inf"])], ["inf"]


def one_row(last: str) -> tuple[list[onnx.NodeProto], list[str]]:
    return [helper.make_node("ReduceMean", [last], ["mean_row"], axes=[0], keepdims=1)], ["mean_row"]


@pytest.mark.parametrize(
    ("settings", "given", "message"),
    [
        ({"shape": ("n", 32, 32, 3)}, {}, r"input x is \(\?, 32, 32, 3\); infoae feeds 1 or 3 channels"),
        ({"kind": TensorProto.DOUBLE}, {}, r"input x is double .*infoae feeds float or uint8 \(N, C, H, W\)"),
        ({"shape": ("n", 3, "h", "w")}, {}, "states none: say with features.size how many pixels"),
        ({}, {"size": 64}, "features.size 64: .* takes images of 32 x 32 pixels alone"),
        ({}, {"output": "logits"}, "features.output logits: .* has out"),
        ({"tail": two_outputs("a", "b")}, {}, "has outputs a, b: say with features.output"),
        ({"tail": nothing}, {}, "the features of all 2 images are the same"),
        ({"tail": infinite}, {}, "the features of image 0 are not finite"),
        ({"tail": one_row}, {}, "output mean_row gives 1 rows for 2 images"),
        ({"stated": {"mean": [1, 2], "std": STD}}, {}, "2 values for 3 channels"),
        ({"stated": {"mean": MEAN, "std": [0, 1, 1]}}, {}, "infoae.preprocessing .*: std.0: .*greater than 0"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(
    settings: Any, given: Any, message: str, tmp_path: Path
) -> None:
    path = write_encoder(tmp_path / "e.onnx", **settings)
    with pytest.raises(InfoAEError, match=message) as raised:
        frozen(path, **given)
    assert "\n" not in str(raised.value)


def test_what_is_no_onnx_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no graph")
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "net.pt").write_bytes(b"x")
    for name, message in (
        ("text.onnx", "cannot be read as ONNX"),
        ("empty.onnx", "it holds no graph"),
        ("net.pt", r"give an \.onnx file"),
        ("none.onnx", "No such file"),
    ):
        with pytest.raises(InfoAEError, match=message):
            opened(Features(encoder=str(tmp_path / name)))


def test_weights_beside_the_file_are_read_and_too_many_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnx.load(write_encoder(tmp_path / "e.onnx"))
    beside = tmp_path / "outside" / "e.onnx"
    beside.parent.mkdir()
    onnx.save_model(model, beside, save_as_external_data=True, location="weights.bin", size_threshold=0)
    np.testing.assert_allclose(frozen(beside).features(pictures(), "cpu"), by_hand(pictures()), rtol=1e-4, atol=1e-5)
    monkeypatch.setattr("infoae.features.graph.MAX_ONNX_BYTES", 1000)
    copied = tmp_path / "outside" / "f.onnx"
    copied.write_bytes(beside.read_bytes())
    with pytest.raises(InfoAEError, match=r"bytes of weights: one ONNX graph holds at most 1,000"):
        frozen(copied)


def test_a_file_that_has_changed_is_refused(tmp_path: Path) -> None:
    first = frozen(write_encoder(tmp_path / "e.onnx"))
    known = Features(encoder=str(tmp_path / "e.onnx"), digest=first.digest, dim=first.dim)
    assert opened(known) is not None
    write_encoder(tmp_path / "e.onnx", dim=13)
    with pytest.raises(InfoAEError, match="is another than the one this run was trained with"):
        opened(known)


def test_given_features_are_rows_of_finite_varied_floats(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    np.save(tmp_path / "good.npy", rows)
    good = opened(Features(encoder=str(tmp_path / "good.npy")))
    assert isinstance(good, GivenFeatures)
    assert good.dim == 5
    np.testing.assert_array_equal(good.rows, rows)
    bad = rows.copy()
    bad[3, 2] = np.nan
    for name, values, message in (
        ("nan", bad, "the features of image 3 are not finite"),
        ("same", np.ones((7, 5), np.float32), "all 7 images are the same"),
        ("flat", rows[0], r"float32 \(5,\): floats \(N, D\) needed"),
        ("whole", np.ones((7, 5), np.int64), r"int64 \(7, 5\): floats \(N, D\) needed"),
    ):
        np.save(tmp_path / f"{name}.npy", values)
        with pytest.raises(InfoAEError, match=message):
            opened(Features(encoder=str(tmp_path / f"{name}.npy")))
