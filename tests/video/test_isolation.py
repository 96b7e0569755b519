"""Decoding in a child process: what goes wrong in it costs one sample.

Children are stopped and killed from here. Where one has to do something by itself, it finds a `sitecustomize.py` of the
test on the parent's `sys.path`, which acts when a request comes (the child goes to the parent's folder then).
"""

import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from vtg.config.video_settings import VideoConfig
from vtg.errors import ConfigError
from vtg.video.clip import DecodeError
from vtg.video.clip_loading import load_clip
from vtg.video.isolation import IsolatedLoader
from vtg.video.video_window import VideoWindow

FAST = VideoConfig(fps=0.0, min_frames=1, decoder="pyav", resize="fast")
"""No torch in the child: it starts in a second."""

ON_REQUEST = """
import sys
def act():
{code}
sys.addaudithook(lambda event, arguments: act() if event == "os.chdir" else None)
"""

ONE_SECOND = [0, 250, 500, 750]


@pytest.fixture
def loader() -> Iterator[IsolatedLoader]:
    loader = IsolatedLoader(timeout_s=60.0)
    yield loader
    loader.close()


@pytest.fixture
def on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has the children that start from now on run this code at every request."""

    def install(code: str) -> None:
        folder = tmp_path / "customized"
        folder.mkdir(exist_ok=True)
        lines = "".join(f"    {line}\n" for line in code.splitlines())
        (folder / "sitecustomize.py").write_text(ON_REQUEST.format(code=lines))
        monkeypatch.syspath_prepend(str(folder))

    return install


def ended(pid: int, *, within_s: float = 5.0) -> bool:
    """Whether the process ends in this time; one that only waits for its exit code to be read has ended."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_a_clip_is_the_same_as_without_isolation(loader, make_video):
    path = make_video([7500 + 250 * at for at in range(40)], name="video.mkv")
    window = VideoWindow(path, start_s=np.float64(3.0), end_s=5.0, duration_s=2.0)
    mine, theirs = load_clip(window, FAST, factor=16), loader.load_clip(window, FAST, factor=16)
    assert np.array_equal(mine.frames, theirs.frames) and np.array_equal(mine.timestamps_s, theirs.timestamps_s)
    for name in ("duration_s", "path", "start_s", "end_s", "pad"):
        assert getattr(mine, name) == getattr(theirs, name)
    assert loader.restarts == 0 and loader.pid != os.getpid()


@pytest.mark.slow
def test_exact_resizing_is_the_same_too_and_its_imports_take_no_time_of_the_clip(loader, make_video):
    loader.timeout_s = 3.0
    path, config = make_video(ONE_SECOND), VideoConfig(decoder="pyav")
    assert np.array_equal(
        loader.load_clip(VideoWindow(path), config).frames, load_clip(VideoWindow(path), config).frames
    )


def test_a_relative_path_begins_at_the_parents_folder_of_now(loader, make_video, monkeypatch):
    path = Path(make_video(ONE_SECOND))
    loader.load_clip(VideoWindow(str(path)), FAST)
    monkeypatch.chdir(path.parent)
    assert loader.load_clip(VideoWindow(path.name), FAST).path == path.name


def test_names_need_not_be_utf8(loader, make_video, tmp_path):
    path = make_video([100 * at for at in range(10)])
    odd = os.fsdecode(os.fsencode(str(tmp_path)) + b"/odd \xff.mp4")
    os.rename(path, odd)
    assert loader.load_clip(VideoWindow(odd), FAST).path == odd
    with pytest.raises(DecodeError, match="no such file"):
        loader.load_clip(VideoWindow(odd + "x"), FAST)


def test_errors_come_back_as_they_were_raised(loader, make_video, tmp_path):
    path, page = make_video(ONE_SECOND), tmp_path / "page.mp4"
    page.write_bytes(b"<html>404</html>" * 20)
    cases = [
        (str(page), FAST, {}, DecodeError),
        ("/nowhere/a.mp4", FAST, {}, DecodeError),
        (path, FAST, {"duration_s": 120.0}, DecodeError),
        (path, FAST, {"start_s": 7.0}, DecodeError),
        (path, VideoConfig(decoder="cv2"), {}, ConfigError),
    ]
    for file, config, times, kind in cases:
        with pytest.raises(kind) as mine:
            load_clip(VideoWindow(file, **times), config)
        with pytest.raises(kind) as theirs:
            loader.load_clip(VideoWindow(file, **times), config)
        assert type(mine.value) is type(theirs.value) and str(mine.value) == str(theirs.value)
    assert loader.restarts == 0 and len(loader.load_clip(VideoWindow(path), FAST).frames) == 4


