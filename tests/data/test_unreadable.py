"""Whatever a parser raises is the reason of one input; what the machine lacks ends the job."""

from __future__ import annotations

import builtins
import errno
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from infoae.data import unreadable as boundary
from infoae.data.decode import read_image
from infoae.data.shards import Shards
from infoae.data.unreadable import UnreadableImageError, unreadable
from infoae.errors import InfoAEError
from tests.helpers.inputs import PIXELS, png, read, write_tar

KINDS = sorted(
    (kind for kind in vars(builtins).values() if isinstance(kind, type) and issubclass(kind, Exception)),
    key=lambda kind: kind.__name__,
)
SPECIAL: dict[type[Exception], Exception] = {
    UnicodeDecodeError: UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
    UnicodeEncodeError: UnicodeEncodeError("utf-8", "x", 0, 1, "bad"),
    UnicodeTranslateError: UnicodeTranslateError("x", 0, 1, "bad"),
    ExceptionGroup: ExceptionGroup("many", [ValueError("x")]),
}
RAISED = [SPECIAL[kind] if kind in SPECIAL else kind("two\nlines") for kind in KINDS]


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_every_exception_of_python_is_a_reason(error: Exception) -> None:
    with pytest.raises(UnreadableImageError) as caught, unreadable("damaged: "):
        raise error
    assert "\n" not in str(caught.value)
    assert str(caught.value) > "damaged: " or "memory" in str(caught.value)


@pytest.mark.parametrize("code", ["ENOMEM", "ENOSPC", "EDQUOT", "EMFILE", "ENFILE"])
def test_what_the_machine_lacks_ends_the_job(code: str) -> None:
    with pytest.raises(InfoAEError, match=r"^reading images: ") as caught, unreadable():
        raise OSError(getattr(errno, code), "why")
    assert not isinstance(caught.value, UnreadableImageError)


def test_no_memory_ends_the_job_and_a_false_size_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnreadableImageError, match="more memory needed than there is"), unreadable():
        bytearray(2**62)
    monkeypatch.setattr(boundary, "_RESERVE_BYTES", 2**62)  # as if not even that were left
    with pytest.raises(InfoAEError, match="no memory is left") as caught, unreadable():
        raise MemoryError
    assert not isinstance(caught.value, UnreadableImageError)


@pytest.mark.parametrize("kind", [InfoAEError, KeyboardInterrupt, SystemExit])
def test_what_is_ours_passes(kind: type[BaseException]) -> None:
    with pytest.raises(kind), unreadable():
        raise kind


def test_a_mistake_in_our_code_is_no_reason_of_an_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tar(tmp_path / "x.tar", {"1.png": png(1)})
    monkeypatch.delattr("infoae.data.decode._pixels")
    with pytest.raises(NameError):
        read_image(png(0), 1, 28, 28)
    with pytest.raises(AssertionError), unreadable():
        read_image(png(0), 2, 28, 28)
    monkeypatch.delattr("infoae.inputs.archives.why_passed_over")
    with pytest.raises(NameError):
        read(tmp_path / "x.tar")


def containers(folder: Path) -> dict[str, Path]:
    """A container of each kind, of ten images."""
    images = {f"{index:02}.png": png(index) for index in range(10)}
    np.save(folder / "x.npy", PIXELS[:10])
    np.savez_compressed(folder / "x.npz", PIXELS[:10])
    write_tar(folder / "x.tar", images)
    write_tar(folder / "x.tar.xz", images, "w:xz")
    with zipfile.ZipFile(folder / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in images.items():
            archive.writestr(name, content)
    parquet.write_table(pa.table({"image": list(images.values())}), folder / "x.parquet")
    return {path.name: path for path in folder.glob("x.*")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in containers(tmp_path_factory.mktemp("whole")).items()}


CHANGES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=9)), max_size=4)


@given(
    name=st.sampled_from(["x.npy", "x.npz", "x.tar", "x.tar.xz", "x.zip", "x.parquet"]),
    changes=CHANGES,
    cut=st.floats(0.02, 1),
)
def test_damage_anywhere_in_a_container_ends_no_job(
    whole: dict[str, bytes],
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    changes: list[tuple[float, bytes]],
    cut: float,
) -> None:
    content = bytearray(whole[name])
    for place, change in changes:
        at = int(place * len(content))
        content[at : at + len(change)] = change
    folder = tmp_path_factory.mktemp("damaged")
    (folder / name).write_bytes(content[: int(cut * len(content))])
    (folder / "good.png").write_bytes(png(1))
    try:
        keys, images, errors = read(folder / name, folder / "good.png")
    except InfoAEError as error:  # it now states another shape, or another column
        assert not isinstance(error, UnreadableImageError)
        assert "\n" not in str(error)
        return
    assert keys[-1] == f"{folder}/good.png"
    assert errors[-1] is None
    assert len(images) == errors.count(None)
    if bytes(content) == whole[name] and cut < 1:
        assert any(errors), "what is cut off must not vanish"


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    containers(folder)
    return folder


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_opening_a_container_raises_is_its_row(one: Path, error: Exception) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for library, name in ((np.lib.format, "read_magic"), (parquet, "ParquetFile"), (zipfile, "ZipFile")):
            patch.setattr(library, name, _raising(error))
        patch.setattr("infoae.inputs.archives._inflated", _raising(error))
        patch.setattr(Image, "open", _raising(error))
        for path in (one / "x.npy", one / "x.npz", one / "x.parquet", one / "x.tar", one / "x.zip"):
            keys, _, errors = read(path)
            assert keys == [str(path)]
            assert "cannot be opened" in str(errors[0])
        with pytest.raises(UnreadableImageError):
            read_image(png(0), 1, 28, 28)
        with pytest.raises(InfoAEError, match=r"cannot be read as \.npy"):
            Shards(one)


def _raising(error: Exception) -> Any:
    def call(*_: Any, **__: Any) -> Any:
        raise error

    return call
