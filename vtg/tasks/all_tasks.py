"""The tasks by their names, and which of them a sample has."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vtg.annotations.sample import Sample
from vtg.tasks.answer import Answer
from vtg.tasks.answer_numbers import answer_part
from vtg.tasks.caption_task import CaptionTask
from vtg.tasks.count_task import CountTask
from vtg.tasks.dense_caption_task import DenseCaptionTask
from vtg.tasks.points_task import PointsTask, TracksTask
from vtg.tasks.prompts import TAGGED_ANSWER, THINK_REQUEST, choose
from vtg.tasks.qa_task import QuestionTask
from vtg.tasks.span_task import SpanTask
from vtg.tasks.task import Reading, Task

TASKS: dict[str, type[Task]] = {
    task.name: task for task in (CaptionTask, DenseCaptionTask, QuestionTask, PointsTask, TracksTask, CountTask)
}
"""Name → task. The one that is not here is `span`, of rows with `timestamp`: `vtg.tasks.span_task` has its prompts,
forms of answer and grammar, `vtg.evaluation.metrics` its metrics, and the settings of `rewards` its rewards."""

SPAN = "span"


class Tasks:
    """All tasks of a run, for one `TaskConfig`: each sample is asked, and its answers read, by its own."""

    def __init__(self, span: SpanTask) -> None:
        self.span = span
        self.others: Mapping[str, Task] = {name: task(span.config) for name, task in TASKS.items()}

    def room(self, names: Iterable[str]) -> int:
        """Tokens that an answer of any of these tasks gets where nobody says how many."""
        thought = self.span.room if self.span.config.think else 0  # that of spans has it already
        return max(self.span.room if name == SPAN else self.others[name].room + thought for name in names)

    def prompts(self, sample: Sample) -> Sequence[str]:
        """All wordings of what a sample of another task than `span` is asked. Raises SampleError."""
        request = THINK_REQUEST if self.span.config.think else ""
        return [prompt + request for prompt in self.others[sample.target.task].prompts(sample)]

    def answer(self, sample: Sample) -> str:
        """What the model is trained to write. Raises SampleError for a target that cannot be written."""
        if sample.target.task == SPAN:
            return self.span.encode(sample.spans, duration_s=sample.duration_s)
        written = self.others[sample.target.task].write(sample)
        return TAGGED_ANSWER.format(written) if self.span.config.think else written

    def conversation(self, sample: Sample, *, answers: bool, seed: int = 0) -> list[dict[str, Any]]:
        """Messages in Hugging Face's chat form: the video and the question, and with `answers` the answer.

        `seed`: the draw of the wording, see `vtg.tasks.prompts.choose`. Raises SampleError.
        """
        if sample.target.task == SPAN:
            spans = sample.spans if answers else None
            return self.span.conversation(
                sample.query, duration_s=sample.duration_s, spans=spans, key=sample.qid, seed=seed
            )
        wordings = self.prompts(sample)
        question = choose(wordings, selection=self.span.config.selection, key=sample.qid, seed=seed)
        user = {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": question}]}
        if not answers:
            return [user]
        return [user, {"role": "assistant", "content": [{"type": "text", "text": self.answer(sample)}]}]

    def read(self, text: str, sample: Sample) -> Answer | Reading:
        """What a completion says about a sample's clip. Never raises on a text."""
        if sample.target.task == SPAN:
            return self.span.parse(text, duration_s=sample.duration_s)
        read = self.others[sample.target.task].read(answer_part(text), sample)
        return Reading(read.value, read.status, text)


def task_name(row: Mapping[str, Any]) -> str:
    """The task of a row of predictions.jsonl: `task` says it where it is another than `span`."""
    named = row.get("task")
    return named if isinstance(named, str) and named in TASKS else SPAN
