"""Whether the longest answer that rows ask for fits into the tokens that a model may write."""

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
from transformers import ProcessorMixin

from vtg.annotations.sample import Sample
from vtg.annotations.sample_table import SampleTable
from vtg.errors import ConfigError
from vtg.tasks.span_task import SpanTask

# Rows with the most moments, in the longest clips: the longest answer is one of theirs, and tokenizing a million takes
# a minute.
LOOKED_AT = 256


def check_answer_length(
    samples: Sequence[Sample],
    *,
    task: SpanTask,
    processor: ProcessorMixin,
    most: int,
    key: str = "evaluation.max_new_tokens",
) -> None:
    """Raises ConfigError where the true answer to a sample, with its end, is longer than `most` tokens.

    A set that is cut off in its middle is read as a smaller one, and scored as if the model had meant it. Where one
    moment is asked for, its first is the answer that counts, and nothing is checked.

    Args:
        key: the setting that says `most`, for the message.
    """
    if not task.takes_sets or not len(samples):
        return
    table = SampleTable.of(samples)
    order = np.lexsort((table.numbers("duration_s"), table.moments()))[::-1][:LOOKED_AT]
    chosen = list(table.select(order))
    tokenizer = processor.tokenizer  # type: ignore[attr-defined]
    if new := [token for token in task.tokens() if token not in tokenizer.get_vocab()]:
        # The model's loading adds them to the tokenizer; here they must count as the one token that they will be.
        tokenizer = deepcopy(tokenizer)
        tokenizer.add_tokens(new)
    texts = [task.encode(sample.spans, duration_s=sample.duration_s) for sample in chosen]
    lengths = [len(ids) + 1 for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]  # 1: the turn's end
    longest = int(np.argmax(lengths))
    if lengths[longest] > most:
        sample = chosen[longest]
        raise ConfigError(
            f"{key} = {most}: the answer to {sample.place} ({len(sample.spans)} moments) takes {lengths[longest]} "
            f"tokens and would be cut off; set it to {lengths[longest]} or more"
        )