def test_a_missing_library_is_an_import_error(loader, make_video, on_request):
    on_request("raise ImportError('no such decoder here')")
    with pytest.raises(ImportError, match="no such decoder here"):
        loader.load_clip(VideoWindow(make_video(ONE_SECOND)), FAST)


def test_a_bug_in_the_child_is_no_bad_sample(loader, make_video):
    path = make_video(ONE_SECOND)
    with pytest.raises(RuntimeError, match=r"video\.mp4: a bug, in the process that decodes:\nTraceback [\s\S]*speed"):
        loader.load_clip(VideoWindow(path), FAST, speed=2)
    assert len(loader.load_clip(VideoWindow(path), FAST).frames) == 4


def test_a_child_that_hangs_costs_one_sample(loader, make_video):
    path = make_video(ONE_SECOND)
    loader.load_clip(VideoWindow(path), FAST)
    stopped = loader.pid
    os.kill(stopped, signal.SIGSTOP)
    loader.timeout_s = 0.5
    with pytest.raises(
        DecodeError, match=r"video\.mp4: decoding took longer than 0\.5 s \(video\.timeout_s\); the file may"
    ):
        loader.load_clip(VideoWindow(path), FAST)
    assert ended(stopped)
    loader.timeout_s = 60.0
    assert len(loader.load_clip(VideoWindow(path), FAST).frames) == 4
    assert loader.restarts == 1 and loader.pid != stopped


def test_a_hang_that_lets_no_python_run_is_ended_with_the_commands_it_started(loader, make_video, on_request, tmp_path):
    on_request(
        "import ctypes, pathlib, subprocess\n"
        f"command = subprocess.Popen(['sleep', '600'])\n"
        f"pathlib.Path({str(tmp_path)!r}, 'command').write_text(str(command.pid))\n"
        "ctypes.PyDLL(None).pause()"
    )
    loader.timeout_s = 1.0
    with pytest.raises(DecodeError, match="took longer than 1 s"):
        loader.load_clip(VideoWindow(make_video(ONE_SECOND)), FAST)
    assert ended(int((tmp_path / "command").read_text()))


