"""The app as a program of its own, asked over HTTP and by a real browser."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running_app import App

from vtg.demo.tiny_model import TINY_QWEN3_VL

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# A page may take its time where every core is busy: what is waited for is told by the page, never by a clock.
EXPECT_MS = 60_000

# What the app of these tests takes on: little, so that limits are met soon.
LIMITS = ("--max-upload-mb", "4", "--max-queries", "20")


@pytest.fixture(scope="session")
def run_dir(demo_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the tiny model: its settings, its rows, and weights that are those it began with."""
    folder = tmp_path_factory.mktemp("runs") / "run_a"
    (folder / "best").mkdir(parents=True)
    for file in TINY_QWEN3_VL.iterdir():
        (folder / "best" / file.name).symlink_to(file)
    data: dict[str, Any] = {"test_file": str(demo_dir / "test.jsonl"), "video_dir": str(demo_dir)}
    (folder / "config.yaml").write_text(json.dumps({"run_name": "run_a", "model": {"path": "tiny"}, "data": data}))
    return folder


@pytest.fixture(scope="session")
def app(run_dir: Path, demo_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """An app that has a run and its base; shared by all tests."""
    app = App(tmp_path_factory.mktemp("kept"), str(run_dir), "--allow-dir", str(demo_dir), *LIMITS)
    yield app
    code, errors = app.end()
    assert code == 130, errors
    assert list(app.folder.iterdir()) == []


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium, driven by Playwright."""
    if CHROMIUM is None:
        pytest.skip("needs a browser: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install -e '.[test]'")
    playwright.expect.set_options(timeout=EXPECT_MS)
    with playwright.sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture(scope="session")
def real_videos() -> Path:
    folder = Path(__file__).parents[3] / "shared" / "data" / "videos"
    if not folder.is_dir():
        pytest.skip("needs the videos of ../shared/data")
    return folder
