"""Rewards of reinforcement learning: what one completion is worth, as plain functions over the parsed answer.

Each family is a file of this folder; `REWARDS` names them all. They use the same parsed answer and the same IoU as the
metrics. An answer that names no moment overlaps nothing and gets the least that its reward can give, except for the
answer that there is none (status `none`) where there is none: it gets the most, and any other answer there the least.
With several moments, overlap is that of the seconds covered. The order in which moments are written counts for
`step_consistency` alone. Every reward is finite for every text. `mixture` builds the weighted terms of a run from the
settings.
"""

from collections.abc import Callable

from vtg.training.rl.rewards.answer_form import answer_format, parse_penalty
from vtg.training.rl.rewards.boundaries import diou, giou, timestamp_aware_iou
from vtg.training.rl.rewards.completion import Completion
from vtg.training.rl.rewards.interval_sets import ordered_giou, soft_iou, wasserstein
from vtg.training.rl.rewards.moments import matched_f1, moment_count, step_consistency
from vtg.training.rl.rewards.overlap import segment_overlap, temporal_iou

__all__ = ["REWARDS", "Completion", "Reward"]

Reward = Callable[..., float]

REWARDS: dict[str, Reward] = {
    "temporal_iou": temporal_iou,
    "segment_overlap": segment_overlap,
    "matched_f1": matched_f1,
    "moment_count": moment_count,
    "step_consistency": step_consistency,
    "format": answer_format,
    "parse_penalty": parse_penalty,
    "timestamp_aware_iou": timestamp_aware_iou,
    "giou": giou,
    "diou": diou,
    "wasserstein": wasserstein,
    "soft_iou": soft_iou,
    "ordered_giou": ordered_giou,
}
"""Name in the config → reward. The options of a reward are its keywords, each with its default."""
