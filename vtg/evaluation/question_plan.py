"""In which order questions are asked, and by which process: those about a clip together, the longest clips first.

The longest first, because memory runs out at the beginning or not at all, batches are of clips of one length, and what
is left at the end to share between processes is small.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vtg.annotations.sample import Sample
from vtg.annotations.sample_table import SampleTable
from vtg.config.video_settings import VideoConfig

QUERY_FRAMES = 8
"""What a question costs beside its clip, in frames. Of 256 frames at most it is little, and need not be right."""


@dataclass(frozen=True)
class ClipQuestions:
    """Questions about one clip.

    Attributes:
        clip: index of a sample that has it.
        asked: indices of the samples whose queries are asked.
        cost: in frames.
    """

    clip: int
    asked: tuple[int, ...]
    cost: float


def plan_questions(
    samples: Sequence[Sample], video: VideoConfig, *, shuffled_videos: bool = False
) -> list[ClipQuestions]:
    """All questions, every index once.

    `shuffled_videos`: each is asked about the clip of the nearest later sample of another video, of which there must be
    one.
    """
    table = SampleTable.of(samples)
    if not len(table):
        return []
    _, videos = table.videos()
    seconds = table.numbers("duration_s")
    shown = _of_another_video(videos) if shuffled_videos else np.arange(len(table))
    # A clip is its file and its part of it; NaN, for the file's beginning or end, equals nothing else.
    clips = np.stack([videos, *(np.nan_to_num(table.numbers(f"video_{end}_s"), nan=-1) for end in ("start", "end"))])
    _, first, clip_of = np.unique(clips, axis=1, return_index=True, return_inverse=True)
    clip_of = clip_of.reshape(-1)[shown]
    frames = np.clip(seconds[first] * video.fps, video.min_frames, video.max_frames)
    order = np.argsort(clip_of, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(clip_of[order])) + 1)
    questions = [
        ClipQuestions(int(first[clip]), tuple(asked.tolist()), float(frames[clip] + QUERY_FRAMES * len(asked)))
        for asked, clip in ((asked, clip_of[asked[0]]) for asked in groups)
    ]
    # By frames and not by cost: clips of one length in a batch are padded least.
    return sorted(questions, key=lambda one: (-frames[clip_of[one.asked[0]]], one.asked))


def share(questions: Sequence[ClipQuestions], count: int) -> list[list[ClipQuestions]]:
    """The questions of each of `count` processes, of nearly the same cost, in their order."""
    parts: list[list[ClipQuestions]] = [[] for _ in range(count)]
    loads = [(0.0, at) for at in range(count)]
    for one in questions:
        load, at = heapq.heappop(loads)
        parts[at].append(one)
        heapq.heappush(loads, (load + one.cost, at))
    return parts


def _of_another_video(videos: np.ndarray) -> np.ndarray:
    """(N,) the nearest later sample of another video, after the last the first again; `videos`: (N,) whose each is."""
    count, twice = len(videos), np.concatenate([videos, videos])
    changes = np.flatnonzero(np.diff(twice)) + 1  # where another video begins
    assert len(changes), "the shuffled-video control needs at least two videos"
    return changes[np.searchsorted(changes, np.arange(count), side="right")] % count
