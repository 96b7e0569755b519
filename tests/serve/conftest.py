"""The tiny model behind a real server, one for all tests that leave it as it is."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from served import running

from vtg.evaluation.ask_settings import ask_settings
from vtg.serve.chat_app import ChatEndpoint, chat_app
from vtg.serving.admission import Admission
from vtg.serving.limits import Limits
from vtg.serving.model_worker import ModelWorker

ROOM = 16


class Served(NamedTuple):
    url: str
    worker: ModelWorker
    admission: Admission


@pytest.fixture(scope="session")
def served(demo_dir: Path) -> Iterator[Served]:
    asked = ask_settings("tiny", [f"max_new_tokens={ROOM}"])
    limits = Limits(upload_bytes=300_000, queries=5, waiting=16)
    with (
        ModelWorker(asked, limits=limits, device="cpu") as worker,
        Admission(limits, allow_dirs=[demo_dir]) as admission,
        running(chat_app(ChatEndpoint(worker, admission, name="tiny", room=ROOM), host="127.0.0.1", key=None)) as url,
    ):
        yield Served(url, worker, admission)


@pytest.fixture(scope="session")
def videos(demo_dir: Path) -> list[Path]:
    return sorted(demo_dir.rglob("*.mp4"))
