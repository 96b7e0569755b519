"""What the model is asked, and how its answers are evaluated."""

from dataclasses import dataclass

from vtg.config.setting import setting


@dataclass
class TaskConfig:
    """What is asked of the model, and in which form it answers."""

    name: str = setting("span", "the task", choices={"span": "when does it happen"})
    answer: str = setting(
        "seconds",
        "form of the answer",
        choices={
            "seconds": "12.3 to 45.6 seconds",
            "relative": "fractions of the clip",
            "bins": "numbers of its num_bins equal parts",
            "tokens": "such numbers as tokens <12> of their own, added to the vocabulary",
        },
    )
    moments: str = setting(
        "one",
        "how many moments an answer may name",
        choices={
            "one": "the prompt asks for the moment, and every row has one or more",
            "set": "it asks for all of them in order of time, or for the answer that there is none",
        },
    )
    decimals: int = setting(1, "of seconds, or of percentages where the answer is relative")
    num_bins: int = setting(100, "equal parts of the clip, where the answer is bins or tokens")
    token_init: str = setting(
        "sinusoidal",
        "what the vectors of new tokens begin as, where the answer is tokens",
        choices={
            "sinusoidal": "a position code, so that near times are close",
            "mean": "all the mean of the known ones",
            "random": "drawn around that mean",
            "numbers": "the mean of the digits' own",
        },
    )
    selection: str = setting(
        "fixed",
        "of the prompt's wording",
        choices={
            "fixed": "always the first",
            "seeded": "by sample",
            "random": "anew each epoch",
        },
    )
    template: str | None = setting(None, "your own prompt; {query} is put in; null: the prompts of vtg")
    constrained: bool = setting(
        False, "answers are decoded so that they can always be read, each moment in the clip; not with think"
    )
    think: bool = setting(
        False, "the prompt asks for <think> </think> first, then for the answer in <answer> </answer>"
    )


@dataclass
class EvaluationConfig:
    """Evaluation by generation: greedy answers, scored in temporal IoU."""

    batch_size: int = setting(
        8,
        "questions about the longest clips that are answered at once; of others, as many as take no more room",
        on_resume="may_change",
    )
    max_new_tokens: int | None = setting(
        None,
        "of an answer; null: as many as the tasks of the rows want (of one moment 48), and their longest true answer",
    )
    max_val_samples: int = setting(0, "of the validation while training; 0: all")
    early_stopping_patience: int = setting(
        0, "evaluations without a better mIoU before stopping; 0: never", on_resume="may_change"
    )
    shuffled_video_control: bool = setting(
        True,
        "also test with every video replaced by another: what the text alone gives",
        on_resume="may_change",
    )
    report_frames: bool = setting(
        True, "report.html shows frames of the clips that its samples are about", on_resume="may_change"
    )
