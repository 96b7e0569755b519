"""The page of rows in a real browser: looked through, corrected with the mouse, written by keys, saved."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from held_requests import Held
from playwright.sync_api import Page, expect

from vtg.app.rows.clip_frames import clip_frames
from vtg.validate import main as validate


@pytest.fixture
def rows_file(demo_dir: Path, tmp_path: Path) -> Path:
    """Rows of the demo, one of them reversed, one broken, one of another source."""
    rows = [json.loads(line) for line in (demo_dir / "train.jsonl").read_text().splitlines()[:5]]
    rows[1]["timestamp"] = rows[1]["timestamp"][::-1]
    rows[3] |= {"source": "other", "weight": 1.5}
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([*map(json.dumps, rows), "{broken <b>row</b>"]) + "\n")
    return path


def drag(page: Page, selector: str, by_px: float) -> None:
    page.locator(selector).hover()  # once it stands still
    box = page.locator(selector).bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + by_px / 2, y, steps=3)
    page.mouse.move(x + by_px, y, steps=3)
    page.mouse.up()


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def settled(page: Page) -> None:
    """Waits until every edit has been answered and shown, and a row that was asked for is there."""
    expect(page.locator("body:not([data-busy])")).to_be_attached()


def test_rows_are_filtered_and_stepped_through(
    serve: Callable[..., Any], opened_page: Callable[..., Page], rows_file: Path, demo_dir: Path
):
    page = opened_page(serve([str(rows_file)], video_dir=str(demo_dir)).url)
    expect(page.locator("#list li")).to_have_count(6)
    page.keyboard.press("n")
    expect(page.locator("#number")).to_have_value("2")
    expect(page.locator("#problems")).to_contain_text("is reversed: its end comes before its start")
    page.select_option("#finding", "any")
    expect(page.locator("#list li")).to_have_count(2)
    page.click("#next")
    expect(page.locator("#number")).to_have_value("6")
    # What a row holds is shown as text.
    page.click("summary:has-text('text')")
    expect(page.locator("#text")).to_have_value("{broken <b>row</b>")
    page.select_option("#finding", "")
    page.select_option("#source", "other")
    expect(page.locator("#list li")).to_have_count(1)
    expect(page.locator("#number")).to_have_value("4")


def test_an_end_that_is_dragged_lands_on_a_frame_and_undo_brings_the_row_back(
    serve: Callable[..., Any], opened_page: Callable[..., Page], rows_file: Path, demo_dir: Path
):
    served = serve([str(rows_file)], video_dir=str(demo_dir))
    page, before = opened_page(served.url), served.store.rows[0].raw
    start, end = json.loads(before)["timestamp"]
    times_s = clip_frames(json.loads(before), str(demo_dir)).times_s.tolist()
    drag(page, "[data-end='0.1']", 83.0)
    expect(page.locator("#undo")).to_be_enabled()
    moved = json.loads(served.store.rows[0].raw)["timestamp"]
    assert moved[0] == start and moved[1] in times_s and moved[1] > end
    # The end that was dragged has the keys now: one frame a press.
    page.keyboard.press("ArrowRight")
    expect(page.locator("[data-end='0.1']")).to_have_attribute(
        "aria-valuenow", str(times_s[times_s.index(moved[1]) + 1])
    )
    settled(page)
    press(page, "Control+z", "u")
    expect(page.locator("#undo")).to_be_disabled()
    assert served.store.rows[0].raw == before
    # A start cannot pass its end.
    drag(page, "[data-end='0.0']", 2000.0)
    expect(page.locator("#undo")).to_be_enabled()
    moved = json.loads(served.store.rows[0].raw)["timestamp"]
    assert moved[1] == end and moved[0] in times_s and end - 0.2 < moved[0] < end


def test_new_videos_are_annotated_by_keys_alone_saved_and_still_there_after_a_reload(
    serve: Callable[..., Any], opened_page: Callable[..., Page], demo_dir: Path, tmp_path: Path
):
    out = tmp_path / "mine.jsonl"
    videos = sorted(map(str, (demo_dir / "videos").glob("train_*.mp4")))[:2]
    served = serve(annotate=videos, save_as=str(out))
    page = opened_page(served.url)
    times_s = clip_frames({"video": videos[0]}, None).times_s.tolist()
    press(page, *["ArrowRight"] * 3, "i", "Shift+ArrowRight", "o", "Shift+ArrowRight", "m", "Shift+ArrowRight", "o")
    press(page, "Enter")
    page.keyboard.type('ein "roter" Kreis')
    press(page, "Control+Enter")
    expect(page.locator("#number")).to_have_value("2")
    press(page, "Enter")
    page.keyboard.type("nothing of the kind")
    press(page, "Enter", "0", "Control+s")
    expect(page.locator("#status")).to_contain_text(f"Saved: 2 rows in {out}.")
    page.reload()
    expect(page.locator("#number")).to_have_value("2")
    expect(page.locator("#query")).to_have_value("nothing of the kind")
    first, second = map(json.loads, out.read_text(encoding="utf-8").splitlines())
    assert first["timestamp"] == [[times_s[3], times_s[13]], [times_s[23], times_s[33]]]
    assert first["sentence"] == 'ein "roter" Kreis' and first["video"] == videos[0] and second["timestamp"] == []
    assert validate([str(out), "--probe", "--video-dir", str(demo_dir)]) == 0
    # Undone over the saving: the page says so, and the file stays as it was saved.
    press(page, "u")
    expect(page.locator("#file")).to_contain_text("not yet saved")
    assert len(out.read_text().splitlines()) == 2


def test_what_is_typed_while_the_page_still_reads_the_list_stays_in_the_query(
    serve: Callable[..., Any], opened_page: Callable[..., Page], rows_file: Path, demo_dir: Path
):
    served = serve([str(rows_file)], video_dir=str(demo_dir))
    lists: list[Held] = []
    page = opened_page(served.url, before=lambda page: lists.append(Held(page, "**/rows/list?*")))
    page.keyboard.press("Enter")
    page.keyboard.type("ei")
    lists[0].wait()
    lists[0].let_all_go()
    expect(page.locator("#list li")).to_have_count(6)
    page.keyboard.type("n Kreis")
    expect(page.locator("#query")).to_have_value("ein Kreis")
    expect(page.locator("#number")).to_have_value("1")
    press(page, "Control+Enter")
    expect(page.locator("#number")).to_have_value("2")
    assert json.loads(served.store.rows[0].raw)["sentence"] == "ein Kreis"


def test_answers_that_come_late_undo_nothing_that_was_typed_since(
    serve: Callable[..., Any], opened_page: Callable[..., Page], rows_file: Path, demo_dir: Path
):
    served = serve([str(rows_file)], video_dir=str(demo_dir))
    page = opened_page(served.url)
    edits = Held(page, "**/rows/edit")
    page.keyboard.press("0")
    edits.wait()
    page.keyboard.press("Enter")
    page.keyboard.type("ei")
    edits.let_go()
    edits.wait()  # kept by itself, somebody types on
    assert json.loads(served.store.rows[0].raw)["sentence"] == "ei"
    page.keyboard.type('n "roter" Kreis')
    press(page, "Control+Enter")
    edits.let_go()
    edits.wait()
    expect(page.locator("#number")).to_have_value("1")  # the next row waits for the answer
    edits.let_all_go()
    expect(page.locator("#number")).to_have_value("2")
    page.keyboard.press("p")
    expect(page.locator("#number")).to_have_value("1")
    expect(page.locator("#query")).to_have_value('ein "roter" Kreis')
    row = json.loads(served.store.rows[0].raw)
    assert row["sentence"] == 'ein "roter" Kreis' and row["timestamp"] == [] and served.store.rows.revision == 3


def test_an_edit_that_the_next_row_overtakes_is_of_its_own_row(
    serve: Callable[..., Any], opened_page: Callable[..., Page], rows_file: Path, demo_dir: Path
):
    served = serve([str(rows_file)], video_dir=str(demo_dir))
    page = opened_page(served.url)
    before = served.store.rows[1].raw
    steps, edits = Held(page, "**/rows/row/0/step?*"), Held(page, "**/rows/edit")
    page.click("#next")
    steps.wait()
    page.click("#no-moment")
    edits.wait()
    steps.let_all_go()
    expect(page.locator("#number")).to_have_value("2")
    edits.let_all_go()
    settled(page)
    expect(page.locator("#number")).to_have_value("2")
    expect(page.locator("#undo")).to_be_enabled()
    assert json.loads(served.store.rows[0].raw)["timestamp"] == [] and served.store.rows[1].raw == before
    page.click("#no-moment")  # of the revision that the edit led to, although rows of the one before came later
    settled(page)
    assert json.loads(served.store.rows[1].raw)["timestamp"] == []


def test_a_proposal_is_accepted_with_one_key(
    serve: Callable[..., Any], opened_page: Callable[..., Page], demo_dir: Path, tmp_path: Path
):
    proposals = tmp_path / "proposals.jsonl"
    row = json.loads((demo_dir / "train.jsonl").read_text().splitlines()[0])
    proposals.write_text(json.dumps(row | {"timestamp": [1.01, 3.02], "sentence": "proposed"}) + "\n")
    video = str(demo_dir / row["video"])
    served = serve(annotate=[video], predictions=str(proposals), save_as=str(tmp_path / "out.jsonl"))
    page = opened_page(served.url)
    expect(page.locator("#proposals")).to_contain_text("1.01\u20133.02 s: proposed")
    page.keyboard.press("a")
    expect(page.locator("#undo")).to_be_enabled()
    expect(page.locator("#query")).to_have_value("proposed")
    written = json.loads(served.store.rows[0].raw)
    times_s = clip_frames({"video": video}, None).times_s.tolist()
    assert all(time_s in times_s for time_s in written["timestamp"])
    assert written["timestamp"] == pytest.approx([1.01, 3.02], abs=0.07) and written["duration"] > 3


def test_an_edit_of_what_another_tab_has_edited_is_refused_and_said(
    serve: Callable[..., Any], opened_page: Callable[..., Page], rows_file: Path, demo_dir: Path
):
    served = serve([str(rows_file)], video_dir=str(demo_dir))
    one, other = opened_page(served.url), opened_page(served.url)
    one.keyboard.press("0")
    expect(one.locator("#undo")).to_be_enabled()
    other.keyboard.press("Delete")
    expect(other.locator("#alert")).to_contain_text("edited elsewhere (in another tab?)")
    assert json.loads(served.store.rows[0].raw)["timestamp"] == [] and served.store.rows.revision == 1
    expect(other.locator("#list li").first).to_contain_text("no moment")
    other.keyboard.press("u")
    expect(other.locator("#undo")).to_be_disabled()


def test_what_was_typed_while_the_server_was_away_is_sent_when_it_is_back(
    served_for: Callable[..., Any], opened_page: Callable[..., Page], rows_file: Path, demo_dir: Path
):
    with served_for([str(rows_file)], video_dir=str(demo_dir)) as first:
        page, port = opened_page(first.url), int(first.url.rpartition(":")[2])
        page.keyboard.press("0")
        expect(page.locator("#undo")).to_be_enabled()
    page.keyboard.press("Enter")
    page.keyboard.type("written meanwhile")
    expect(page.locator("#alert")).to_contain_text("The server does not answer")
    with served_for([str(rows_file)], video_dir=str(demo_dir), port=port) as second:
        expect(page.locator("#file")).to_contain_text("not yet saved")
        expect(page.locator("#alert")).to_be_empty()
        assert json.loads(second.store.rows[0].raw)["sentence"] == "written meanwhile"
        assert json.loads(second.store.rows[0].raw)["timestamp"] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible_and_fits_a_phone(
    serve: Callable[..., Any], opened_page: Callable[..., Page], rows_file: Path, demo_dir: Path, scheme: str
):
    served = serve([str(rows_file)], video_dir=str(demo_dir))
    page = opened_page(served.url, color_scheme=scheme, viewport={"width": 400, "height": 800})
    page.keyboard.press("?")
    page.click("summary:has-text('text')")
    page.keyboard.press("n")
    expect(page.locator("#number")).to_have_value("2")
    found = Axe().run(page).response["violations"]
    assert not [one["id"] for one in found if one["impact"] in ("serious", "critical")]
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert not re.findall(r"https?://(?!127)", page.content())
