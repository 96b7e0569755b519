"""What reinforcement learning has besides: rewards, the choice of samples, rollouts."""

from dataclasses import dataclass
from typing import Any

from vtg.config.setting import setting


@dataclass
class RewardsConfig:
    """The rewards of a completion."""

    terms: list[dict[str, Any]] = setting(
        factory=lambda: [{"name": "temporal_iou", "weight": 1.0}],
        help="each {name, weight, clip: [low, high], label} and that reward's options (vtg/training/rl/rewards)",
    )
    normalise_weights: bool = setting(False, "the weights are divided by the sum of their absolute values")


@dataclass
class CurriculumConfig:
    """Which samples an RL run meets next, by the IoU of its answers so far; and when it has learned enough.

    The IoU of a sample is the mean of its latest completions; before, the annotation's difficulty / 100, or that of its
    pred. While it is unknown, no selection leaves the sample out.
    """

    select: str = setting(
        "all",
        "which samples a pass takes",
        choices={
            "all": "every one",
            "filter": "those with min_iou < IoU <= max_iou",
            "gaussian": "drawn by difficulty, 1 - IoU",
            "hard": "the harder, the likelier",
        },
    )
    min_iou: float = setting(0.0, "with select=filter: a sample's IoU must be above")
    max_iou: float = setting(1.0, "with select=filter: a sample's IoU may be at most")
    mean: float = setting(0.5, "with select=gaussian: the difficulty drawn most")
    std: float = setting(0.2, "with select=gaussian: how far from it is drawn still")
    level: bool = setting(
        True, "with select=gaussian: as many are drawn of a difficulty that is rare in the data as of a common one"
    )
    power: float = setting(2.0, "with select=hard: a sample's weight is (1 - IoU) to this power")
    size: float = setting(1.0, "share of the samples that the selection keeps, drawn anew for each pass")
    # GRPO's advantage is 0 where all rewards of a group are equal: the group costs a rollout and gives no gradient.
    zero_variance: str = setting(
        "keep",
        "groups of one and the same reward, which teach nothing",
        choices={"keep": "stay", "drop": "carry no loss", "resample": "give way to other prompts"},
    )
    resample_rounds: int = setting(1, "with zero_variance=resample: how often at most in an optimizer step")
    plateau_steps: int = setting(
        0,
        "stop after so many optimizer steps without a better mean reward (of as many steps); 0: never",
        on_resume="may_change",
    )
    plateau_gain: float = setting(
        0.0, "with plateau_steps: a better reward is better by more than this", on_resume="may_change"
    )


@dataclass
class RolloutConfig:
    """How completions are sampled, and how their prompt is shared."""

    engine: str = setting(
        "transformers",
        "what generates completions",
        choices={
            "transformers": "",
            "vllm": "an extra package, on a GPU; checked against transformers before training",
        },
        on_resume="may_change",
    )
    share_prompt: bool = setting(
        True,
        "the prompt and its video run once for all of its completions; false: once for each",
        on_resume="may_change",
    )
    key_gib: float | None = setting(
        None,
        "GiB of keys and values that prompts and completions may take while they are generated: more rows at once; "
        "null: an eighth of the GPU's memory, 2 on a CPU",
        on_resume="may_change",
    )
    compiled_after: int | None = setting(
        None,
        "on a GPU: steps of rollouts of one shape after which its CUDA graph is recorded anew, of compiled layers "
        "(which no GPU has run yet); null: never",
        on_resume="may_change",
    )
    parity_samples: int = setting(
        4, "prompts that the check of another engine than transformers generates for", on_resume="may_change"
    )
    # Another engine has other kernels, so log-probs differ a little; a wrong clip or position moves them by more.
    parity_tolerance: float = setting(
        0.05, "nats by which the log-probs of another engine may differ", on_resume="may_change"
    )
    # Answers that cannot be read all get the same reward, so a model that seldom answers in the form learns slowly.
    min_parsed: float = setting(
        0.5, "warn at the start where a smaller share of the model's answers can be read", on_resume="may_change"
    )
