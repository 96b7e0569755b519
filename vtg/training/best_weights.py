"""By what the best weights are chosen, that they are saved, and what is said of the choice."""

from typing import Any

from transformers import TrainerCallback, TrainerState, TrainingArguments
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
        found, best = metrics[f"eval_{args.metric_for_best_model}"], state.best_metric
        is_better = best is None or (found > best if args.greater_is_better else found < best)
        if args.save_strategy != SaveStrategy.NO and is_better:
            control.should_save = True


def best_weights_note(state: TrainerState, args: TrainingArguments, *, warmup_steps: int) -> str:
    """Which step the tuned weights are of, and how those after it compare."""
    name, higher = args.metric_for_best_model, bool(args.greater_is_better)
    shown = "{:.1f}" if higher else "{:.4g}"  # a percentage, or an error
    scores = {entry["step"]: entry[f"eval_{name}"] for entry in state.log_history if f"eval_{name}" in entry}
    step, last = state.best_global_step, state.global_step
    # After a change of the world size the step of the best is one of the former count: its score alone still holds.
    if step is None and state.best_model_checkpoint is not None:
        best = shown.format(state.best_metric)
        return f"the tuned weights are the best by validation ({name} {best}), of before steps were recounted"
    if step is None or step not in scores:
        why = "their validation was not compared" if scores else "there was no validation to choose by"
        return f"the tuned weights are the last ones, after step {last}: {why}"
    best = shown.format(scores[step])
    note = f"the tuned weights are those after step {step} of {last}, the best validation {name} ({best})"
    later = {at: score for at, score in scores.items() if at > step}
    if later:
        closest = (max if higher else min)(later, key=lambda at: later[at])
        next_best = shown.format(later[closest])
        note += f"; none of {len(later)} later ones was better (at best {next_best}, after step {closest})"
    # Best so early mostly means that training made the model worse: the reader should know before trusting the gain.
    if step <= warmup_steps:
        note += (
            f"; the learning rate was still warming up then (steps 1 to {warmup_steps}), so they are close to the base"
        )
    return note
