"""The page in a real browser: it opens, fetches nothing, answers to keys, saves corrections, classifies as Python."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from infoae.correcting.correct import correct
from infoae.data.decode import read_image
from infoae.deploy.classifier import Classifier
from infoae.gallery import corrections, page
from infoae.runs import checkpoint
from infoae.runs.run import Run
from tests.gallery.conftest import EVIL_NAME, Made

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
    pytest.mark.xdist_group("browser"),
]

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}


@dataclass
class Opened:
    """A page that is open, with what it said and asked for."""

    page: Any
    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def visiting(browser: Any) -> Iterator[Callable[..., Opened]]:
    """Yield a function that opens a page; in the end it must have had no problem and asked for nothing elsewhere."""
    opened: list[Opened] = []

    def visit(file: Path, **options: Any) -> Opened:
        context = browser.new_context(**options)
        found = Opened(context.new_page())
        opened.append(found)
        found.page.on("console", lambda message: found.problems.append(f"{message.type}: {message.text}"))
        found.page.on("pageerror", lambda error: found.problems.append(str(error)))
        context.on("request", lambda request: found.requests.append(request.url))
        found.page.goto(file.as_uri())
        found.page.wait_for_selector(".row")
        return found

    yield visit
    for each in opened:
        assert each.problems == []
        assert each.requests
        assert [url for url in each.requests if not url.startswith(("file:", "blob:", "data:"))] == []
        assert each.page.evaluate("window.pwned") is None
        each.page.context.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Opened]]:
    with visiting(browser) as visit:
        yield visit


@pytest.fixture
def desktop(visit: Callable[..., Opened], gallery: Made) -> Any:
    return visit(gallery.written.page).page


def saved(opened: Any, folder: Path) -> corrections.Corrections:
    with opened.expect_download() as download:
        opened.click("#download")
    assert download.value.suggested_filename == "corrections.json"
    download.value.save_as(folder / "corrections.json")
    return corrections.read(folder / "corrections.json")


def content(made: Made) -> dict[str, Any]:
    text = made.written.page.read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text.split('id="data">')[1].split("</script>")[0])
    return found


def test_every_category_is_a_row_with_size_and_name(desktop: Any, gallery: Made) -> None:
    sizes = desktop.locator(".row .size").all_inner_texts()
    assert [int(text.split()[0]) for text in sizes] == gallery.written.category_sizes
    assert desktop.locator(".name").first.input_value() == EVIL_NAME


def test_a_policy_lets_nothing_be_fetched(visit: Callable[..., Opened], gallery: Made) -> None:
    opened = visit(gallery.written.page)
    fetched = "fetch('http://127.0.0.1:9/').then(() => 'sent', (error) => error.name)"
    assert opened.page.evaluate(fetched) == "TypeError"
    assert "violates the following Content Security Policy" in opened.problems[0]
    opened.problems.clear()
    opened.requests[:] = [url for url in opened.requests if "127.0.0.1:9" not in url]


def test_a_typed_name_is_in_the_file_and_stays(desktop: Any, tmp_path: Path) -> None:
    assert desktop.locator("#download").is_disabled()
    desktop.locator(".name").nth(1).fill('"seven" </script> ü')
    assert desktop.locator("#changes").inner_text() == "1 correction"
    assert saved(desktop, tmp_path).names == {1: '"seven" </script> ü'}
    desktop.reload()
    assert desktop.locator(".name").nth(1).input_value() == '"seven" </script> ü'


def test_merges_splits_and_marks_are_in_the_file(desktop: Any, gallery: Made, tmp_path: Path) -> None:
    def merge(category: int, other: int) -> None:
        desktop.locator(f".row[data-category='{category}'] select").select_option(str(other))

    merge(1, 2)
    merge(2, 5)
    merge(3, 4)
    desktop.locator(".row[data-category='4'] .link").click()  # undone
    desktop.locator(".row[data-category='6'] button", has_text="Split").click()
    first, second = desktop.locator(".row .picture").nth(0), desktop.locator(".row .picture").nth(1)
    first.click()
    desktop.click("#not-this")
    second.click()
    desktop.select_option("#example", "7")
    paths, answers = content(gallery)["paths"], content(gallery)["categories"]
    one, other = (int(each.get_attribute("data-index")) for each in (first, second))
    found = saved(desktop, tmp_path)
    assert found.merges == ((1, 2, 5),)
    assert found.splits == (6,)
    assert [(each.path, each.category) for each in found.not_this] == [(paths[one], answers[one][0])]
    assert found.examples == {paths[other]: 7}
    assert (found.run, found.num_categories) == (gallery.run.name, 10)


def test_arrow_keys_move_and_enter_opens(desktop: Any) -> None:
    def place() -> tuple[float, float]:
        box = desktop.evaluate("(({left, top}) => [left, top])(document.activeElement.getBoundingClientRect())")
        return box[0], box[1] + desktop.evaluate("scrollY")

    strip = desktop.locator(".strip", has=desktop.locator(".picture:nth-child(2)")).first
    strip.locator(".picture").first.focus()
    start = place()
    desktop.keyboard.press("ArrowRight")
    assert place()[0] > start[0]
    assert place()[1] == start[1]
    desktop.keyboard.press("ArrowLeft")
    assert place() == start
    desktop.keyboard.press("ArrowDown")
    assert place()[1] > start[1]
    desktop.keyboard.press("ArrowUp")
    assert place() == start
    index = desktop.evaluate("document.activeElement.dataset.index")
    desktop.keyboard.press("Enter")
    assert desktop.locator("#detail .path").is_visible()
    desktop.keyboard.press("Escape")
    assert desktop.locator("#detail").is_hidden()
    assert desktop.evaluate("document.activeElement.dataset.index") == index
    desktop.keyboard.press("/")
    assert desktop.evaluate("document.activeElement.id") == "search"


def test_a_picture_has_its_path_answers_reconstruction_and_neighbours(desktop: Any, gallery: Made) -> None:
    data = content(gallery)
    desktop.locator(".picture").first.click()
    index = int(desktop.locator(".picture").first.get_attribute("data-index"))
    assert desktop.locator("#detail .path").text_content() == data["paths"][index]
    assert desktop.locator("#detail .answers li").count() == 3
    assert desktop.locator("#detail .image").count() == 2
    near = desktop.locator("#detail .picture")
    found = [int(each.get_attribute("data-index")) for each in near.all()]
    assert found == data["neighbours"][index]


def test_search_by_path(desktop: Any, gallery: Made) -> None:
    desktop.fill("#search", "ONERROR")
    assert desktop.locator("#pictures .picture").count() == 1
    desktop.fill("#search", r"\xff")
    assert desktop.locator("#pictures .picture").count() == 1
    desktop.fill("#search", "pictures/")
    assert desktop.locator("#pictures .picture").count() == len(content(gallery)["paths"]) == 60


def looked_at(opened: Any) -> int:
    """How many pixels of the map are drawn."""
    script = """() => {
        const canvas = document.querySelector("#viewer canvas");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        let drawn = 0;
        for (let index = 3; index < data.length; index += 4) drawn += data[index] > 0;
        return drawn;
    }"""
    return int(opened.evaluate(script))


def test_the_map_shows_pictures_and_a_click_opens_one(desktop: Any) -> None:
    desktop.click("nav [data-view=map]")
    desktop.wait_for_selector("#viewer canvas", state="attached")
    desktop.wait_for_timeout(1500)
    assert looked_at(desktop) > 10_000
    box = desktop.locator("#viewer").bounding_box()
    for x, y in np.random.default_rng(0).uniform(0.3, 0.7, (40, 2)):
        desktop.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
        desktop.wait_for_timeout(150)
        if desktop.locator("#detail .path").is_visible():
            break
    assert desktop.locator("#detail .path").is_visible()


def put(opened: Any, file: Path) -> None:
    """Drop a file on the page, of which the browser knows no type."""
    script = """([text, name]) => {
        const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], name));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
    }"""
    opened.evaluate(script, [base64.b64encode(file.read_bytes()).decode(), file.name])


def drop(opened: Any, file: Path) -> None:
    put(opened, file)
    opened.locator("#detail .path").get_by_text(file.name, exact=True).wait_for()


def test_a_dropped_picture_gets_what_python_gives_it(desktop: Any, gallery: Made, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    classifier = Classifier(gallery.bundle, "cpu", num_threads=1)
    shapes = {
        "as it is": (28, 28),
        "larger, in colour": (77, 131, 3),
        "smaller": (9, 40, 3),
        "transparent": (50, 50, 4),
    }
    for name, shape in shapes.items():
        pixels = random.integers(0, 256, shape, np.uint8)
        if shape[-1] == 4:
            pixels[..., 3] = np.where(pixels[..., 3] > 127, 255, 0)
        file = tmp_path / f"{name}.png"
        Image.fromarray(pixels).save(file)
        drop(desktop, file)
        found = json.loads(desktop.locator("#detail").get_attribute("data-probabilities"))
        expected = classifier.classify(read_image(file, 1, 28, 28)[None]).probabilities[0]
        assert np.abs(np.array(found) - expected).max() < 1e-4, name
        best = content(gallery)["names"][int(expected.argmax())] or f"category {int(expected.argmax())}"
        assert desktop.locator("#detail .answers span").first.inner_text() == best


def test_a_tall_picture_is_made_smaller_as_python_does_it(desktop: Any, tmp_path: Path) -> None:
    """Some versions of Pillow begin with the columns, others with the rows: levels may differ by one."""
    file = tmp_path / "tall.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (131, 77, 3), np.uint8)).save(file)
    drop(desktop, file)
    script = "() => [...document.querySelector('.seen').getContext('2d').getImageData(0, 0, 28, 28).data]"
    found = np.array(desktop.evaluate(script)).reshape(28, 28, 4)[..., 0]
    assert np.abs(found - read_image(file, 1, 28, 28)[0].astype(int)).max() <= 1


def test_a_dropped_file_that_is_no_picture_is_said_to_be_none(desktop: Any, tmp_path: Path) -> None:
    (tmp_path / "no.png").write_bytes(b"no picture")
    drop(desktop, tmp_path / "no.png")
    assert "cannot read it as a picture" in desktop.locator("#detail").inner_text()


def test_a_phone_scrolls_in_one_direction(visit: Callable[..., Opened], gallery: Made) -> None:
    opened = visit(gallery.written.page, **PHONE).page

    def assert_no_horizontal_scroll() -> None:
        assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")

    assert_no_horizontal_scroll()
    opened.locator(".picture").first.tap()
    assert opened.locator("#detail .path").is_visible()
    assert_no_horizontal_scroll()
    opened.locator(".close").tap()
    opened.locator("nav [data-view=map]").tap()
    assert_no_horizontal_scroll()
    opened.fill("#search", "pictures/")
    assert_no_horizontal_scroll()


def test_thumbnails_beside_the_page(
    make_gallery: Callable[[], Made], visit: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "INLINE", 10)
    made = make_gallery()
    assert made.written.folder is not None
    names = sorted(each.name for each in made.written.folder.iterdir())
    assert names == ["reconstructions-0000.webp", "thumbnails-0000.webp"]
    opened = visit(made.written.page)
    opened.page.click("nav [data-view=map]")
    opened.page.wait_for_timeout(2000)
    assert any(url.endswith("/page-pictures/thumbnails-0000.webp") for url in opened.requests)
    shown = opened.page.locator("#viewer canvas").first.screenshot()
    opened.page.evaluate("document.querySelector('#viewer').style.visibility = 'hidden'")
    assert shown != opened.page.screenshot(clip=opened.page.locator("#viewer").bounding_box())


def test_a_part_is_put_into_another_category_and_back(
    visit: Callable[..., Opened], gallery: Made, tmp_path: Path
) -> None:
    rows = content(gallery)["rows"]
    first, second, other = sorted(range(len(rows)), key=lambda category: -rows[category]["size"])[:3]
    head = {"run": gallery.run.name, "step": checkpoint.read(gallery.run.checkpoint("best")).step}
    merge = corrections.Corrections(**head, num_categories=len(rows), merges=((first, second),))
    shutil.copytree(gallery.run.path, tmp_path / "runs" / gallery.run.name)  # other tests count the runs
    found = correct(Run.open(gallery.run.name, tmp_path / "runs"), merge, gallery.pictures)
    made = replace(gallery, written=page.write(found.run, tmp_path / "page.html", data=gallery.pictures, device="cpu"))
    (merged,), (target,) = found.new_numbers[first], found.new_numbers[other]
    parts = content(made)["rows"][merged]["parts"]
    assert [part["size"] for part in parts] == [rows[first]["size"], rows[second]["size"]]
    desktop = visit(made.written.page).page
    desktop.click(f".row[data-category='{merged}'] summary")
    where = desktop.locator(f"select[data-over='{parts[0]['over']}']")
    where.wait_for()
    shown = desktop.locator(f".strip:has(select[data-over='{parts[0]['over']}']) .picture")
    assert [int(each.get_attribute("data-index")) for each in shown.all()] == parts[0]["typical"]
    where.select_option(str(target))
    said = saved(desktop, tmp_path)
    assert said.parts == {parts[0]["over"]: target}
    moved = correct(found.run, said, gallery.pictures).run
    sizes = page.write(moved, tmp_path / "moved.html", data=gallery.pictures, device="cpu").category_sizes
    assert (sizes[merged], sizes[target]) == (rows[second]["size"], rows[other]["size"] + rows[first]["size"])
    where.select_option(str(merged))
    assert desktop.locator("#download").is_disabled()


def test_a_sound_is_played_from_its_file(visit: Callable[..., Opened], gallery: Made, tmp_path: Path) -> None:
    data, text = content(gallery), gallery.written.page.read_text(encoding="utf-8")
    there, gone = next(row["typical"][:2] for row in data["rows"] if len(row["typical"]) > 1)
    data["paths"][there], data["paths"][gone] = str(tmp_path / "ein ton?.wav"), str(tmp_path / "gone.flac")
    soundfile.write(data["paths"][there], np.sin(np.arange(8000) / 5), 8000)
    before, after = text.split('id="data">')[0], text.split('id="data">')[1].split("</script>", 1)[1]
    made = tmp_path / "sounds.html"
    made.write_text("".join([before, 'id="data">', json.dumps(data).replace("<", "\\u003c"), "</script>", after]))
    opened = visit(made)
    other = next(index for index in range(len(data["paths"])) if index not in (there, gone))
    opened.page.click(f".picture[data-index='{other}']")
    assert opened.page.locator("#detail audio").count() == 0
    assert "null" not in opened.page.locator("#detail").inner_text()
    opened.page.click(f".picture[data-index='{there}']")
    played = "new Promise((end) => { audio.onended = () => end(audio.duration); audio.play(); })"
    played = f"(() => {{ const audio = document.querySelector('audio'); return {played}; }})()"
    assert opened.page.evaluate(played) == pytest.approx(1.0, abs=0.01)
    opened.page.click(f".picture[data-index='{gone}']")
    opened.page.evaluate(
        "document.querySelector('audio').load(); document.querySelector('audio').play().catch(() => {})"
    )
    opened.page.get_by_text("The browser cannot play this file.").wait_for()
    opened.problems.clear()  # the browser says itself that there is no such file
