"""Questions about a clip stay together, the longest clips come first, and processes get equal work."""

from itertools import chain

import numpy as np
import pytest

from vtg.annotations.sample import Sample
from vtg.annotations.target import Spans
from vtg.config.video_settings import VideoConfig
from vtg.evaluation.question_plan import plan_questions, share

VIDEO = VideoConfig(fps=2.0, min_frames=4, max_frames=100)


def sample(video: str, duration_s: float, start_s: float | None = None) -> Sample:
    return Sample(video, duration_s, Spans(((0.0, 1.0),)), "x", "q", video_start_s=start_s)


SAMPLES = [
    sample("a.mp4", 10.0),
    sample("b.mp4", 30.0),
    sample("a.mp4", 10.0),
    sample("c.mp4", 500.0),
    sample("b.mp4", 20.0, start_s=5.0),
    sample("c.mp4", 500.0),
    sample("b.mp4", 20.0, start_s=5.0),
]


def test_clips_are_asked_about_by_their_frames_each_with_all_its_questions():
    plan = plan_questions(SAMPLES, VIDEO)
    assert [(one.clip, one.asked) for one in plan] == [(3, (3, 5)), (1, (1,)), (4, (4, 6)), (0, (0, 2))]
    assert [one.cost for one in plan] == [100 + 16, 60 + 8, 40 + 16, 20 + 16]
    assert plan_questions([], VIDEO) == []


def test_in_the_control_each_question_is_about_the_next_other_video():
    plan = plan_questions(SAMPLES, VIDEO, shuffled_videos=True)
    shown = {index: SAMPLES[one.clip] for one in plan for index in one.asked}
    following = {0: 1, 1: 2, 2: 3, 3: 4, 4: 5, 5: 6, 6: 0}
    assert shown == {index: SAMPLES[other] for index, other in following.items()}
    with pytest.raises(AssertionError, match="two videos"):
        plan_questions(SAMPLES[:1], VIDEO, shuffled_videos=True)


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_processes_get_all_questions_and_nearly_equal_work(ranks):
    rng = np.random.default_rng(0)
    lengths = rng.uniform(3, 60, 40)
    samples = [sample(f"{video}.mp4", lengths[video]) for video in rng.integers(0, 40, 200)]
    plan = plan_questions(samples, VIDEO)
    parts = share(plan, ranks)
    assert sorted(chain.from_iterable(one.asked for part in parts for one in part)) == list(range(200))
    costs = [sum(one.cost for one in part) for part in parts]
    assert max(costs) - min(costs) <= min(one.cost for one in plan) + max(one.cost for one in plan[-2 * ranks :])
    assert [sorted(part, key=plan.index) for part in parts] == parts
