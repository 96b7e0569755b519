"""A run is followed from its files: how it stands, and its page in a real browser while they change."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from vtg.config.schema import SFTConfig
from vtg.errors import RunError
from vtg.report import live_state
from vtg.report.live_state import run_state
from vtg.report.run_reader import read_run
from vtg.training import run_lock
from vtg.training.run_dir import RunDir
from vtg.training.run_lock import hold_run_lock
from vtg.training.run_record import RunRecord


def begin(folder: Path, *, steps: int = 10) -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text(f"run_name: mine\ntrainer:\n  max_steps: {steps}\n")
    start = {"time": (datetime.now().astimezone() - timedelta(minutes=1)).isoformat(timespec="seconds")}
    record = RunRecord(history=[start | {"checkpoint": None, "changes": {}}], rows={"test": {"count": 4, "digest": ""}})
    record.write(folder)
    return folder


def log(folder: Path, step: int, *, ago_s: float = 0.0, **values: float) -> None:
    when = (datetime.now().astimezone() - timedelta(seconds=ago_s)).isoformat(timespec="milliseconds")
    with (folder / "train_log.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "time": when, **values}) + "\n")


def test_the_lock_is_read_as_it_is_kept():
    assert (live_state.HOLDER_FILE, live_state.STALE_S) == (run_lock.HOLDER_FILE, run_lock.STALE_S)


def test_a_run_is_told_by_what_it_does_and_how_far_it_is(tmp_path):
    folder = begin(tmp_path / "run")
    with hold_run_lock(folder):
        assert run_state(read_run(folder)).detail == "loading the model and its data"
        row = {"qid": "a", "duration": 9.0, "timestamp": [1.0, 2.0], "sentence": "he sits", "prediction": [[1.0, 3.0]]}
        part = folder / "base_predictions.jsonl.part0"
        part.write_text("{}\n" + json.dumps({"rows": {"0": row, "1": row}, "skipped": []}) + '\n{"rows": {"2')
        assert run_state(read_run(folder)).detail == "testing the base model: 2 of 4 answers"
        part.unlink()
        log(folder, 2, ago_s=30, loss=1.0, **{"batch/tokens_per_second": 100.0})
        log(folder, 4, ago_s=10, loss=0.5, **{"batch/tokens_per_second": 200.0})
        with (folder / "train_log.jsonl").open("a") as file:
            file.write('{"step": 5, "lo')
        state = run_state(read_run(folder))
    assert (state.state, state.detail, state.step, state.steps, state.share) == ("running", "training", 4, 10, 0.4)
    assert state.tokens_per_second == 150.0
    # 6 steps of 10 s, and 10 s have passed since.
    assert state.left_s == pytest.approx(50, abs=5)
    assert read_run(folder).notes == ()


def test_a_run_without_steps_is_measured_by_its_epochs_and_by_this_start_alone(tmp_path):
    folder = begin(tmp_path / "run", steps=-1)
    (folder / "config.yaml").write_text("trainer:\n  max_steps: -1\n  num_train_epochs: 3\n")
    log(folder, 5, ago_s=9000, epoch=0.5)
    log(folder, 10, ago_s=20, epoch=1.0, num_tokens=1000)
    with hold_run_lock(folder):
        assert run_state(read_run(folder)).left_s is None  # one entry since the resume has no pace
        log(folder, 20, ago_s=0, epoch=2.0, num_tokens=3000)
        state = run_state(read_run(folder))
    assert (state.steps, state.step) == (30, 20)
    assert state.left_s == pytest.approx(20, abs=3)
    assert state.tokens_per_second == pytest.approx(100, rel=0.1)


@pytest.mark.parametrize(
    ("error", "state", "why"),
    [
        (None, "finished", ""),
        (SystemExit(143), "stopped", "exit code 143"),
        (KeyboardInterrupt(), "stopped", "exit code 130"),
        (RunError("the loss is not finite"), "failed", "the loss is not finite"),
    ],
)
def test_how_a_start_ended_is_kept_and_told(error, state, why, tmp_path):
    folder = tmp_path / "run"
    config = SFTConfig(output_dir=str(folder))

    def start() -> None:
        with RunDir(config).claimed():
            RunDir(config).open()
            assert run_state(read_run(folder)).state == "running"
            if error is not None:
                raise error

    if error is None:
        start()
    else:
        with pytest.raises(type(error)):
            start()
    found = run_state(read_run(folder))
    assert (found.state, found.detail) == (state, why)


def test_a_start_that_is_refused_leaves_the_end_of_the_one_before(tmp_path):
    config = SFTConfig(output_dir=str(tmp_path / "run"))
    with pytest.raises(RunError), RunDir(config).claimed():
        RunDir(config).open()
        raise RunError("full")
    with pytest.raises(RunError), RunDir(config).claimed():
        raise RunError("before it began")
    assert run_state(read_run(tmp_path / "run")).detail == "full"


def test_a_killed_run_is_told_from_one_that_ended(tmp_path):
    folder = begin(tmp_path / "run")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    holder = {"host": socket.gethostname(), "pid": gone.pid, "since": "", "slurm": None}
    (folder / ".running").write_text(json.dumps(holder))
    assert run_state(read_run(folder)).state == "failed"
    (folder / ".running").write_text(json.dumps(holder | {"pid": os.getpid()}))
    assert run_state(read_run(folder)).state == "running"
    os.utime(folder / ".running", (0, 0))  # the number is another process's now
    assert run_state(read_run(folder)).state == "failed"
    (folder / ".running").unlink()
    assert run_state(read_run(folder)).state == "stopped"
    (folder / "metrics.json").write_text('{"tuned": {"mIoU": 1.0}}')
    assert run_state(read_run(folder)).state == "finished"


@pytest.fixture
def server(tmp_path) -> Iterator[tuple[Path, str]]:
    """A folder that is not there yet, and the address at which it is followed."""
    pytest.importorskip("uvicorn")
    from vtg.report.following import FollowedRun, application_of
    from vtg.serving.request_guard import Guard
    from vtg.serving.web_server import WebServer, bind, url_of

    folder, bound, started = tmp_path / "run", bind("127.0.0.1", 0), threading.Event()
    guarded = Guard(application_of(FollowedRun(folder)), host="127.0.0.1", key=None, max_body_bytes=0)
    server = WebServer(guarded, on_start=started.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    assert started.wait(30)
    yield folder, url_of(bound)
    server.should_exit = True
    thread.join()


def test_the_page_keeps_up_and_stays_readable(server, browser):
    from playwright.sync_api import expect

    folder, url = server
    page = browser.new_page(viewport={"width": 800, "height": 500})
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    page.goto(url)
    live = page.locator("#live")
    expect(live).to_contain_text("no run in")
    begin(folder)
    with hold_run_lock(folder):
        log(folder, 1, loss=1.0, grad_norm=1.0)
        log(folder, 2, loss=0.9, grad_norm=2.0)
        expect(live).to_contain_text("step 2 of 10")
        page.evaluate("document.querySelector('#settings details')?.setAttribute('open', '')")
        page.evaluate("scrollTo(0, document.querySelector('#training').offsetTop)")
        page.evaluate("document.querySelector('#settings').dataset.mine = 'kept'")
        before = page.evaluate("scrollY")
        log(folder, 3, loss=0.8, grad_norm=3.0)
        expect(live).to_contain_text("step 3 of 10")
        expect(page.locator("#training .hit[data-tip^='step 3']").first).to_be_attached()
        # What did not change is the same element, and the page has not moved.
        assert page.evaluate("document.querySelector('#settings').dataset.mine") == "kept"
        assert before == page.evaluate("scrollY") > 0
    expect(live).to_contain_text("stopped")
    shutil.rmtree(folder)
    expect(live).to_contain_text("no run in")
    expect(page.locator("main > section")).to_have_count(0)
    assert faults == []
    page.close()


def test_pages_of_other_names_get_nothing(server):
    from http.client import HTTPConnection
    from urllib.parse import urlsplit

    where = urlsplit(server[1])
    connection = HTTPConnection(str(where.hostname), where.port)
    connection.request("GET", "/", headers={"Host": "evil.example"})
    assert connection.getresponse().status == 403


def test_ctrl_c_ends_it(tmp_path):
    words = [sys.executable, "-m", "vtg.report", "--follow", "--port", "0"]
    with subprocess.Popen([*words, str(tmp_path / "later")], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert f"/ shows {tmp_path / 'later'}; Ctrl-C ends it" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130


def test_what_cannot_be_followed_is_named(tmp_path, capsys):
    from vtg.report.__main__ import main

    (tmp_path / "file").write_text("")
    for words, said in (
        (["--follow", "a", "b"], "--follow shows one run, and 2 were given"),
        (["--follow", "a", "--json"], "--follow writes no file and no JSON"),
        (["--follow", str(tmp_path / "file")], "is a file; give the output_dir"),
        (["a", "--port", "1"], "--port is for --follow"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(words)
        assert said in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--follow", str(tmp_path / "later"), "--port", str(port)]) == 2
    assert f"--port {port}: cannot be served" in capsys.readouterr().err
