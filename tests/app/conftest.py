"""The app as a program of its own, asked over HTTP and by a real browser."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running_app import App

from vtg.demo.tiny_model import TINY_QWEN3_VL

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
def real_videos() -> Path:
    folder = Path(__file__).parents[3] / "shared" / "data" / "videos"
    if not folder.is_dir():
        pytest.skip("needs the videos of ../shared/data")
    return folder
