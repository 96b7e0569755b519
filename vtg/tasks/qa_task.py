"""The question task: one of several choices, or a short free answer; the prompt has subtitles where there are any."""

import re
import string
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from vtg.annotations.sample import Sample
from vtg.annotations.subtitles import Subtitle, read_subtitles
from vtg.annotations.text_targets import Question
from vtg.config.task_settings import TaskConfig
from vtg.errors import SampleError
from vtg.tasks.answer import Status
from vtg.tasks.prompts import plain_text
from vtg.tasks.task import LossGroup, PredictionRow, Reading, common_metrics, text_fault
from vtg.tasks.text_overlap import is_same, token_f1

LETTERS = string.ascii_uppercase

# (B)  B.  B)  B:  and what may follow, which must be the choice itself.
_LETTER = re.compile(r"\(?([A-Z])\)?[.):]?(?:\s+(\S.*))?", re.DOTALL)


class QuestionTask:
    """Questions. The answer to one with choices is written as the letter of the right choice."""

    name: ClassVar[str] = "qa"
    room: ClassVar[int] = 64
    headline: ClassVar[str] = "score"
    weighed_as: ClassVar[LossGroup | None] = None
    of_choices: ClassVar[tuple[str, ...]] = (
        "Answer with the letter of the right choice.",
        "Which choice is right? Give its letter alone.",
    )
    free: ClassVar[tuple[str, ...]] = ("Answer briefly.", "Answer in a few words.")

    def __init__(self, config: TaskConfig) -> None:
        del config  # nothing of it is about plain text

    def prompts(self, sample: Sample) -> Sequence[str]:
        """Subtitles, the question, its choices, and what to answer with, in this order.

        Raises:
            SampleError: without a question, or where its subtitle file cannot be read.
        """
        target = _question(sample)
        if not sample.query.strip():
            raise SampleError(f"{sample.place}: question: is empty; fill it in, or drop the row")
        said = [f"[{start:.1f} to {end:.1f} seconds] {plain_text(text)}" for start, end, text in subtitles_of(sample)]
        lines = ["Subtitles:", *said, ""] if said else []
        lines.append(plain_text(sample.query))
        lines += [f"{letter}. {plain_text(choice)}" for letter, choice in zip(LETTERS, target.choices, strict=False)]
        asked = "\n".join(lines)
        return tuple(f"{asked}\n{request}" for request in (self.of_choices if target.choices else self.free))

    def write(self, sample: Sample) -> str:
        target = _question(sample)
        return LETTERS[target.choices.index(target.answer)] if target.choices else target.answer.strip()

    def read(self, text: str, sample: Sample) -> Reading:
        """The value is the text of the choice, or of the free answer.

        With choices exactly these are read: a letter (`B`, `(B)`, `B.`, `B)`, `B:`), a letter followed by the text of
        that choice, or the text of one choice; in a choice's text case, punctuation and articles do not count. A letter
        beyond the choices is `out_of_range`; anything else, such as a sentence that holds a letter, is `malformed`.
        """
        choices, written = _question(sample).choices, text.strip()
        if not choices:
            return Reading(written or None, Status.OK if written else Status.MALFORMED, text)
        match = _LETTER.fullmatch(written)
        if match is not None and match[2] is None:  # first: of choices that are letters themselves the place counts
            at = LETTERS.index(match[1])
            known = at < len(choices)
            return Reading(choices[at] if known else None, Status.OK if known else Status.OUT_OF_RANGE, text)
        named = [choice for choice in choices if choice.strip() == written] or [
            choice for choice in choices if is_same(written, choice)
        ]
        if len(named) == 1:
            return Reading(named[0], Status.OK, text)
        at = LETTERS.index(match[1]) if match is not None else len(choices)
        if match is None or at >= len(choices) or not is_same(match[2], choices[at]):
            return Reading(None, Status.MALFORMED, text)
        return Reading(choices[at], Status.OK, text)

    @staticmethod
    def fault(value: object) -> str | None:
        return text_fault(value)

    @staticmethod
    def metrics(rows: Sequence[PredictionRow]) -> dict[str, float | int]:
        """`score`, the mean over rows of what each is worth: right or wrong with choices, else the F1 of words; and of
        those with choices `accuracy`, of the others `exact_match` (the same words) and `token_F1`, where there are any.
        """
        chosen = [float(row["prediction"] == row["answer"]) for row in rows if row.get("choices")]
        free = [(row["prediction"] or "", row["answer"]) for row in rows if not row.get("choices")]
        overlaps = [token_f1(*pair) for pair in free]
        shares = {"score": chosen + overlaps}
        shares |= {"accuracy": chosen} if chosen else {}
        shares |= {"exact_match": [float(is_same(*pair)) for pair in free], "token_F1": overlaps} if free else {}
        return {name: 100.0 * float(np.mean(values)) for name, values in shares.items()} | common_metrics(rows)

    def reward(self, reading: Reading, sample: Sample) -> float:
        """1 for the right choice and 0 for another; of a free answer the F1 of its words."""
        target = _question(sample)
        if reading.value is None:
            return 0.0
        return float(reading.value == target.answer) if target.choices else token_f1(reading.value, target.answer)


def subtitles_of(sample: Sample) -> Sequence[Subtitle]:
    """What is said in the sample's clip, in seconds of the clip.

    A file lies beside the annotation file, and its times are those of the whole video: of a part of it (`video_start`)
    the subtitles that reach into it are left, cut to it. Raises SampleError where it cannot be read.
    """
    given = _question(sample).subtitles
    if not isinstance(given, str):
        return given or ()
    start_s, duration_s = sample.video_start_s or 0.0, sample.duration_s
    moved = [(start - start_s, end - start_s, text) for start, end, text in read_subtitles(subtitle_path(sample))]
    return [
        (max(start, 0.0), min(end, duration_s), text) for start, end, text in moved if start < duration_s and end > 0
    ]


def subtitle_path(sample: Sample) -> str:
    """Where the subtitle file that a sample names lies."""
    given = _question(sample).subtitles
    assert isinstance(given, str), sample
    return str(Path(sample.place.rpartition(":")[0]).parent / given)


def _question(sample: Sample) -> Question:
    assert isinstance(sample.target, Question), sample
    return sample.target
