"""QVHighlights, and what UniVTG and Lighthouse publish in its form (Charades-STA, TACoS, CASTELLA, UnAV-100, TVSum):
`{"qid": 8737, "query": "…", "duration": 126, "vid": "bP5K…_660.0_810.0", "relevant_windows": [[0, 16]], …}` a line.

The test split has no windows: its rows are not labelled. TVSum has the scores of twenty people for every shot instead.
"""

from collections.abc import Iterator
from typing import Any

from vtg.annotations.sources.saliency import best_shots
from vtg.annotations.sources.source_row import (
    Change,
    Entry,
    Found,
    FoundRow,
    Head,
    NoRow,
    is_number,
    of_objects,
    others,
)

KNOWN = ("qid", "query", "duration", "vid", "relevant_windows")

# TVSum is scored in shots of two seconds (Song et al., CVPR 2015), and `duration` counts these shots in the published
# files: TimeIT's highlights of the same videos are at twice these times.
TVSUM_SHOT_S = 2.0


def fits(head: Head) -> bool:
    if head.shape not in ("lines", "array") or not head.have("query", "vid"):
        return False
    # Submissions have the same keys and no truth.
    return not head.have("pred_relevant_windows") and (head.have("qid") or head.have("relevant_windows"))


@of_objects
def rows(entry: Entry) -> Iterator[Found]:
    value = entry.value
    if value.get("relevant_windows") is None and isinstance(value.get("label"), list) and value["label"]:
        yield _scored_shots(value)
        return
    yield FoundRow(
        video=value.get("vid"),
        query=value.get("query"),
        spans=value.get("relevant_windows"),
        duration=value.get("duration"),
        qid=value.get("qid"),
        metadata=others(value, *KNOWN),
    )


def _scored_shots(value: dict[str, Any]) -> Found:
    """A video of TVSum: (shots, people) scores from 1 to 5."""
    people = value["label"]
    if not all(isinstance(scores, list) and scores and all(map(is_number, scores)) for scores in people):
        return NoRow("label-format", f"label of {value.get('vid')!r} must be a list of scores for each shot")
    shots = [sum(scores) / len(scores) for scores in people]
    spans = best_shots(shots, shot_s=TVSUM_SHOT_S)
    duration_s = len(shots) * TVSUM_SHOT_S
    changes = [Change("spans-from-scores", f"{len(spans)} spans of the best-scored shots of {len(shots)}")]
    if value.get("duration") != duration_s:
        changes.append(Change("duration-in-shots", f"{value.get('duration')} shots → {duration_s:g} s"))
    return FoundRow(
        video=value.get("vid"),
        query=value.get("query"),
        spans=spans,
        duration=duration_s,
        qid=value.get("qid"),
        metadata=others(value, *KNOWN),
        changes=changes,
    )
