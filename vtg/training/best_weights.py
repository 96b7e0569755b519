"""By what the best weights are chosen, and that they are saved."""

import math
from typing import Any

from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_utils import SaveStrategy

from vtg.annotations.sample_table import SampleTable
from vtg.data.grounding_dataset import GroundingDataset


def choose_by(args: TrainingArguments, validation: Any) -> None:
    """Sets the number that weights are compared by: mIoU, or `score`, over all tasks, where not all rows are spans."""
    if isinstance(validation, GroundingDataset) and SampleTable.of(validation.samples).of_other_tasks().any():
        args.metric_for_best_model = "score"


class SaveBest(TrainerCallback):
    """Saves a checkpoint whenever validation finds the best weights until then."""

    # transformers' `load_best_model_at_end` refuses save_steps that are not a multiple of eval_steps.

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        best = -math.inf if state.best_metric is None else state.best_metric
        if args.save_strategy != SaveStrategy.NO and metrics[f"eval_{args.metric_for_best_model}"] > best:
            control.should_save = True
