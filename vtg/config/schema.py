"""All settings of the trainings on rows of annotations. The groups are dataclasses in the files `*_settings.py` beside.

Each setting declares its default, its explanation, its choices, and whether a resume may change it. conf/ holds the
same defaults, for reading and overriding; tests/config/test_settings.py holds the two together.
"""

from dataclasses import dataclass, field
from typing import Any

from vtg.config.data_settings import AugmentationConfig, BatchingConfig, DataConfig
from vtg.config.loss_settings import LossConfig
from vtg.config.model_settings import DeepspeedConfig, LoraConfig, ModelConfig, PartsConfig
from vtg.config.rl_settings import CurriculumConfig, RewardsConfig, RolloutConfig
from vtg.config.setting import setting
from vtg.config.task_settings import EvaluationConfig, TaskConfig
from vtg.config.video_settings import VideoConfig


@dataclass
class RunConfig:
    """What every training has: a directory, a seed, data, and the settings of the Hugging Face Trainer."""

    run_name: str = setting("run", "names the run and its folder", on_resume="may_change")
    output_dir: str = setting("outputs/run", "folder of the run: checkpoints, log, answers", on_resume="may_change")
    seed: int = setting(0, "of everything that is drawn: weights, order of samples, frames, prompts")
    resume: str = setting(
        "auto",
        "where output_dir holds a run",
        choices={
            "auto": "resume from its last checkpoint, if any",
            "never": "refuse a used output_dir",
            "must": "refuse one without a checkpoint",
        },
        on_resume="may_change",
    )
    on_nan: str = setting(
        "stop",
        "a loss or gradient that is not finite",
        choices={"stop": "ends the run", "skip": "leaves out that update, at most 20 in a row"},
        on_resume="may_change",
    )
    data: DataConfig = field(default_factory=DataConfig)
    deepspeed: DeepspeedConfig = field(default_factory=DeepspeedConfig)
    trainer: dict[str, Any] = setting(factory=dict, help="Hugging Face TrainingArguments, by their own names")


@dataclass
class SFTConfig(RunConfig):
    """All settings of `train_sft.py`."""

    video: VideoConfig = field(default_factory=VideoConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    parts: PartsConfig = field(default_factory=PartsConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)


@dataclass
class RLConfig(SFTConfig):
    """All settings of `train_rl.py`: those of supervised fine-tuning, and what reinforcement learning has besides."""

    rl: dict[str, Any] = setting(factory=dict, help="TRL's GRPOConfig, by its own names")
    rewards: RewardsConfig = field(default_factory=RewardsConfig)
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
