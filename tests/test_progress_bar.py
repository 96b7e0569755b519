import os
import re
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from types import SimpleNamespace

import pytest

from vtg.progress_bar import ProgressBar, counted
from vtg.training.progress import Progress

MARK = "<end of what was drawn>"


@contextmanager
def terminal() -> Iterator[int]:
    """A real pseudo-terminal in place of stderr; yields the end that a person would read."""
    reader, writer = os.openpty()
    termios.tcsetwinsize(writer, (24, 200))
    with os.fdopen(writer, "w") as stream, redirect_stderr(stream):
        yield reader
    os.close(reader)


def drawn(reader: int) -> str:
    """What was drawn since the last call: up to a mark, because a terminal passes on what it gets in its own time."""
    print(MARK, end="", file=sys.stderr, flush=True)
    text = b""
    while not text.endswith(MARK.encode()):
        text += os.read(reader, 1 << 16)
    return text.decode().removesuffix(MARK)


def test_a_file_gets_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar(3, title="answering", unit="sample", initial=1, line_s=0.0) as bar:
        bar.note({"loss": "0.5"})
        bar.update()
        bar.update()
    lines = [re.sub(r"\d+:\d\d", "TIME", line) for line in capsys.readouterr().err.split("\n")]
    assert lines == [
        "answering: 2/3 samples, TIME passed, TIME left, loss 0.5",
        "answering: 3/3 samples, TIME passed, loss 0.5",
        "answering: 3/3 samples, TIME passed, loss 0.5",
        "",
    ]


def test_what_is_done_soon_says_at_most_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(counted(range(1000), ProgressBar(None, title="probing", unit="video"))) == list(range(1000))
    assert capsys.readouterr().err == ""
    assert list(counted(range(1000), ProgressBar(None, title="probing", unit="video", leave=True))) == list(range(1000))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("probing: 1000 videos, ")


def test_a_bar_that_is_closed_twice_or_not_shown_says_nothing_more(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bar = ProgressBar(1, title="a", unit="b", leave=True)
    bar.close()
    bar.close()
    assert len(capsys.readouterr().err.splitlines()) == 1
    for rank, shown in (("1", True), ("0", False)):
        monkeypatch.setenv("RANK", rank)
        with ProgressBar(1, title="a", unit="b", shown=shown, line_s=0.0) as bar:
            bar.update()
            bar.note({"x": "1"})
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar() -> None:
    with terminal() as reader:
        with ProgressBar(4, title="answering", unit="sample", leave=True) as bar:
            bar.update(4)
        text = drawn(reader)
    assert "\ranswering: 100%" in text and "4/4" in text


def test_a_log_entry_redraws_the_bar_of_training_once() -> None:
    progress, state = Progress(), SimpleNamespace(max_steps=10, global_step=0)
    with terminal() as reader:
        progress.on_train_begin(None, state, None)
        drawn(reader)
        progress.on_log(None, state, None, logs={"loss": 0.5, "reward": 1.0, "iou/mean": 0.25, "batch/samples": 4.0})
        text = drawn(reader)
        progress.close()
    assert text.count("\r") == 1
    assert "loss=0.5, reward=1, IoU=0.25, batch=4" in text
