"""Corrections in a real browser: loaded from a file, saved to one, and each taken back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infoae.errors import InfoAEError
from infoae.gallery import corrections
from tests.gallery.conftest import EVIL_NAME, Made
from tests.gallery.test_browser import browser, content, desktop, put, pytestmark, saved, sync_api, visit, visiting

__all__ = ["browser", "desktop", "pytestmark", "visit"]

SAID = "() => JSON.parse(Object.entries(localStorage).find(([key]) => key.startsWith('infoae gallery'))?.[1] ?? 'null')"
NOTHING: dict[str, object] = {
    "names": {},
    "merges": [],
    "splits": [],
    "parts": {},
    "not_this": [],
    "examples": {},
}


@pytest.fixture
def given(gallery: Made) -> dict[str, Any]:
    """A corrections.json of the page, with all that it may hold."""
    data = content(gallery)
    shown = data["rows"][0]["typical"] + data["rows"][1]["typical"]
    wrong, right = (data["paths"][index] for index in shown[:2])
    return {
        "format": 1,
        "run": data["run"],
        "step": data["step"],
        "num_categories": 10,
        "names": {"2": "zwei ü"},
        "merges": [[1, 4], [3, 5, 8]],
        "splits": [6],
        "parts": {"2": 3},
        "not_this": [{"path": wrong, "category": data["categories"][shown[0]][0]}],
        "examples": {right: 7, "__proto__": 0, "gone.png": 1},
    }


def write(folder: Path, content: object) -> Path:
    file = folder / "corrections.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def load(opened: Any, file: Path) -> None:
    opened.set_input_files("#load", file)


def is_dropped(opened: Any, file: Path) -> None:
    put(opened, file)


@pytest.mark.parametrize("how", [load, is_dropped])
def test_a_file_is_shown_as_if_it_had_been_clicked(
    desktop: Any, tmp_path: Path, given: dict[str, Any], how: Callable[[Any, Path], None]
) -> None:
    desktop.locator(".name").nth(3).fill("typed before")
    how(desktop, write(tmp_path, given))
    desktop.locator("#changes", has_text="corrections.json").wait_for()
    assert desktop.locator("#changes").inner_text() == (
        "9 corrections from corrections.json, 2 of pictures that are not on this page"
    )
    names = [each.input_value() for each in desktop.locator(".name").all()]
    assert names == [EVIL_NAME, "", "zwei ü", *[""] * 7]
    merged = desktop.locator(".row[data-category='5'] .merged")
    assert merged.inner_text() == "one with category 3, category 8 undo"
    assert desktop.locator(".row[data-category='6'] button", has_text="Do not split").is_visible()
    desktop.click("#marked")
    marked = desktop.locator("#pictures .picture")
    assert sorted(each.get_attribute("class") for each in marked.all()) == ["picture told", "picture wrong"]
    desktop.locator("#pictures .told").click()
    assert desktop.locator("#example").input_value() == "7"
    found = saved(desktop, tmp_path)
    assert found == corrections.Corrections.model_validate(given)
    desktop.click("#undo")
    assert saved(desktop, tmp_path).names == {3: "typed before"}


@pytest.fixture(scope="module")
def refusing(browser: Any, gallery: Made) -> Iterator[Any]:
    """A page on which a name was typed, for all files that are refused: they change nothing."""
    with visiting(browser) as visit:
        page = visit(gallery.written.page).page
        page.locator(".name").nth(1).fill("typed")
        yield page


def told(page: Any) -> str:
    """Return what the page says of a file, once it does, and close that."""
    page.wait_for_selector("#detail")
    text: str = page.locator("#detail").inner_text()
    page.keyboard.press("Escape")
    page.wait_for_selector("#detail", state="hidden")
    return text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"run": "other"}, 'its run is "other", and that of this page "lively"'),
        ({"step": 1}, "its step is 1, and"),
        ({"num_categories": 9}, "its number of categories is 9, and that of this page 10"),
        ({"format": 2}, "format is not 1"),
        ({"what": 1}, 'the key "what"'),
        ({"names": {"10": "x"}}, "names are not of categories"),
        ({"names": {"0": "a\nb"}}, "not all printable"),
        ({"names": {"0": "a\u00a0b"}}, "not all printable"),
        ({"names": {"0": " "}}, "not all printable"),
        ({"names": {"0": "x" * 201}}, "at most 200"),
        ({"names": ["x"]}, "names are not of categories"),
        ({"merges": [[1]]}, "two or more"),
        ({"merges": [[1, 2], [2, 3]]}, "a category twice"),
        ({"splits": [1]}, "a category twice"),
        ({"splits": [-1]}, "merges and splits are not"),
        ({"splits": 1}, "merges and splits are not"),
        ({"not_this": [{"path": "a", "category": 10}]}, "not_this"),
        ({"not_this": [{"path": "a"}]}, "not_this"),
        ({"not_this": [{"path": "gone.png", "category": 1}]}, "gone.png that it is of category 1, and that it is not"),
        ({"examples": {"a.png": "1"}}, "examples"),
        ({"examples": []}, "examples"),
    ],
)
def test_what_is_not_of_the_page_is_refused_in_one_line(
    refusing: Any, tmp_path: Path, given: dict[str, Any], changes: dict[str, Any], reason: str
) -> None:
    file = write(tmp_path, given | changes)
    load(refusing, file)
    title, name, problem = told(refusing).replace("\n×", "").split("\n\n")
    assert (title, name) == ("Not loaded", "corrections.json")
    assert reason in problem
    assert "\n" not in problem
    assert refusing.evaluate(SAID) == NOTHING | {"names": {"1": "typed"}}
    if not {"run", "step", "num_categories"} & set(changes) and changes != {
        "examples": {"a.png": "1"}
    }:  # where Python is as strict
        with pytest.raises(InfoAEError):
            corrections.read(file)


@pytest.mark.parametrize("text", ["", "no", "[]", "null", '{"a": 1}', "\xff"])
def test_what_is_no_corrections_is_refused(refusing: Any, tmp_path: Path, text: str) -> None:
    is_dropped(refusing, write(tmp_path, text))
    assert "It is no " in told(refusing)
    assert refusing.evaluate(SAID) == NOTHING | {"names": {"1": "typed"}}


def test_each_click_can_be_taken_back(desktop: Any, gallery: Made) -> None:
    def row(category: int) -> Any:
        return desktop.locator(f".row[data-category='{category}']")

    def split(category: int) -> None:
        row(category).locator(".actions button").last.click()

    def said() -> Any:
        return desktop.evaluate(SAID) or NOTHING

    picture = desktop.locator(".row .picture").first
    picture.click()
    own_inverse: list[tuple[Callable[[], object], Callable[[], object]]] = [
        (lambda: row(1).locator(".name").fill("one"), lambda: row(1).locator(".name").fill("")),
        (lambda: row(1).locator("select").select_option("2"), lambda: row(2).locator(".link").click()),
        (lambda: split(3), lambda: split(3)),
        (lambda: desktop.click("#not-this"), lambda: desktop.click("#not-this")),
        (lambda: desktop.select_option("#example", "7"), lambda: desktop.select_option("#example", "")),
    ]
    for do, back in own_inverse:
        do()
        assert said() != NOTHING
        back()
        assert said() == NOTHING
    assert desktop.locator("#download").is_disabled()
    answer = content(gallery)["categories"][int(picture.get_attribute("data-index"))][0]
    clicks: list[Callable[[], object]] = [
        *(do for do, _ in own_inverse),
        lambda: row(4).locator("select").select_option("5"),
        lambda: row(5).locator("select").select_option("1"),  # two groups become one
        lambda: split(5),  # which takes it out of the group
        lambda: row(5).locator("select").select_option("6"),  # which takes the split back
        lambda: desktop.select_option("#example", str(answer)),  # which takes back that it is not of its category
        lambda: desktop.click("#not-this"),  # and the other way round
        lambda: row(7).locator(".name").press_sequentially("seven"),  # one change, not one a letter
    ]
    steps = [said()]
    for click in clicks:
        click()
        steps.append(said())
        assert steps[-1] != steps[-2]
    for number, expected in enumerate(reversed(steps[:-1])):
        if number % 2:
            desktop.click("#undo")
        else:
            desktop.locator("h1").click()  # out of what is typed into
            desktop.keyboard.press("Control+z")
        assert said() == expected


@pytest.fixture
def served(browser: Any, gallery: Made) -> Iterator[Any]:
    """The page as from a server on this machine: a page that is a file has no file system of its own to write to."""
    opened = browser.new_context().new_page()
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.route(
        "http://localhost/**", lambda route: route.fulfill(path=gallery.written.page, content_type="text/html")
    )
    opened.goto("http://localhost/page.html")
    opened.wait_for_selector(".row")
    yield opened
    assert problems == []
    opened.context.close()


HANDLE = """async () => {
    const folder = await navigator.storage.getDirectory();
    window.asked = 0;
    window.showSaveFilePicker = async ({ suggestedName }) => {
        window.asked += 1;
        return folder.getFileHandle(suggestedName, { create: true });
    };
}"""
WRITTEN = """async () => {
    const folder = await navigator.storage.getDirectory();
    return (await (await folder.getFileHandle("corrections.json")).getFile()).text();
}"""


def test_save_writes_the_same_file_each_time(served: Any, tmp_path: Path, given: dict[str, Any]) -> None:
    served.evaluate(HANDLE)
    load(served, write(tmp_path, given))
    sync_api.expect(served.locator("#save")).to_be_enabled()
    for name in ("a long name that is written first", "short"):
        served.locator(".name").nth(9).fill(name)
        served.click("#save")
        sync_api.expect(served.locator("#changes")).to_have_text("saved")
        expected = corrections.Corrections.model_validate(given | {"names": {"2": "zwei ü", "9": name}})
        assert corrections.read(write(tmp_path, served.evaluate(WRITTEN))) == expected
    assert served.evaluate("asked") == 1


FAILING = """(how) => {
    window.showSaveFilePicker = async () => {
        throw new DOMException(...how);
    };
}"""


def test_a_save_that_is_given_up_or_fails_is_told(desktop: Any) -> None:
    desktop.locator(".name").nth(1).fill("typed")
    desktop.evaluate(FAILING, ["no", "AbortError"])
    desktop.click("#save")
    desktop.wait_for_timeout(200)
    assert desktop.locator("#changes").inner_text() == "1 correction"
    assert desktop.locator("#detail").is_hidden()
    desktop.evaluate(FAILING, ["disk full", "QuotaExceededError"])
    desktop.click("#save")
    desktop.wait_for_selector("#detail")
    assert "Not saved" in desktop.locator("#detail").inner_text()
    assert "disk full" in desktop.locator("#detail").inner_text()
