"""The page in a real browser: its script runs, no text of a run does, and both themes are there."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from vtg.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium")

HOSTILE = """'"></title></style></pre></script><img src=x onerror="document.title='taken'">"""
"""Would leave any tag and any quoted attribute, and rename the page."""


def write_hostile_run(folder: Path) -> Path:
    """A GRPO run whose name, settings, queries, completions, log keys and skipped rows are all hostile."""
    (folder / "completions").mkdir(parents=True)
    (folder / "config.yaml").write_text(json.dumps({"run_name": f"run {HOSTILE}", "model": {"path": HOSTILE}}))
    (folder / "run.json").write_text(json.dumps({"notes": [HOSTILE]}))
    (folder / "environment.json").write_text(json.dumps({"packages": {"vtg": HOSTILE}, HOSTILE: HOSTILE}))
    entries = [{"step": step, "loss": 1 / step, f"rewards/{HOSTILE.replace('/', '')}/mean": step} for step in (1, 2)]
    (folder / "train_log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    row = {"video": HOSTILE, "qid": HOSTILE, "duration": 20.0, "timestamp": [5.0, 10.0], "sentence": HOSTILE}
    row |= {"prediction": [[4.0, 9.0]], "text": HOSTILE, "status": HOSTILE, "rewards": {HOSTILE: 0.5}, "reward": 1.0}
    for name in ("predictions.jsonl", "base_predictions.jsonl", "completions/step_000001.jsonl"):
        (folder / name).write_text(json.dumps(row) + "\n")
    (folder / "skipped.jsonl").write_text(json.dumps({"place": HOSTILE, "reason": HOSTILE}) + "\n")
    (folder / "metrics.json").write_text(json.dumps({HOSTILE: {HOSTILE: 1.0}}))
    return folder


def browse(page: Path, profile: Path, *options: str) -> str:
    """What the browser prints about a page after its script has run."""
    words = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", *options, page.as_uri()]
    done = subprocess.run([str(CHROMIUM), *words], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_hostile_text_is_shown_and_not_run(tmp_path):
    page = write_report(write_hostile_run(tmp_path / "run"))
    dom = browse(page, tmp_path / "profile", "--dump-dom")
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title is not None and title[1].startswith("run '") and title[1].endswith(" · vtg")
    assert "<img" not in dom
    # The page's own script has run: it moves the <title> of each shape to a tooltip.
    assert '<div id="tip">' in dom and 'data-tip="step 1' in dom and dom.count("</title>") == 1


def test_the_page_follows_the_theme_of_the_reader(tmp_path):
    from PIL import Image

    page = write_report(write_hostile_run(tmp_path / "run"))
    brightness = {}
    for theme, code in (("dark", 0), ("light", 1)):
        picture = tmp_path / f"{theme}.png"
        browse(page, tmp_path / theme, f"--blink-settings=preferredColorScheme={code}", f"--screenshot={picture}")
        brightness[theme] = sum(Image.open(picture).convert("RGB").getpixel((2, 2)))  # type: ignore[arg-type]
    assert brightness["dark"] < 3 * 64 < 3 * 192 < brightness["light"]


def test_a_click_on_a_moment_plays_it_from_a_second_before(tmp_path, write_mp4):
    video = Path(write_mp4(range(0, 10_000, 250)))
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(json.dumps({"video": {"fps": 2.0}, "data": {"video_dir": str(video.parent)}}))
    row = {"video": video.name, "qid": "a", "duration": 10.0, "timestamp": [3.0, 5.0], "sentence": "it is grey"}
    (run / "predictions.jsonl").write_text(json.dumps(row | {"prediction": [[6.0, 8.0]], "text": "6 to 8"}) + "\n")
    page = write_report(run)
    html, click = page.read_text(encoding="utf-8"), 'document.querySelector("article [data-start]").click();'
    page.write_text(html.replace("</body>", f"<script>{click}</script></body>"), encoding="utf-8")
    dom = browse(page, tmp_path / "profile", "--dump-dom")
    assert 'data-from="2"' in dom and 'data-until="5"' in dom and "3.00 to 5.00 s, in a loop" in dom
    assert 'role="button" aria-label="play 3.00 to 5.00 s"' in dom
