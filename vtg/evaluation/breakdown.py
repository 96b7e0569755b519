"""Where a score comes from: by length of the clip, length and place of the moment; and how far the ends are off."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from vtg.evaluation.controls import durations_s, first_windows
from vtg.evaluation.presets.case import Case
from vtg.evaluation.presets.overlap import Floats, best_ious

CLIP_EDGES_S = (30.0, 60.0, 120.0, 300.0, 600.0)
MOMENT_EDGES_S = (2.0, 5.0, 10.0, 30.0, 60.0)
# Of the moment's middle, in shares of the clip.
PLACE_EDGES = (0.25, 0.5, 0.75)


def breakdowns(cases: Sequence[Case], ious: Floats) -> dict[str, dict[str, dict[str, float | int]]]:
    """Kind → bin → samples, mIoU and R1@0.5 (IoU >= .5), in percent; kinds without durations are left out.

    Bins hold values above their lower bound, up to the upper one with it; empty bins are left out, and so are questions
    without a moment.
    """
    has_moment = np.array([bool(case.truth) for case in cases], dtype=bool)
    cases, ious = [case for case in cases if case.truth], ious[has_moment]
    truth = np.array([case.truth[0] for case in cases], dtype=np.float64).reshape(-1, 2)
    kinds: dict[str, tuple[Floats, tuple[float, ...]]] = {
        "moment_length_s": (truth[:, 1] - truth[:, 0], MOMENT_EDGES_S)
    }
    lengths = durations_s(cases)
    if lengths is not None:
        kinds["clip_length_s"] = (np.array(lengths), CLIP_EDGES_S)
        kinds["position"] = (truth.mean(axis=1) / np.array(lengths), PLACE_EDGES)
    return {kind: _bins(values, edges, ious) for kind, (values, edges) in kinds.items()}


def _bins(values: Floats, edges: tuple[float, ...], ious: Floats) -> dict[str, dict[str, float | int]]:
    names = [f"<= {edges[0]:g}"]
    names += [f"{low:g} - {high:g}" for low, high in pairwise(edges)]
    names.append(f"> {edges[-1]:g}")
    at = np.searchsorted(edges, values, side="left")
    result: dict[str, dict[str, float | int]] = {}
    for number, name in enumerate(names):
        inside = ious[(at == number) & np.isfinite(ious)]
        if len(inside):
            hits = 100 * float((inside >= 0.5).mean())
            result[name] = {"samples": len(inside), "mIoU": 100 * float(inside.mean()), "R1@0.5": hits}
    return result


def boundary_errors_s(cases: Sequence[Case]) -> dict[str, float]:
    """Predicted less true start and end, in seconds: mean, median, and median of the sizes, of answers that have one.

    Positive is too late. The first window counts, against the true one it overlaps most.
    """
    windows = first_windows(cases)
    has_one = np.isfinite(windows).all(axis=1) & np.array([bool(case.truth) for case in cases], dtype=bool)
    answered = [case for case, has in zip(cases, has_one, strict=True) if has]
    if not answered:
        return {}
    _, at = best_ious(windows[has_one], [case.truth for case in answered])
    truth = np.array([case.truth[best] for case, best in zip(answered, at.tolist(), strict=True)])
    errors = windows[has_one] - truth
    result: dict[str, float] = {}
    for column, name in enumerate(("start", "end")):
        result[f"{name}_mean_s"] = float(errors[:, column].mean())
        result[f"{name}_median_s"] = float(np.median(errors[:, column]))
        result[f"{name}_median_size_s"] = float(np.median(np.abs(errors[:, column])))
    return result
