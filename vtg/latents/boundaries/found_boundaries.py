"""Boundaries of one video or row, as spans between them: what is written, and what annotated moments say of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from vtg.latents.boundaries.peaks import BoundaryCounts, pick_peaks, uniform_cuts
from vtg.latents.boundaries.surprise import Surprise
from vtg.latents.video_sources import VideoSource

TOLERANCE_S = 0.5
"""How near to an annotated end a boundary counts as it."""


@dataclass(frozen=True)
class FoundBoundaries:
    """`times_s` and `scores` are in order of time; a score is the error there over the video's mean."""

    source: VideoSource
    times_s: tuple[float, ...]
    scores: tuple[float, ...]
    duration_s: float

    @classmethod
    def of(cls, source: VideoSource, surprise: Surprise, *, threshold: float, min_gap_s: float) -> "FoundBoundaries":
        """The peaks of a video's errors."""
        scores = surprise.scores
        at = pick_peaks(surprise.times_s, scores, threshold=threshold, min_gap_s=min_gap_s)
        return cls(source, tuple(surprise.times_s[at].tolist()), tuple(scores[at].tolist()), surprise.duration_s)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each span between two boundaries, of what happens there nothing is said yet."""
        edges_s = [0.0, *self.times_s, self.duration_s]
        scores = [None, *self.scores, None]
        spans = [pair for pair in zip(pairwise(edges_s), pairwise(scores), strict=True) if pair[0][0] < pair[0][1]]
        return [
            {
                **self.source.row,
                "duration": self.duration_s,
                "timestamp": [round(start_s, 3), min(round(end_s, 3), self.duration_s)],
                "sentence": f"event {number} of {len(spans)}",
                "qid": f"{self.source.name}_{number}",
                # The clip's own start and end are no boundaries.
                "boundary_scores": [None if score is None else round(score, 3) for score in between],
            }
            for number, ((start_s, end_s), between) in enumerate(spans, 1)
        ]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        pairs = zip(self.times_s, self.scores, strict=True)
        boundaries = [{"time_s": time_s, "score": score} for time_s, score in pairs]
        return {**self.source.row, "duration": self.duration_s, "boundaries": boundaries}


def end_recalls(found: Sequence[FoundBoundaries]) -> dict[str, Any] | None:
    """Which share of annotated ends a boundary is near to, and what as many uniform cuts are; None without any.

    Rows ask for some of a video's events only, so that precision cannot be told from them.
    """
    known = [one for one in found if one.source.ends_s]
    if not known:
        return None
    here, uniform = BoundaryCounts(), BoundaryCounts()
    for one in known:
        ends_s = one.source.ends_s
        here += BoundaryCounts.of(one.times_s, ends_s, tolerance_s=TOLERANCE_S)
        cuts = uniform_cuts(len(one.times_s), one.duration_s)
        uniform += BoundaryCounts.of(cuts, ends_s, tolerance_s=TOLERANCE_S)
    return {"ends": here.true, "tolerance_s": TOLERANCE_S, "recall": here.recall, "uniform_cuts": uniform.recall}
