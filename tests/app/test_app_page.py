"""The page in a real browser: dropped, asked, played, and what it says of what cannot be."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running_app import App


@pytest.fixture(scope="module")
def expect(browser: Any) -> Any:
    from playwright.sync_api import expect

    return expect


@pytest.fixture
def page(app: App, browser: Any, expect: Any) -> Iterator[Any]:
    """The page with its models loaded. Whatever its script says is an error."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page, faults = context.new_page(), []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(app.url)
    expect(page.locator("#status")).to_have_text("ready: base of run_a, run_a")
    yield page
    context.close()
    assert faults == []


def test_a_clip_of_the_run_is_asked_and_its_moments_stand_beside_the_truth(page, expect):
    expect(page.locator("#cost")).to_contain_text("vision tokens")
    first = page.locator("#queries").input_value().splitlines()[0]
    page.locator("#queries").fill(first)
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#said")).to_contain_text("answered in")
    article = page.locator("#found article")
    expect(article.locator("h3")).to_have_text(first)
    expect(article.locator(".lane .name")).to_have_text(["", "truth", "base of run_a", "run_a", "frames"])
    expect(article.locator(".raw").first).to_contain_text("IoU")
    assert article.locator(".film .frame").count() >= 4

    # By keyboard: a bar is a button, and plays from a second before.
    bar = article.locator(".truth .bar")
    start_s, end_s = float(bar.get_attribute("data-start")), float(bar.get_attribute("data-end"))
    bar.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#playing")).to_contain_text(f"{start_s:.2f} to {end_s:.2f} s")
    video = page.locator("#player")
    expect(video).to_have_js_property("paused", False)
    # Behind its end it goes back.
    video.evaluate("(video, end_s) => { video.currentTime = end_s + 0.3; }", end_s)
    returned = """(video, end_s) => new Promise((done) => {
        const look = () => (video.currentTime < end_s ? done(true) : setTimeout(look, 20));
        look();
    })"""
    assert video.evaluate(returned, end_s)
    page.get_by_role("button", name="Stop the loop").click()
    expect(video).to_have_js_property("paused", True)


def test_a_dropped_video_is_asked_at_another_sampling(page, expect, real_videos):
    drop(page, real_videos / "timer1__OHOFG.mp4")
    expect(page.locator("#chosen")).to_have_text("timer1__OHOFG.mp4: 35.14 s")
    expect(page.locator("#cost")).to_contain_text("64 frames of")
    page.get_by_label("at most frames").fill("8")
    expect(page.locator("#cost")).to_contain_text("8 frames of")
    page.get_by_text("Frames that the model sees").click()
    expect(page.locator("#frames figure")).to_have_count(8)
    expect(page.locator("#frames figcaption").first).to_contain_text("0.00 s · read")
    page.locator("#queries").fill("a timer is set\nsomebody leaves")
    page.locator("#queries").press("Control+Enter")
    expect(page.locator("#said")).to_contain_text("answered in")
    expect(page.locator("#found article")).to_have_count(2)
    expect(page.locator("#found .raw")).to_have_count(4)


def test_a_codec_that_browsers_do_not_play_is_encoded_for_them(page, expect, real_videos):
    page.locator("#file").set_input_files(real_videos / "mmaction2__test.avi")
    expect(page.locator("#chosen")).to_contain_text("mmaction2__test.avi: 6.60 s")
    expect(page.locator("#player")).to_have_js_property("error", None)
    loaded = """(video) => new Promise((done) => {
        video.onloadedmetadata = () => done(video.duration);
        video.onerror = () => done(0);
        if (video.readyState) done(video.duration);
    })"""
    assert page.locator("#player").evaluate(loaded) == pytest.approx(6.6, abs=0.1)


def test_a_text_file_a_broken_one_and_one_too_large_are_messages_and_the_page_goes_on(
    page, expect, real_videos, tmp_path
):
    before = page.locator("#chosen").inner_text()
    (tmp_path / "notes.mp4").write_text("this is no video\n" * 40)
    page.locator("#file").set_input_files(tmp_path / "notes.mp4")
    expect(page.locator("#chosen.bad")).to_contain_text("notes.mp4: not a readable video")
    (tmp_path / "huge.mp4").write_bytes(b"0" * 4_100_000)
    page.locator("#file").set_input_files(tmp_path / "huge.mp4")
    expect(page.locator("#chosen.bad")).to_contain_text("huge.mp4: is larger than 4 MB")
    page.locator("#file").set_input_files(real_videos / "derived__truncated_mdat_sample_demo_1.mp4")
    expect(page.locator("#chosen.bad")).to_contain_text("breaks off")
    page.locator("#clips").select_option(index=2)
    expect(page.locator("#chosen")).not_to_have_class("bad")
    assert page.locator("#chosen").inner_text() != before


@pytest.mark.slow
def test_fifty_queries_at_once_are_asked_in_parts_while_another_browser_goes_away(page, expect, app, browser):
    other = browser.new_page()
    other.goto(app.url)
    expect(other.locator("#status")).to_contain_text("ready")
    for one in (other, page):
        one.locator("#queries").fill("\n".join(f"the red square for the {at}th time" for at in range(50)))
        one.get_by_role("button", name="Ask").click()
    expect(other.locator("#found article")).to_have_count(50)
    other.close()
    expect(page.locator("#said")).to_have_text(re.compile(r"answered in"))
    expect(page.locator("#found article")).to_have_count(50)
    expect(page.locator("#found .raw")).to_have_count(100)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_there_is_no_serious_fault_of_accessibility_and_nothing_sticks_out(page, expect, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe: pip install -e '.[test]'")
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#said")).to_contain_text("answered in")
    page.get_by_text("Frames that the model sees").click()
    found = axe.Axe().run(page).response["violations"]
    serious = [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]
    assert serious == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_text_from_users_is_shown_and_not_run(page, expect, demo_dir, tmp_path):
    hostile = "<img src=x onerror=\"document.title='taken'\">"
    (tmp_path / f"{hostile.replace('/', '')}.mp4").write_bytes(next(demo_dir.rglob("*.mp4")).read_bytes())
    page.locator("#file").set_input_files(tmp_path / f"{hostile}.mp4")
    expect(page.locator("#chosen")).to_contain_text(f"{hostile}.mp4: ")  # arrived: its length follows
    page.locator("#queries").fill(hostile)
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#said")).to_contain_text("answered in")
    expect(page.locator("#found h3")).to_have_text(hostile)
    assert page.locator("img").count() == 0 and page.title() != "taken"


def drop(page: Any, file: Path) -> None:
    """Drops a file on the page, as a hand would."""
    import base64

    content = base64.b64encode(file.read_bytes()).decode()
    transfer = page.evaluate_handle(
        """([content, name]) => {
            const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name, { type: "video/mp4" }));
            return transfer;
        }""",
        [content, file.name],
    )
    page.locator("#drop").dispatch_event("dragover", {"dataTransfer": transfer})
    page.locator("#drop").dispatch_event("drop", {"dataTransfer": transfer})
