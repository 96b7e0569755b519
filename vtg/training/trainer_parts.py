"""What a trainer of either kind is given by its run, besides what the Hugging Face Trainer takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from vtg.config.derived import activation_checkpointing
from vtg.config.loss_settings import LossConfig
from vtg.config.model_settings import PartsConfig
from vtg.config.schema import SFTConfig
from vtg.config.task_settings import EvaluationConfig
from vtg.data.skip_report import SkipReport
from vtg.models.checkpoint import Settings, base_model
from vtg.training.guard import training_remedies


@dataclass(frozen=True)
class TrainerParts:
    """What `GroundingTrainer` needs to evaluate, to save and to report.

    Attributes:
        evaluation: how validation and test generate.
        saved: settings written beside every checkpoint; their model is the one that an adapter was trained on.
        on_nan: what a loss or gradient that is not finite does, as the setting of that name.
        checkpointing: which layers compute activations again: none, selective (half of them) or full.
        remedies: what lowers the memory of a training step, the least harm first.
        loss: of supervised fine-tuning.
        parts: learning rates and weight decays of the model's parts.
        report: to which samples that cannot be read are added.
    """

    evaluation: EvaluationConfig
    saved: Settings
    on_nan: str
    checkpointing: str
    remedies: Sequence[str]
    loss: LossConfig
    parts: PartsConfig
    report: SkipReport

    @classmethod
    def of(cls, config: SFTConfig, *, report: SkipReport) -> Self:
        """Those of a run with these settings."""
        return cls(
            evaluation=config.evaluation,
            saved=Settings(base_model(config.model), config.video, config.task),
            on_nan=config.on_nan,
            checkpointing=activation_checkpointing(config.trainer),
            remedies=training_remedies(config),
            loss=config.loss,
            parts=config.parts,
            report=report,
        )
