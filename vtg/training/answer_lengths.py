"""How much a run lets its model write: enough for its longest answer, settled before weights are read."""

from vtg.annotations.sample_table import SampleTable
from vtg.config.schema import RLConfig, SFTConfig
from vtg.data.answer_length import answer_room
from vtg.data.splits import Splits
from vtg.models.loading import load_processor
from vtg.tasks.span_task import SpanTask


def settle_answer_lengths(config: SFTConfig, splits: Splits, task: SpanTask) -> None:
    """Sets `evaluation.max_new_tokens` to what the tasks of validation and test want, where it is null.

    Raises ConfigError, naming the setting, where an answer of validation, test or rollouts would be cut off.
    """
    evaluation = config.evaluation
    parts = [SampleTable.of(part) for part in (splits.train, splits.val, splits.test)]
    if not task.takes_sets and not any(part.of_other_tasks().any() for part in parts):
        evaluation.max_new_tokens = evaluation.max_new_tokens or task.room
        return
    about = {"task": task, "processor": load_processor(config.model.path)}
    asked = (splits.val, splits.test)
    evaluation.max_new_tokens = max(answer_room(samples, **about, most=evaluation.max_new_tokens) for samples in asked)
    if isinstance(config, RLConfig) and (most := config.rl.get("max_completion_length")):
        answer_room(splits.train, **about, most=most, key="rl.max_completion_length")
