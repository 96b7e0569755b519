"""What a trainer of grounding is given by its run, besides what the Hugging Face Trainer takes."""

from dataclasses import dataclass
from typing import Any, Self

from vtg.config.derived import activation_checkpointing
from vtg.config.loss_settings import LossConfig
from vtg.config.model_settings import PartsConfig
from vtg.config.schema import SFTConfig
from vtg.config.task_settings import EvaluationConfig
from vtg.data.skip_report import SkipReport
from vtg.models.checkpoint import Settings, base_model
from vtg.models.part_table import grouped_parameters, rates, weight_decays
from vtg.training.guard import training_remedies
from vtg.training.part_rates import PartRates
from vtg.training.run_trainer import StepParts


@dataclass(frozen=True)
class TrainerParts(StepParts):
    """What `GroundingTrainer` needs to evaluate, to save and to report.

    Attributes:
        evaluation: how validation and test generate.
        saved: settings written beside every checkpoint; their model is the one that an adapter was trained on.
        loss: of supervised fine-tuning.
        parts: which parts of the model are trained, and how.
    """

    evaluation: EvaluationConfig
    saved: Settings
    loss: LossConfig
    parts: PartsConfig

    @classmethod
    def of(cls, config: SFTConfig, *, report: SkipReport) -> Self:
        """Those of a run with these settings."""
        return cls(
            evaluation=config.evaluation,
            saved=Settings(base_model(config.model), config.video, config.task),
            on_nan=config.on_nan,
            checkpointing=activation_checkpointing(config.trainer),
            remedies=training_remedies(config),
            own_rates=PartRates(_parts_of, rates(config.parts), weight_decays(config.parts)),
            loss=config.loss,
            parts=config.parts,
            report=report,
        )


def _parts_of(model: Any) -> dict[int, str]:
    """Group of each parameter, by its id."""
    return {id(parameter): group for group, _, parameter in grouped_parameters(model)}
