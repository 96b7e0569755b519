"""What a score stands between: blind answers below it, and ceilings of people and of the frames above it.

Each gives the cases with other windows, or other truths, to be scored by the same rules.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vtg.evaluation.presets.case import Case, Given, Window
from vtg.evaluation.presets.overlap import Floats, hull_ious

# Candidates for the best constant: spans of the training set, more of which move its mIoU by less than .1 point.
MAX_CANDIDATES = 400
MAX_TRAINING = 20_000


def with_window(case: Case, windows: list[Window]) -> Case:
    """The case, answered by these windows."""
    return replace(case, given=[Given(place=case.place, windows=windows)])


def whole_video(cases: Sequence[Case]) -> list[Case] | None:
    """Each answered by its whole video; None where a duration is not told."""
    lengths = durations_s(cases)
    if lengths is None:
        return None
    return [with_window(case, [(0.0, length)]) for case, length in zip(cases, lengths, strict=True)]


def constant(cases: Sequence[Case], span: Window) -> list[Case] | None:
    """Each answered by the same span, in shares of its duration; None where a duration is not told."""
    lengths = durations_s(cases)
    if lengths is None:
        return None
    return [
        with_window(case, [(span[0] * length, span[1] * length)]) for case, length in zip(cases, lengths, strict=True)
    ]


def shuffled(cases: Sequence[Case], *, seed: int = 0) -> list[Case] | None:
    """Each answered by what was predicted for another video, stretched to its duration; None for a single video.

    A model that looks loses here what it had from looking; what is left is its prior.
    """
    videos = [case.video or case.name for case in cases]
    if len(set(videos)) < 2:
        return None
    order = np.random.default_rng(seed).permutation(len(cases))
    # Grouped by video, then turned by half: neighbours are of one video, and half the way round is another one,
    # unless that video has most of the questions.
    grouped = sorted(order.tolist(), key=lambda at: videos[at])
    turned = grouped[len(grouped) // 2 :] + grouped[: len(grouped) // 2]
    source = dict(zip(grouped, turned, strict=True))
    result = []
    for at, case in enumerate(cases):
        other = cases[source[at]]
        windows = other.given[-1].windows or [] if other.given else []
        scale = case.duration_s / other.duration_s if case.duration_s and other.duration_s else 1.0
        result.append(with_window(case, [(start * scale, end * scale) for start, end in windows]))
    return result


def training_prior(cases: Sequence[Case], *, path: str) -> Window:
    """The span, in shares of the duration, of the highest mean IoU with the true ones of a training set.

    Raises ValueError where the training set has no row with a duration and a span inside it.
    """
    spans = [
        (max(start, 0.0) / case.duration_s, min(end, case.duration_s) / case.duration_s)
        for case in cases
        if case.duration_s and case.duration_s > 0
        for start, end in case.truth[:1]
    ]
    shares = np.array([span for span in spans if span[0] < span[1]], dtype=np.float64)
    if not len(shares):
        raise ValueError(f"{path}: has no row with a duration and a span; a prior is learnt from both")
    rng = np.random.default_rng(0)
    if len(shares) > MAX_TRAINING:
        shares = shares[rng.choice(len(shares), MAX_TRAINING, replace=False)]
    candidates = np.unique(shares.round(2), axis=0)
    if len(candidates) > MAX_CANDIDATES:
        candidates = candidates[rng.choice(len(candidates), MAX_CANDIDATES, replace=False)]
    means = np.array([hull_ious(candidate[None], shares).mean() for candidate in candidates])
    start, end = candidates[means.argmax()]
    return float(start), float(end)


def on_frames(cases: Sequence[Case], *, fps: float, max_frames: int | None) -> list[Case] | None:
    """Each answered by its true windows, their ends moved to the nearest sampled frame; None without durations.

    Frames stand at k / fps from 0, or evenly over the clip where that would be more than `max_frames`. A window that
    no two frames tell apart gets the step around its middle.
    """
    lengths = durations_s(cases)
    if lengths is None:
        return None
    answered = []
    for case, length in zip(cases, lengths, strict=True):
        step = 1.0 / fps
        if max_frames is not None and length * fps > max_frames:
            step = length / max_frames
        inside = [(min(max(start, 0.0), length), min(end, length)) for start, end in case.truth]
        answered.append(with_window(case, [_nearest(window, step) for window in inside]))
    return answered


def _nearest(window: Window, step: float) -> Window:
    start, end = round(window[0] / step), round(window[1] / step)
    if end <= start:
        start = int((window[0] + window[1]) / 2 / step)
        end = start + 1
    return start * step, end * step


def annotator_rounds(cases: Sequence[Case]) -> list[list[Case]]:
    """One list of cases a round: each person's span against that of the next; empty where nobody was asked twice."""
    asked = [case for case in cases if case.annotators is not None and len(case.annotators) > 1]
    rounds = max((len(case.annotators or ()) for case in asked), default=0)
    return [[_one_against_next(case, turn) for case in asked] for turn in range(rounds)]


def _one_against_next(case: Case, turn: int) -> Case:
    people = case.annotators or []
    mine, other = people[turn % len(people)], people[(turn + 1) % len(people)]
    return replace(with_window(case, [mine]), truth=[other])


def durations_s(cases: Sequence[Case]) -> list[float] | None:
    """The duration of each case, in seconds; None where one is not told."""
    lengths = [
        case.duration_s
        if case.duration_s is not None
        else next((given.duration_s for given in case.given if given.duration_s is not None), None)
        for case in cases
    ]
    told = [length for length in lengths if length is not None and length > 0]
    return told if len(told) == len(lengths) else None


def first_windows(cases: Sequence[Case]) -> Floats:
    """The first window of each case's last row, `(N, 2)`; NaN where there is none."""
    listed = [case.given[-1].windows if case.given else None for case in cases]
    return np.array([windows[0] if windows else (np.nan, np.nan) for windows in listed], dtype=np.float64).reshape(
        -1, 2
    )