@pytest.mark.parametrize(
    ("code", "end"),
    [
        ("os.write(2, b'moov atom on fire\\n'); os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV: moov atom on fire"),
        ("os._exit(3)", "exit code 3"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL, perhaps for lack of memory"),
    ],
)
def test_a_crash_costs_one_sample_and_says_how_it_ended(loader, make_video, on_request, code, end):
    path = make_video(ONE_SECOND)
    on_request(f"import os, signal\n{code}")
    for restarts in (0, 1):
        with pytest.raises(DecodeError) as error:
            loader.load_clip(VideoWindow(path), FAST)
        assert str(error.value) == (
            f"{path}: the decoder crashed ({end}); check the file, or try another video.decoder"
        )
        assert loader.restarts == restarts and loader.pid is None


def test_a_crash_in_the_middle_of_a_request_from_another_thread(loader, make_video):
    path = make_video(ONE_SECOND)
    loader.load_clip(VideoWindow(path), FAST)
    child = loader.pid
    os.kill(child, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(loader.load_clip, VideoWindow(path), FAST)
        time.sleep(0.2)
        os.kill(child, signal.SIGSEGV)
        os.kill(child, signal.SIGCONT)
        with pytest.raises(DecodeError, match=r"video\.mp4: the decoder crashed \(SIGSEGV\)"):
            asked.result()
    assert len(loader.load_clip(VideoWindow(path), FAST).frames) == 4


def test_a_child_that_ends_between_requests_is_replaced(loader, make_video):
    path = make_video(ONE_SECOND)
    loader.load_clip(VideoWindow(path), FAST)
    child = loader.pid
    os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # all its threads have ended, and nobody has been told yet
    assert len(loader.load_clip(VideoWindow(path), FAST).frames) == 4 and loader.restarts == 1


def test_a_child_that_cannot_start_is_no_bad_sample(loader, make_video, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import os; os.write(2, b'no libav\\n'); os._exit(7)")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RuntimeError, match=r"cannot be started \(exit code 7: no libav\); set video\.isolate=false"):
        loader.load_clip(VideoWindow(make_video(ONE_SECOND)), FAST)


def test_what_libraries_print_breaks_nothing_and_reaches_no_terminal(loader, make_video, on_request, capfd):
    path = make_video(ONE_SECOND)
    on_request("import os\nfor at in range(300): os.write(1, b'out' * 1000), os.write(2, b'err\\n' * 1000)")
    for _ in range(2):
        assert len(loader.load_clip(VideoWindow(path), FAST).frames) == 4
    assert capfd.readouterr() == ("", "")


def test_what_the_child_logs_is_logged_here(loader, make_video, on_request, caplog):
    on_request("import logging\nlogging.getLogger('vtg.video.clip_loading').warning('%s stood in', 'ffmpeg')")
    with caplog.at_level(logging.WARNING):
        loader.load_clip(VideoWindow(make_video(ONE_SECOND)), FAST)
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("vtg.video.clip_loading", "ffmpeg stood in")
    ]


def test_ctrl_c_is_for_the_parent(loader, make_video, capfd):
    path = make_video(ONE_SECOND)
    loader.load_clip(VideoWindow(path), FAST)
    assert os.getpgid(loader.pid) != os.getpgid(0)  # the terminal signals its foreground group
    os.kill(loader.pid, signal.SIGINT)
    loader.load_clip(VideoWindow(path), FAST)
    assert loader.restarts == 0 and capfd.readouterr().err == ""


@pytest.fixture
def interruptible():
    """Ctrl-C interrupts: a shell has what it starts in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupted_request_leaves_no_answer_for_the_next(interruptible, loader, make_video, frame_numbers):
    first, second = make_video(ONE_SECOND, name="a.mp4"), make_video([0, 100], name="b.mp4")
    loader.load_clip(VideoWindow(first), FAST)
    os.kill(loader.pid, signal.SIGSTOP)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        loader.load_clip(VideoWindow(first), FAST)
    assert frame_numbers(loader.load_clip(VideoWindow(second), FAST).frames) == [0, 1]


def test_threads_share_a_child_and_get_their_own_clips(loader, make_video):
    paths = [make_video([40 * at for at in range(count)], name=f"{count}.mp4") for count in (4, 6, 8, 10)]
    with ThreadPoolExecutor(4) as pool:
        clips = list(pool.map(lambda path: loader.load_clip(VideoWindow(path), FAST), paths * 3))
    assert [len(clip.frames) for clip in clips] == [4, 6, 8, 10] * 3 and loader.restarts == 0


def test_a_child_outlives_the_thread_that_started_it(loader, make_video):
    path = make_video(ONE_SECOND)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(loader.load_clip, VideoWindow(path), FAST).result()
    child = loader.pid
    assert not ended(child, within_s=0.3)
    loader.load_clip(VideoWindow(path), FAST)
    assert loader.pid == child


def _load_in_worker(loader: IsolatedLoader, path: str, answers) -> None:
    before = loader.pid
    clip = loader.load_clip(VideoWindow(path), FAST)
    answers.put((before, loader.pid, len(clip.frames)))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_daemonic_worker_starts_a_child_of_its_own(loader, make_video, method):
    path = make_video(ONE_SECOND)
    loader.load_clip(VideoWindow(path), FAST)
    context = multiprocessing.get_context(method)
    answers = context.Queue()
    worker = context.Process(target=_load_in_worker, args=(loader, path, answers), daemon=True)
    worker.start()
    before, child, frames = answers.get(timeout=60)
    worker.join()
    assert before is None and child != loader.pid and frames == 4 and worker.exitcode == 0
    assert ended(child)
    loader.load_clip(VideoWindow(path), FAST)
    assert loader.restarts == 0


def test_a_pickled_copy_has_no_child(loader, make_video):
    loader.load_clip(VideoWindow(make_video(ONE_SECOND)), FAST)
    copy = pickle.loads(pickle.dumps(loader))
    assert copy.timeout_s == 60.0 and copy.pid is None and loader.pid is not None


@pytest.mark.parametrize("state", ["idle", "stopped"])
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_the_child_ends_with_its_parent(make_video, state, end):
    code = (
        "import sys, time\nfrom vtg.config.video_settings import VideoConfig\n"
        "from vtg.video.isolation import IsolatedLoader\nfrom vtg.video.video_window import VideoWindow\n"
        "loader = IsolatedLoader(timeout_s=60.0)\n"
        "config = VideoConfig(min_frames=1, decoder='pyav', resize='fast')\n"
        "loader.load_clip(VideoWindow(sys.argv[1]), config)\n"
        "print(loader.pid, flush=True)\ntime.sleep(600)"
    )
    command = [sys.executable, "-c", code, make_video(ONE_SECOND)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        if state == "stopped":
            os.kill(child, signal.SIGSTOP)
        parent.send_signal(end)
        assert ended(child)


def test_closing_ends_the_child_and_a_later_request_starts_another(loader, make_video):
    path = make_video(ONE_SECOND)
    loader.load_clip(VideoWindow(path), FAST)
    child = loader.pid
    loader.close()
    assert ended(child) and loader.pid is None
    loader.close()
    assert len(loader.load_clip(VideoWindow(path), FAST).frames) == 4


def test_a_time_limit_must_be_above_zero():
    with pytest.raises(ConfigError, match=r"video\.timeout_s = 0\.0: seconds for one clip, must be above 0"):
        IsolatedLoader(timeout_s=0.0)
