import json
import os
import re
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from commands import called
from forked import Program
from served import ask

from vtg.demo.tiny_model import TINY_QWEN3_VL
from vtg.serve.__main__ import main


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_tells_its_address_answers_and_stops(number: int, code: int, demo_dir: Path, tmp_path: Path) -> None:
    words = ("tiny", "--port", "0", "--device", "cpu", "--allow-dir", str(demo_dir), "max_new_tokens=16")
    program = Program("vtg.serve", *words, env={**os.environ, "TMPDIR": str(tmp_path)}, before=_new_temporary_folder)
    try:
        deadline = time.monotonic() + 120
        while not (told := re.search(r"^(http://\S+)/v1 answers for tiny", _text(program.streams[0]), re.M)):
            assert time.monotonic() < deadline and program.processes[0].is_alive(), _text(program.streams[1])
            time.sleep(0.05)
        assert told[1].startswith("http://127.0.0.1:")
        assert [path.name.startswith("vtg-uploads-") for path in tmp_path.iterdir()] == [True]
        if number == signal.SIGTERM:  # once: the process that decodes takes seconds to start
            answer = ask(f"{told[1]}/v1/chat/completions", _request(min(demo_dir.rglob("*.mp4"))))
            assert answer.status == 200, answer.body
    finally:
        program.send_signal(number)
        done = program.ended(timeout_s=60)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def _request(video: Path) -> dict[str, Any]:
    parts = [{"type": "video_url", "video_url": {"url": str(video)}}, {"type": "text", "text": "a red square"}]
    return {"model": "tiny", "messages": [{"role": "user", "content": parts}]}


def _new_temporary_folder() -> None:
    """Programs are forked from a process that has looked for a temporary folder before."""
    tempfile.tempdir = None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["./none"], "'./none': no such folder"),
        (["tiny", "settings.video.fsp=1"], "did you mean settings.video.fps?"),
        (["tiny", "--allow-dir", "none"], "--allow-dir none: no such folder"),
        (["tiny", "--port", "99999"], "--port 99999: must be 0 (a free one) to 65535"),
        (["tiny", "--host", "192.0.2.1"], "--host 192.0.2.1 --port 8000: cannot be served"),
        (["tiny", "--max-queries", "0"], "--max-queries 0: must be above 0"),
        (["tiny", "--api-key", ""], "--api-key (or $VTG_API_KEY) is empty"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_loaded(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = called(main, capsys, *words)
    assert (code, out) == (2, "")
    assert said in err and "loading torch" not in err


def test_a_checkpoint_of_another_version_or_half_written_is_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, half = tmp_path / "other", tmp_path / "half"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"model_type": "of_another_version"}))
    (other / "model.safetensors").write_bytes(b"")
    shutil.copytree(TINY_QWEN3_VL, half)
    next(half.glob("*.safetensors")).write_bytes(b"half")
    for folder, number, said in (
        (other, 2, "is of the type 'of_another_version'"),
        (half, 1, "header too small"),
        (tmp_path, 2, str(tmp_path)),
    ):
        code, out, err = called(main, capsys, folder, "--port", "0", "--device", "cpu")
        assert (code, out) == (number, "") and said in err, (folder, code, err)
