"""A tiny model that answers, one for all tests of servers' parts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from vtg.evaluation.ask_settings import ask_settings
from vtg.serving.limits import Limits
from vtg.serving.model_worker import ModelWorker


@pytest.fixture(scope="session")
def worker() -> Iterator[ModelWorker]:
    limits = Limits(queries=4, waiting=6, video_s=60.0)
    with ModelWorker(ask_settings("tiny", ["max_new_tokens=16"]), limits=limits, device="cpu") as worker:
        yield worker


@pytest.fixture(scope="session")
def videos(demo_dir: Path) -> list[str]:
    return sorted(map(str, demo_dir.rglob("*.mp4")))
