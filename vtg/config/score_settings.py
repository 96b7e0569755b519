"""The typed schema of `python -m vtg.score`: a checkpoint, a published benchmark, and budgets of input."""

from dataclasses import dataclass, field
from typing import Any

from vtg.config.data_settings import DemoConfig
from vtg.config.programs import FallbackSettings, SettingsOverrides
from vtg.config.setting import setting

OWN_BUDGET = "own"
"""The budget that is no file of conf/budget/: sampling and pixels as the checkpoint was trained."""


@dataclass
class BudgetConfig:
    """How much of a video a model is shown: frames, and vision tokens.

    In tokens, because published limits of pixels are multiples of a token's: 28 x 28 of Qwen2.5-VL, 32 x 32 since.
    """

    fps: float = setting(2.0, "frames a second")
    min_frames: int = setting(4, "of a clip")
    max_frames: int = setting(768, "of a clip; a longer one is sampled more thinly")
    min_frame_tokens: int = setting(64, "the size of one token in a frame, times this, is the least size of a frame")
    max_frame_tokens: int = setting(768, "likewise the largest size of a frame")
    total_tokens: int = setting(14336, "vision tokens of a clip; two frames share theirs")


@dataclass
class BenchmarkConfig:
    """A published benchmark: its files, how its answers are scored, and what others have scored on it."""

    title: str = setting("", "what papers call it")
    root: str | None = setting(None, "folder of its files as they are published")
    annotation_file: str | None = setting(None, "FORMAT:FILE as python -m vtg.convert --list names it, or JSONL rows")
    video_dir: str | None = setting(None, "folder of its videos")
    get: str = setting("", "where its files are to be had")
    max_samples: int = setting(0, "ask the first N questions only; 0: all")
    max_bad_share: float = setting(0.05, "stop when more than this share of the questions cannot be asked")
    preset: str = setting("default", "whose rules score it, as in python -m vtg.evaluate --preset")
    prompt: str | None = setting(None, "asked of a model without vtg.json; null: the prompt of fallback.task")
    max_new_tokens: int | None = setting(
        None,
        "of an answer; null: as many as the tasks of the rows want (of one moment 48), and their longest true answer",
    )
    budgets: list[str] = setting(help="the budgets that numbers on it are published at", factory=lambda: [OWN_BUDGET])
    published: list[Any] = setting(help="scores of others: model, budget, numbers, source", factory=list)
    demo: DemoConfig | None = None


@dataclass
class ScoreConfig:
    """All settings of `python -m vtg.score`."""

    checkpoint: str = setting("tiny", "a run directory (its best/), a checkpoint or model folder, a hub name, or tiny")
    budgets: list[str] | None = setting(
        None, "files of conf/budget/, or own: as the checkpoint was trained; null: those of the benchmark"
    )
    output_dir: str | None = setting(None, "folder of the answers and scores; null: outputs/score/CHECKPOINT/BENCHMARK")
    processes: int = setting(0, "that answer, each with a whole model; 0: one for each GPU")
    batch_size: int = setting(
        8,
        "questions about the longest clips that are answered at once; of others, as many as take no more room",
    )
    num_workers: int = setting(4, "processes that read the clips of later questions, for each that answers; 0: none")
    json: bool = setting(False, "one JSON document on stdout")
    benchmark: BenchmarkConfig = field(default_factory=BenchmarkConfig)
    settings: SettingsOverrides = field(default_factory=SettingsOverrides)
    fallback: FallbackSettings = field(default_factory=FallbackSettings)
