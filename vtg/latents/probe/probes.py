"""Two ways to ground a query by frozen latents alone: a linear probe, and the nearest moment of training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vtg.errors import RunError
from vtg.evaluation.metrics import top1_ious
from vtg.latents.probe.query_words import QueryWords, nearest
from vtg.latents.probe.ridge import BilinearRidge
from vtg.latents.probe.span_of_scores import best_span
from vtg.latents.probe.video_latents import Components, VideoLatents

Span = tuple[float, float]

COMPONENTS = 48

# Of the videos of training, to choose the penalty and the threshold; whole ones, as rows of one video are alike.
HELD_OUT = 5

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
THRESHOLDS = tuple(np.linspace(-0.5, 2.0, 26).tolist())


@dataclass(frozen=True)
class ProbeRow:
    """A query, its moments, and the latents of its video; `video` tells those of one video."""

    query: str
    spans: tuple[Span, ...]
    video: str
    latents: VideoLatents

    @property
    def inside(self) -> np.ndarray:
        """(T,) bool: which latents lie in a moment."""
        times_s = self.latents.times_s[:, None]
        bounds = np.array(self.spans).reshape(-1, 2)
        return np.any((times_s >= bounds[:, 0]) & (times_s < bounds[:, 1]), axis=1)


Scorer = Callable[[ProbeRow], np.ndarray]
"""(T,) scores of a row's latents, higher in its moment."""


Grounder = Callable[[ProbeRow], Span]
"""One span in seconds."""


def fit_linear_probe(rows: Sequence[ProbeRow]) -> Grounder:
    """Ridge regression of whether a latent lies in a moment, on products of the query's words and the latent."""
    fitting, choosing = _parted(rows)
    probe = _LinearProbe(fitting)
    penalty, threshold = _best([(penalty, probe.scorer(penalty)) for penalty in PENALTIES], choosing)
    return _grounder(_LinearProbe(rows).scorer(penalty), threshold)


def fit_nearest_moment(rows: Sequence[ProbeRow]) -> Grounder:
    """Likeness to the moments of the most similar queries of training, rather than to what is beside them."""
    fitting, choosing = _parted(rows)
    _, threshold = _best([(0.0, _NearestMoment(fitting).scores)], choosing)
    return _grounder(_NearestMoment(rows).scores, threshold)


PROBES: dict[str, Callable[[Sequence[ProbeRow]], Grounder]] = {
    "linear_probe": fit_linear_probe,
    "nearest_moment": fit_nearest_moment,
}


class _LinearProbe:
    def __init__(self, rows: Sequence[ProbeRow]) -> None:
        self._words = QueryWords(row.query for row in rows)
        self._components = _components(rows)
        self._sums: BilinearRidge | None = None
        for row in rows:
            q, z = self._words.features(row.query), self._components.of(row.latents.features)
            if self._sums is None:
                self._sums = BilinearRidge(len(q), z.shape[1])
            self._sums.add(q, z, row.inside.astype(np.float64))

    def scorer(self, penalty: float) -> Scorer:
        assert self._sums is not None
        weights = self._sums.weights(penalty)
        return lambda row: self._components.of(row.latents.features) @ (self._words.features(row.query) @ weights)


class _NearestMoment:
    def __init__(self, rows: Sequence[ProbeRow]) -> None:
        self._components = _components(rows)
        self._words = QueryWords(row.query for row in rows)
        # A moment that falls between two latents, or is all of its video, has nothing to be told from.
        rows = [row for row in rows if row.inside.any() and not row.inside.all()]
        if not rows:
            raise RunError("no moment of training has latents both in it and beside it; set clips.seconds to less")
        self._queries = [self._words.features(row.query) for row in rows]
        self._moments = [self._moment(row) for row in rows]

    def _moment(self, row: ProbeRow) -> np.ndarray:
        seen = self._components.of(row.latents.features)
        return seen[row.inside].mean(axis=0) - seen[~row.inside].mean(axis=0)

    def scores(self, row: ProbeRow) -> np.ndarray:
        """(T,)."""
        found = nearest(self._words.features(row.query), self._queries)
        moment = np.mean([self._moments[at] for at in found], axis=0)
        return self._components.of(row.latents.features) @ moment


def _components(rows: Sequence[ProbeRow]) -> Components:
    videos = {row.video: row.latents.features for row in rows}
    return Components(np.concatenate(list(videos.values())), COMPONENTS)


def _parted(rows: Sequence[ProbeRow]) -> tuple[list[ProbeRow], list[ProbeRow]]:
    """Rows to fit, and those of other videos to choose by; the same where there is a single video."""
    videos = sorted({row.video for row in rows})
    held_out = set(videos[::HELD_OUT]) if len(videos) > 1 else set()
    fitting = [row for row in rows if row.video not in held_out]
    return fitting, [row for row in rows if row.video in held_out] or fitting


def _best(candidates: Sequence[tuple[float, Scorer]], rows: Sequence[ProbeRow]) -> tuple[float, float]:
    """The setting and the threshold with the highest mIoU."""
    best = (-1.0, 0.0, 0.0)
    truths = [list(row.spans) for row in rows]
    for setting, scorer in candidates:
        scores = [_standard(scorer(row)) for row in rows]
        for threshold in THRESHOLDS:
            spans = [
                [best_span(one, row.latents.edges_s, threshold=threshold)]
                for one, row in zip(scores, rows, strict=True)
            ]
            best = max(best, (float(np.mean(top1_ious(spans, truths))), setting, threshold))
    return best[1], best[2]


def _grounder(scorer: Scorer, threshold: float) -> Grounder:
    return lambda row: best_span(_standard(scorer(row)), row.latents.edges_s, threshold=threshold)


def _standard(scores: np.ndarray) -> np.ndarray:
    """Relative to the video: a query's words alone raise all of its scores."""
    deviation = scores.std()
    return (scores - scores.mean()) / (deviation if deviation > 0 else 1.0)
