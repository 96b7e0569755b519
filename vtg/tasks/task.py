"""What a module of `vtg/tasks/` offers: all that a task owns, as functions of samples, strings and rows.

Which task a sample has is told by its target (`target.task`, a name in `vtg.tasks.all_tasks.TASKS`), and so by its row:
a run mixes tasks. What all share is done once, outside: one of the wordings is chosen, `task.think` asks for a thought
and answer tags, and `read` gets what is between them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from vtg.annotations.sample import Sample
from vtg.config.task_settings import TaskConfig
from vtg.tasks.answer import Status

LossGroup = Literal["caption", "point"]

PredictionRow = Mapping[str, Any]
"""A line of predictions.jsonl: the annotation row's keys, and `task`, `prediction`, `text` and `status`."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a completion says.

    Attributes:
        value: as `Task.read` defines it, a JSON value (it becomes `prediction` in predictions.jsonl); None where the
            text cannot be read.
        status: `ok` or `none` (nothing there, where the task has such an answer); else why it cannot be read.
        text: the completion.
    """

    value: Any
    status: Status
    text: str


class Task(Protocol):
    """One task, made of the `task` settings: `CaptionTask(config)`.

    Attributes:
        name: its key in `TASKS`, and in metrics.json.
        room: tokens that an answer gets where nobody says how many; more where true answers are longer.
        headline: the key of `metrics` by which two models are compared, 0 to 100, higher is better.
        weighed_as: where `loss.token_weights=by_task` each token of an answer weighs `loss.caption_weight` or
            `loss.point_weight`; None: 4 / sqrt(tokens).
    """

    name: ClassVar[str]
    room: ClassVar[int]
    headline: ClassVar[str]
    weighed_as: ClassVar[LossGroup | None]

    def __init__(self, config: TaskConfig) -> None: ...

    def prompts(self, sample: Sample) -> Sequence[str]:
        """The wordings of the question, each complete; the first is the one of `task.selection=fixed`.

        Raises:
            SampleError: it cannot be asked, as without a question.
        """
        ...

    def write(self, sample: Sample) -> str:
        """The text that the model is trained to write: `read` of it gives the target back, within its precision.

        Raises:
            SampleError: the target cannot be written.
        """
        ...

    def read(self, text: str, sample: Sample) -> Reading:
        """What `text` says about the sample's clip; the sample's target is not looked at. Never raises on a text."""
        ...

    @staticmethod
    def fault(value: object) -> str | None:
        """What is wrong with a `prediction` that somebody else wrote, which is not null, after the name of its field;
        None where it is of the form that `read` gives."""
        ...

    @staticmethod
    def metrics(rows: Sequence[PredictionRow]) -> dict[str, float | int]:
        """Scores of one or more rows of this task: shares are 0 to 100; `parse_failures`, a share, and `samples` are
        among them. A `prediction` of null scores 0 and stays in every mean.

        Each metric is the mean, over the rows that have it, of what `metrics` gives for the row alone: intervals are
        drawn from these."""
        ...

    def reward(self, reading: Reading, sample: Sample) -> float:
        """What a completion is worth to reinforcement learning, 0 to 1: finite for every text, 0 for what cannot be
        read, 1 for the target."""
        ...


def text_fault(value: object) -> str | None:
    """`Task.fault` of answers that are texts."""
    return None if isinstance(value, str) else f"prediction: is {str(value)[:40]!r}; it must be a text"


def common_metrics(rows: Sequence[PredictionRow]) -> dict[str, float | int]:
    """`parse_failures` and `samples`, which every task counts alike. A status of None is of a row that nobody read."""
    failed = sum(row["status"] not in (Status.OK, Status.NONE, None) for row in rows)
    return {"parse_failures": 100.0 * failed / len(rows), "samples": len(rows)}


def flat_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics without the dicts of tasks in them: `caption/rouge_L`."""
    numbers: dict[str, Any] = {}
    for name, value in metrics.items():
        numbers |= {f"{name}/{key}": one for key, one in value.items()} if isinstance(value, dict) else {name: value}
    return numbers
