"""Whether the longest answer that rows ask for fits into the tokens that a model may write."""

from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from heapq import nlargest

import numpy as np
from transformers import ProcessorMixin

from vtg.annotations.sample import Sample
from vtg.annotations.sample_table import SampleTable
from vtg.errors import ConfigError, SampleError
from vtg.tasks.all_tasks import SPAN, Tasks
from vtg.tasks.span_task import SpanTask

# Rows with the most moments, in the longest clips: the longest answer is one of theirs, and tokenizing a million takes
# a minute.
LOOKED_AT = 256


def answer_room(
    samples: Sequence[Sample],
    *,
    task: SpanTask,
    processor: ProcessorMixin,
    most: int | None,
    key: str = "evaluation.max_new_tokens",
) -> int:
    """Tokens that the answers to samples get: `most`; where it is None what their tasks want (`Task.room`), and no less
    than their longest true answer.

    A set that is cut off in its middle is read as a smaller one, and scored as if the model had meant it, and so is a
    caption. Where one moment is asked for, its first is the answer that counts, and nothing is looked at.

    Args:
        key: the setting that says `most`, for the message.

    Raises:
        ConfigError: the true answer to a sample, with its end, takes more than `most`; `task.constrained` is on beside
            samples of other tasks than spans.
    """
    if not len(samples):
        return most or task.room
    table = SampleTable.of(samples)
    _check_constrained(table, table.of_other_tasks(), task)
    longest = _longest_answer(table, task=task, processor=processor)
    if most is None:
        return max(Tasks(task).room(table.tasks()), longest[0] if longest else 0)
    if longest is not None and longest[0] > most:
        length, sample = longest
        what = f"{len(sample.spans)} moments" if sample.target.task == SPAN else sample.target.task
        raise ConfigError(
            f"{key} = {most}: the answer to {sample.place} ({what}) takes {length} "
            f"tokens and would be cut off; set it to {length} or more"
        )
    return most


def _longest_answer(table: SampleTable, *, task: SpanTask, processor: ProcessorMixin) -> tuple[int, Sample] | None:
    """Tokens of the longest true answer that must not be cut, its end included, and whose it is."""
    tasks, others = Tasks(task), table.of_other_tasks()
    chosen = [(sample, tasks.answer(sample)) for sample in _longest(table, ~others)] if task.takes_sets else []
    chosen += _longest_texts(table, others, tasks)
    if not chosen:
        return None
    tokenizer = processor.tokenizer  # type: ignore[attr-defined]
    if new := [token for token in task.tokens() if token not in tokenizer.get_vocab()]:
        # The model's loading adds them to the tokenizer; here they must count as the one token that they will be.
        tokenizer = deepcopy(tokenizer)
        tokenizer.add_tokens(new)
    texts = [text for _, text in chosen]
    lengths = [len(ids) + 1 for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]  # 1: the turn's end
    longest = int(np.argmax(lengths))
    return lengths[longest], chosen[longest][0]


def _longest(table: SampleTable, which: np.ndarray) -> list[Sample]:
    """Of the samples of spans, (N,) bool `which`, those with the most moments in the longest clips."""
    order = np.lexsort((table.numbers("duration_s"), table.moments()))[::-1]
    return list(table.select(order[which[order]][:LOOKED_AT]))


def _longest_texts(table: SampleTable, which: np.ndarray, tasks: Tasks) -> list[tuple[Sample, str]]:
    """Of the samples of other tasks, (N,) bool `which`, those whose answers have the most characters."""
    written: list[tuple[int, str]] = []
    for at in np.flatnonzero(which).tolist():
        with suppress(SampleError):  # which its row will be skipped for
            written.append((at, tasks.answer(table[at])))
    written = nlargest(LOOKED_AT, written, key=lambda pair: len(pair[1]))
    return [(table[at], text) for at, text in written]


def _check_constrained(table: SampleTable, others: np.ndarray, task: SpanTask) -> None:
    """Raises ConfigError where answers are kept to the grammar of spans, and some are none: (N,) bool `others`."""
    if task.config.constrained and others.any():
        sample = table[int(np.argmax(others))]
        raise ConfigError(
            f"task.constrained = true: keeps answers to spans, and {sample.place} asks for another "
            f"({sample.target.task}); set task.constrained=false, or put these rows into a file of their own"
        )
