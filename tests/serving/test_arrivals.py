from collections import deque

import pytest

from vtg.evaluation.answering import answering_engine
from vtg.evaluation.ask_settings import ask_settings
from vtg.evaluation.grounder import Grounder
from vtg.serving.arrivals import AllGone, Arrivals
from vtg.serving.asked_question import Job, Question
from vtg.video.video_window import VideoWindow


@pytest.fixture(scope="module")
def grounder() -> Grounder:
    return Grounder(ask_settings("tiny").settings, device="cpu")


def make_job(grounder: Grounder, path: str, queries: list[str]) -> Job:
    job = Job(Question(VideoWindow(path), queries))
    job.clip = grounder.provider.clip(VideoWindow(path))
    job.prompts = grounder.questions(queries, job.clip)
    return job


def test_what_arrives_while_others_are_decoded_is_let_in(grounder: Grounder, videos: list[str]) -> None:
    jobs = [make_job(grounder, path, ["red", "blue"]) for path in videos[:2]]
    late = make_job(grounder, videos[2], ["green"])
    ready, empty = deque(jobs), []

    def next_ready() -> Job | None:
        if ready:
            return ready.popleft()
        empty.append(None)
        return late if len(empty) == 3 else None

    arrivals = Arrivals(grounder.model, next_ready, is_over=lambda: False)
    engine = answering_engine(grounder.model, grounder.processor, max_new_tokens=8, at_once=8)
    order = [arrivals.asked.pop(done.request)[0] for done in engine.decode(arrivals)]
    assert sorted(map(id, order)) == sorted(map(id, [*jobs, *jobs, late])) and not arrivals.asked
    assert engine.peak.rows == 5


def test_nothing_is_decoded_for_nobody(grounder: Grounder, videos: list[str]) -> None:
    gone, kept = (make_job(grounder, path, ["red", "blue"]) for path in videos[:2])
    ready = deque([gone, kept])
    arrivals = Arrivals(grounder.model, lambda: ready.popleft() if ready else None, is_over=lambda: False)
    next(arrivals)
    gone.future.cancel()
    with pytest.raises(AllGone):
        next(arrivals)
    assert list(ready) == [kept]
    rest = Arrivals(grounder.model, lambda: ready.popleft() if ready else None, is_over=lambda: False)
    assert len(list(rest)) == 2
    kept.future.cancel()
    with pytest.raises(AllGone):
        next(rest)
    over = Arrivals(grounder.model, lambda: kept, is_over=lambda: True)
    with pytest.raises(AllGone):
        next(over)
