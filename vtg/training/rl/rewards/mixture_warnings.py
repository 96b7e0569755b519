"""Warnings about mixtures of rewards that a policy can win by answers nobody wants."""

from collections.abc import Sequence

from vtg.config.task_settings import TaskConfig
from vtg.training.rl.rewards.mixture import Term

_LOCATING = ("timestamp_aware_iou", "giou", "diou", "matched_f1", "wasserstein", "soft_iou", "ordered_giou")


def warnings_of(terms: Sequence[Term], *, task: TaskConfig | None = None) -> list[str]:
    """Ways to win the mixture without locating the moment: one line each, with the cure.

    `task`: what the prompt asks for; None leaves out the check of the tags.
    """
    warnings = []
    # A negative weight punishes: it cannot be what teaches the model where the moment is.
    wanted = [term for term in terms if term.weight > 0]
    measures = {term.options["measure"] for term in wanted if term.name == "segment_overlap"}
    named = ", ".join(term.label for term in wanted) or "no reward"
    if not any(_locates(term) for term in wanted) and not {"precision", "recall"} <= measures:
        cure = "add temporal_iou (or segment_overlap with measure: f1) to rewards.terms"
        if "precision" in measures:
            warnings.append(f"rewards ({named}) are won by a very short answer inside the moment; {cure}")
        elif "recall" in measures or any(term.name == "temporal_iou" for term in wanted):
            warnings.append(f"rewards ({named}) are won by answering with the whole video; {cure}")
        else:
            warnings.append(f"rewards ({named}) do not look at when the true moment is; {cure}")
    if task is not None and not task.think:
        warnings += [
            f"reward {term.label} wants <think> and <answer> tags, but the prompt does not ask for them; set "
            "task.think=true, or think: false in rewards.terms"
            for term in wanted
            if term.name == "format" and term.options["think"]
        ]
    return warnings


def _locates(term: Term) -> bool:
    """Whether only an answer near the true moment, about as long, gets the most of this reward."""
    if term.name == "segment_overlap":
        return term.options["measure"] == "f1"
    if term.name == "temporal_iou":
        # Binary at threshold 0 pays in full for any overlap, which the whole video has.
        return not term.options["binary"] or term.options["threshold"] > 0
    return term.name in _LOCATING
