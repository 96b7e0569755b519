import gc
import shutil
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from vtg.config.video_settings import VideoConfig
from vtg.errors import ConfigError, SampleError
from vtg.evaluation.ask_settings import ask_settings
from vtg.evaluation.grounder import Grounder
from vtg.serving.limits import Limits
from vtg.serving.model_worker import ModelWorker, Question
from vtg.serving.refusals import Refused
from vtg.video.video_window import VideoWindow

QUERIES = ["the red square moves", "the ball jumps", "nothing at all"]


def test_many_at_once_get_the_answers_that_each_gets_alone(worker: ModelWorker, videos: list[str]) -> None:
    windows = [VideoWindow(path) for path in videos[:4]]
    windows.append(VideoWindow(videos[0], start_s=1.0, end_s=3.0))
    futures = [worker.submit(Question(window, QUERIES)) for window in windows]
    grounder = Grounder(worker.settings, device="cpu")
    texts = []
    for window, future in zip(windows, futures, strict=True):
        got, rows = future.result(60), grounder.ask(QUERIES, window, max_new_tokens=16)
        assert [[*map(list, one.spans)] for one in got.answers] == [row["prediction"] for row in rows]
        assert [(one.text, str(one.status)) for one in got.answers] == [(row["text"], row["status"]) for row in rows]
        assert got.clip.duration_s == rows[0]["duration"] and len(got.clip.timestamps_s) > 1
        assert all(0 < count <= 16 for count in got.completion_tokens) and min(got.prompt_tokens) > 16
        texts += [row["text"] for row in rows]
    assert len(set(texts)) > 1
    assert worker.waiting == 0


def test_what_fails_fails_its_own_question(worker: ModelWorker, videos: list[str], tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    good = worker.submit(Question(VideoWindow(videos[0]), ["red"]))
    bad = worker.submit(Question(VideoWindow(str(tmp_path / "text.mp4")), ["red"]))
    empty = worker.submit(Question(VideoWindow(videos[0]), [" . "]))
    odd = worker.submit(Question(VideoWindow(videos[0]), ["red"], video_settings=_sampled(worker, sampling="odd")))
    for future, error, said in (
        (bad, SampleError, "not a readable video"),
        (empty, SampleError, "is empty"),
        (odd, ConfigError, "video.sampling = 'odd'"),
    ):
        with pytest.raises(error, match=said):
            future.result(60)
    assert good.result(60).answers
    with pytest.raises(Refused, match="5 queries at once: at most 4") as too_many:
        worker.submit(Question(VideoWindow(videos[0]), ["red"] * 5))
    assert too_many.value.status == 413
    assert worker.is_alive and worker.waiting == 0


def test_sampling_can_differ_from_question_to_question(worker: ModelWorker, videos: list[str]) -> None:
    plain = worker.submit(Question(VideoWindow(videos[0]), ["red"])).result(60)
    fewer = worker.submit(Question(VideoWindow(videos[0]), ["red"], _sampled(worker, max_frames=4))).result(60)
    assert len(fewer.clip.timestamps_s) == 4 < len(plain.clip.timestamps_s)
    assert fewer.prompt_tokens < plain.prompt_tokens


def test_a_file_that_was_replaced_is_read_again(worker: ModelWorker, videos: list[str], tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    seen = []
    for source in videos[:2]:
        path.unlink(missing_ok=True)
        shutil.copy(source, path)
        seen.append(worker.submit(Question(VideoWindow(str(path)), ["red"])).result(60).clip)
    assert seen[0].frames.shape != seen[1].frames.shape or (seen[0].frames != seen[1].frames).any()


def test_further_questions_are_refused_while_too_many_wait_and_the_gone_make_room(
    videos: list[str], at_decoding: Callable[[Callable[[str], object]], None]
) -> None:
    go_on = threading.Event()
    at_decoding(lambda path: go_on.wait(60))
    worker = ModelWorker(ask_settings("tiny"), limits=Limits(waiting=3, readers=1), device="cpu")
    with worker:
        futures = [worker.submit(Question(VideoWindow(path), ["red"])) for path in videos[:3]]
        with pytest.raises(Refused, match="3 requests wait already; try again in a moment") as refused:
            worker.submit(Question(VideoWindow(videos[0]), ["red"]))
        assert refused.value.status == 429
        assert futures[1].cancel()
        last = worker.submit(Question(VideoWindow(videos[3]), ["red"]))
        go_on.set()
        assert last.result(60).answers and futures[0].result(60).answers
        go_on.clear()
        left = worker.submit(Question(VideoWindow(videos[4]), ["red"]))
        worker.close()
        go_on.set()
    for ask in (lambda: left.result(60), lambda: worker.submit(Question(VideoWindow(videos[0]), ["red"]))):
        with pytest.raises(Refused) as refused:
            ask()
        assert refused.value.status == 503
    assert not worker.is_alive


def test_nothing_of_a_question_stays_until_garbage_is_collected(worker: ModelWorker, videos: list[str]) -> None:
    gc.collect()
    gc.disable()
    try:
        future = worker.submit(Question(VideoWindow(videos[0]), ["red"], asked_once=True))
        clip = weakref.ref(future.result(60).clip)
        failed = worker.submit(Question(VideoWindow(videos[0]), ["  "], asked_once=True))
        error = failed.exception(60)
        assert isinstance(error, SampleError) and error.__traceback__ is None
        del future, failed, error
        deadline = time.monotonic() + 60
        while clip() is not None:  # the model's thread may still be at its end
            assert time.monotonic() < deadline, gc.get_referrers(clip())
            time.sleep(0.01)
    finally:
        gc.enable()


def _sampled(worker: ModelWorker, **changes: object) -> VideoConfig:
    return replace(worker.settings.video, **changes)
