"""The caption task: what is in the clip, in words."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from vtg.annotations.sample import Sample
from vtg.annotations.text_targets import Caption
from vtg.config.task_settings import TaskConfig
from vtg.tasks.answer import Status
from vtg.tasks.prompts import plain_text
from vtg.tasks.task import LossGroup, PredictionRow, Reading, common_metrics, text_fault
from vtg.tasks.text_overlap import rouge_l, token_f1


class CaptionTask:
    """Plain captions. A row's own question, where it has one, takes the place of the wordings."""

    name: ClassVar[str] = "caption"
    room: ClassVar[int] = 256
    headline: ClassVar[str] = "rouge_L"
    weighed_as: ClassVar[LossGroup | None] = "caption"
    wordings: ClassVar[tuple[str, ...]] = (
        "Describe the video.",
        "What happens in this video? Describe it in detail.",
        "Write a caption for the video.",
    )

    def __init__(self, config: TaskConfig) -> None:
        del config  # nothing of it is about plain text

    def prompts(self, sample: Sample) -> Sequence[str]:
        return (plain_text(sample.query),) if sample.query else self.wordings

    def write(self, sample: Sample) -> str:
        assert isinstance(sample.target, Caption), sample
        return sample.target.text.strip()

    def read(self, text: str, sample: Sample) -> Reading:
        """The value is the caption."""
        caption = text.strip()
        return Reading(caption or None, Status.OK if caption else Status.MALFORMED, text)

    @staticmethod
    def fault(value: object) -> str | None:
        return text_fault(value)

    @staticmethod
    def metrics(rows: Sequence[PredictionRow]) -> dict[str, float | int]:
        """`rouge_L` and `token_F1` of captions and true captions (`vtg.tasks.text_overlap`), means of rows."""
        pairs = [(row["prediction"] or "", row["caption"]) for row in rows]
        scores = {"rouge_L": rouge_l, "token_F1": token_f1}
        means = {name: 100.0 * float(np.mean([one(*pair) for pair in pairs])) for name, one in scores.items()}
        return means | common_metrics(rows)

    def reward(self, reading: Reading, sample: Sample) -> float:
        """ROUGE-L."""
        assert isinstance(sample.target, Caption), sample
        return 0.0 if reading.value is None else rouge_l(reading.value, sample.target.text)
