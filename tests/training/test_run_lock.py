"""One run at a time in a directory, whoever holds it and however that ended."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vtg.errors import ConfigError
from vtg.training import run_lock
from vtg.training.run_lock import HOLDER_FILE, LOCK_FILE, hold_run_lock

ROOT = Path(__file__).parents[2]

HOLD = """
import sys
from vtg.training.run_lock import hold_run_lock
with hold_run_lock(__import__("pathlib").Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""

RENEW = "import os, sys, time\nwhile True: os.utime(sys.argv[1]); time.sleep(0.2)"


def holder(folder: Path) -> subprocess.Popen[str]:
    """A process that is in the folder until its input is closed, or it is killed."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, cwd=ROOT, **pipes)  # type: ignore[call-overload]
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def left_by(folder: Path, **told: object) -> None:
    """What a run leaves that was killed, as it is told."""
    folder.mkdir(exist_ok=True)
    one = {"host": "elsewhere", "pid": 1, "since": "2026-01-01T00:00:00+00:00", "slurm": None}
    (folder / HOLDER_FILE).write_text(json.dumps(one | told))


def test_a_second_process_is_refused_with_host_number_and_time_until_the_first_ends(tmp_path):
    folder = tmp_path / "run"
    first = holder(folder)
    with pytest.raises(ConfigError) as error, hold_run_lock(folder):
        pass
    told = json.loads((folder / HOLDER_FILE).read_text())
    assert f"a run is going on there (process {first.pid} on {told['host']} since {told['since']})" in str(error.value)
    assert "choose another run_name or output_dir, or wait until it ends" in str(error.value)
    first.communicate()
    with hold_run_lock(folder):
        assert {path.name for path in folder.iterdir()} == {LOCK_FILE, HOLDER_FILE}
    assert not folder.exists() or not any(folder.iterdir())


def test_a_process_that_was_killed_blocks_nobody_even_where_its_children_live(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    forked = HOLD.replace("    print", "    __import__('os').fork() or __import__('time').sleep(600)\n    print")
    command = [sys.executable, "-c", forked, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}  # it holds the folder while its input is open
    process = subprocess.Popen(command, text=True, cwd=ROOT, start_new_session=True, **pipes)  # type: ignore[call-overload]
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    try:
        assert (folder / HOLDER_FILE).is_file()
        with hold_run_lock(folder):
            assert json.loads((folder / HOLDER_FILE).read_text())["pid"] == os.getpid()
        os.killpg(process.pid, 0)  # the child lives
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def test_a_holder_on_another_machine_is_believed_while_it_gives_signs_of_life(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run_lock, "STALE_S", 30.0)
    left_by(tmp_path, pid=77)
    renewing = subprocess.Popen([sys.executable, "-c", RENEW, str(tmp_path / HOLDER_FILE)])
    try:
        with pytest.raises(ConfigError, match=r"process 77 on elsewhere since 2026-01-01"), hold_run_lock(tmp_path):
            pass
    finally:
        renewing.kill()
        renewing.wait()
    assert "process 77 on elsewhere has left no word that it ended; waiting up to 30 s" in capsys.readouterr().err


def test_a_holder_on_another_machine_without_a_sign_of_life_is_gone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run_lock, "STALE_S", 1.5)
    left_by(tmp_path)
    with hold_run_lock(tmp_path):
        pass
    assert "waiting" in capsys.readouterr().err
    left_by(tmp_path)
    os.utime(tmp_path / HOLDER_FILE, (0, 0))
    with hold_run_lock(tmp_path):  # long ago: nobody waits
        pass
    assert capsys.readouterr().err == ""


def test_a_slurm_job_that_was_requeued_takes_over_from_itself_at_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    left_by(tmp_path, slurm=["4711", 0])
    with hold_run_lock(tmp_path):
        assert json.loads((tmp_path / HOLDER_FILE).read_text())["slurm"] == ["4711", 1]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(run_lock, "STALE_S", 1.0)
    left_by(tmp_path, slurm=["4711", 1])  # another step of the same start
    with hold_run_lock(tmp_path):
        assert "waiting" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": "a"}'])
def test_a_file_that_names_nobody_blocks_nobody(tmp_path, content):
    (tmp_path / HOLDER_FILE).write_text(content)
    (tmp_path / LOCK_FILE).write_text("x")
    with hold_run_lock(tmp_path):
        pass


def test_the_holder_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "BEAT_S", 0.05)
    with hold_run_lock(tmp_path):
        os.utime(tmp_path / HOLDER_FILE, (0, 0))
        deadline = time.monotonic() + 60
        while (tmp_path / HOLDER_FILE).stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (tmp_path / HOLDER_FILE).stat().st_mtime > 0
