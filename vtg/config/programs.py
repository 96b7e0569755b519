"""The typed schema of the programs that look at a training, or use what it made."""

from dataclasses import dataclass, field
from typing import Any

from vtg.config.data_settings import DataConfig
from vtg.config.model_settings import ModelConfig
from vtg.config.schema import RLConfig
from vtg.config.setting import overrides_of, setting
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig


@dataclass
class DoctorConfig(RLConfig):
    """All settings of `python -m vtg.doctor`: those of the training it looks at, and how closely it looks.

    With nothing in `rl` it is supervised fine-tuning.
    """

    samples: int = setting(3, "clips that are decoded and shown")
    probed_clips: int = setting(200, "at most so many clips are opened, spread over all")
    json: bool = setting(False, "one JSON document on stdout")
    look: str = setting(
        "all",
        "at what",
        choices={
            "all": "",
            "memory": "what the settings take of memory, and what fits into how much; needs no data, no hub, no GPU",
        },
    )
    device: str = setting("gpu", "what memory is estimated for", choices=("gpu", "cpu"))
    gpus: int = setting(1, "processes of the training, a GPU each")
    # What cards are sold with: 24 a 4090 or L4, 80 an A100 or H100, 141 an H200.
    gpu_gb: list[int] = setting(
        factory=lambda: [8, 16, 24, 40, 80, 141], help="with look=memory: what a GPU may have, to propose settings for"
    )


@overrides_of(VideoConfig)
class VideoOverrides:
    """`VideoConfig`, each key null where the checkpoint's own setting holds."""


# Without `name`: a checkpoint of one task answers no other. What its tokens began as no longer matters.
@overrides_of(TaskConfig, without=["name", "token_init"])
class TaskOverrides:
    """`TaskConfig`, each key null where the checkpoint's own setting holds."""


# `path` is the checkpoint itself, `patch_factor` follows from its architecture, and nothing is trained here.
@overrides_of(ModelConfig, without=["path", "patch_factor"])
class ModelOverrides:
    """How the checkpoint is loaded; null: its own `max_length`, and what this machine has."""


@dataclass
class SettingsOverrides:
    """What shall differ from the settings saved beside a checkpoint."""

    video: VideoOverrides = field(default_factory=VideoOverrides)
    task: TaskOverrides = field(default_factory=TaskOverrides)
    model: ModelOverrides = field(default_factory=ModelOverrides)


@dataclass
class FallbackSettings:
    """The settings of a checkpoint that has none beside it: a plain Hugging Face model."""

    video: VideoConfig = field(default_factory=VideoConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    model: ModelConfig = field(default_factory=ModelConfig)


@dataclass
class PredictConfig:
    """All settings of `python -m vtg.predict`."""

    checkpoint: str = setting("tiny", "a run directory (its best/), a checkpoint or model folder, a hub name, or tiny")
    # Not `video`: that is a config group. vtg.config.quoting takes video=FILE for it.
    video_file: str | None = setting(None, "video=FILE on the command line: one file to ask about")
    query: str | None = setting(None, "what to look for in it")
    video_start: float | None = setting(
        None, "seconds of the file where the part begins that is asked about, from which the answer is counted"
    )
    video_end: float | None = setting(None, "seconds of the file where that part ends")
    split: str = setting(
        "test",
        "rows of the data group",
        choices={"test": "data.test_file, else data.annotation_file", "val": "", "train": ""},
    )
    output_dir: str = setting("outputs/predict", "folder of the answers")
    batch_size: int = setting(
        8,
        "questions about the longest clips that are answered at once; of others, as many as take no more room",
    )
    max_new_tokens: int | None = setting(
        None,
        "of an answer; null: as many as the tasks of the rows want (of one moment 48), and their longest true answer",
    )
    num_workers: int = setting(4, "processes that read the clips of later rows while the model answers; 0: none")
    json: bool = setting(False, "one JSON document on stdout")
    data: DataConfig = field(default_factory=DataConfig)
    settings: SettingsOverrides = field(default_factory=SettingsOverrides)
    fallback: FallbackSettings = field(default_factory=FallbackSettings)


def reinforces(config: Any) -> bool:
    """Whether the training of these settings, or that the doctor looks at, is reinforcement learning."""
    return isinstance(config, RLConfig) and (not isinstance(config, DoctorConfig) or bool(config.rl))
