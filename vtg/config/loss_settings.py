"""What supervised fine-tuning minimises."""

from dataclasses import dataclass

from vtg.config.setting import setting


@dataclass
class LossConfig:
    """The loss on an answer's tokens: cross-entropy, and how it departs from it."""

    label_smoothing: float = setting(0.0, "share of each token's target that goes to all tokens alike; 0: off")
    soft_time: float = setting(
        0.0, "share of the target at a time that goes to times around it, normally distributed; 0: off, 1: all of it"
    )
    # QVHighlights is annotated in pieces of 2 s: its ends are right to a second, and other sets' hardly better.
    soft_time_sigma_s: float = setting(1.0, "with soft_time: the standard deviation, in seconds")
    expected_time_weight: float = setting(
        0.0, "of the smooth L1 distance from a time to the expected one, in lengths of the clip; 0: off"
    )
    boundary_weight: float = setting(0.0, "of 1 - GIoU of a moment and the expected one; 0: off")
    token_weights: str = setting(
        "mean",
        "how much a token of an answer of n tokens weighs",
        choices={
            "mean": "1, so that long answers weigh more",
            "sqrt_length": "1 / sqrt(n), as TimeLens2 and InternVL 2.5 train",
            "by_task": "as Molmo2 trains: captions and points by weights of their own, others 4 / sqrt(n)",
        },
    )
    # Molmo2 (Ai2, 2025): long captions and lists of points would otherwise outweigh all short answers.
    caption_weight: float = setting(0.1, "with token_weights=by_task: of a token of a caption, plain or with times")
    point_weight: float = setting(0.2, "with token_weights=by_task: of a token of points, tracks and counts")
