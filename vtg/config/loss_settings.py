"""What supervised fine-tuning minimises."""

from dataclasses import dataclass

from vtg.config.setting import setting


@dataclass
class LossConfig:
    """The loss on an answer's tokens: cross-entropy, and how it departs from it."""

    label_smoothing: float = setting(0.0, "share of each token's target that goes to all tokens alike; 0: off")
    token_weights: str = setting(
        "mean",
        "how much a token of an answer of n tokens weighs",
        choices={
            "mean": "1, so that long answers weigh more",
            "sqrt_length": "1 / sqrt(n), as TimeLens2 and InternVL 2.5 train",
        },
    )
