"""Whether a run lets its model write all moments of its longest answer, checked before weights are read."""

from vtg.annotations.sample_table import SampleTable
from vtg.config.schema import RLConfig, SFTConfig
from vtg.data.answer_length import check_answer_length
from vtg.data.splits import Splits
from vtg.models.loading import load_processor
from vtg.tasks.span_task import SpanTask


def check_answer_lengths(config: SFTConfig, splits: Splits, task: SpanTask) -> None:
    """Raises ConfigError, naming the setting, where an answer of validation, test or rollouts would be cut off."""
    parts = [SampleTable.of(part) for part in (splits.train, splits.val, splits.test)]
    if not task.takes_sets and not any(part.of_other_tasks().any() for part in parts):
        return
    processor = load_processor(config.model.path)
    for samples in (splits.val, splits.test):
        check_answer_length(samples, task=task, processor=processor, most=config.evaluation.max_new_tokens)
    if isinstance(config, RLConfig) and (most := config.rl.get("max_completion_length")):
        key = "rl.max_completion_length"
        check_answer_length(splits.train, task=task, processor=processor, most=most, key=key)
