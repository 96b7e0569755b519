"""Whether the answer can be parsed, and is written as a reasoning model is asked to write it."""

import re

from vtg.tasks.answer import is_answer
from vtg.training.rl.rewards.completion import Completion

_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
# DOTALL: reasoning runs over several lines.
_WHOLE = re.compile(r"\s*<think>(.*)</think>\s*<answer>(.*)</answer>\s*", re.DOTALL)


def answer_format(completion: Completion, *, think: bool = False) -> float:
    """1 for an answer that can be read, else 0.

    With `think` the text must also be `<think>...</think><answer>...</answer>` and nothing else (white space aside),
    each tag once and something in each: the format reward of Time-R1 (arXiv:2503.13377).
    """
    return float(is_answer(completion.answer.status) and (not think or _thinks_then_answers(completion.text)))


def parse_penalty(completion: Completion) -> float:
    """0 for an answer that can be read, else -1: TimeLens2 (arXiv:2607.17423), beside rewards that are 0 at least.

    With them alone an answer that cannot be read and one that misses the moment are worth the same.
    """
    return 0.0 if is_answer(completion.answer.status) else -1.0


def _thinks_then_answers(text: str) -> bool:
    # Each tag once: `.*` alone would also match an answer that opens <answer> again and again.
    lower = text.lower()
    whole = _WHOLE.fullmatch(text) if all(lower.count(tag) == 1 for tag in _TAGS) else None
    return whole is not None and all(part.strip() for part in whole.groups())
