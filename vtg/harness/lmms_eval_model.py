"""A model of lmms-eval that answers through vtg: `python -m lmms_eval --model vtg --model_args pretrained=RUN`.

The task's prompt is asked as it is, and clips are sampled, timed and encoded by vtg, so that the times the model reads
are those of the frames it sees. Written against lmms-eval 0.7.3 (`lmms_eval/api/model.py`, `models/chat/qwen3_vl.py`).
"""

import logging
from collections.abc import Sequence
from typing import Any

from accelerate import Accelerator
from lmms_eval.api.model import lmms  # pyright: ignore[reportMissingImports]

from vtg.config.budgets import read_budgets
from vtg.config.programs import PredictConfig
from vtg.entry import compose_settings
from vtg.errors import ConfigError, RunError, SampleError
from vtg.evaluation.grounder import Grounder
from vtg.harness.clip_answers import ClipQuestion, clip_answers
from vtg.models.checkpoint_settings import checkpoint_settings
from vtg.models.hub import find_model
from vtg.progress_bar import ProgressBar
from vtg.scoring.budget_settings import settings_at
from vtg.video.video_window import VideoWindow

log = logging.getLogger(__name__)

# As data.max_bad_share: a few broken videos are usual, more is a wrong folder, whose score would mean nothing.
MAX_BAD_SHARE = 0.05

# Of a task that sets none; the grounding tasks ask for 50.
MAX_NEW_TOKENS = 128


class VtgModel(lmms):
    """See the module. A whole model a process; `accelerate launch` starts several, and lmms-eval shares the questions.

    Args:
        pretrained: the checkpoint, as `python -m vtg.predict checkpoint=` takes it.
        budget: how much of a video is shown: a file of conf/budget/, or `own`.
        device: where the model is put; None: the GPU of this process.

    Raises:
        ConfigError: for an argument that is none, or a checkpoint whose answers a harness would misread.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str = "",
        *,
        budget: str = "own",
        batch_size: int | str = 1,
        device: str | None = None,
        **others: Any,
    ) -> None:
        super().__init__()
        if others or not pretrained:
            wrong = ", ".join(others) or "pretrained is missing"
            raise ConfigError(
                f"model_args: {wrong}; the arguments are pretrained=RUN, budget=NAME, batch_size=N and device=DEVICE"
            )
        if not str(batch_size).isdecimal() or int(batch_size) < 1:
            raise ConfigError(f"batch_size = {batch_size!r}: must be a number, at least 1")
        self.batch_size = int(batch_size)
        self.accelerator = Accelerator()
        self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
        config = compose_settings("predict", [], PredictConfig)
        own = checkpoint_settings(pretrained, overrides=config.settings, fallback=config.fallback).settings
        if own.task.answer != "seconds":
            raise ConfigError(
                f"pretrained = {pretrained!r}: answers in {own.task.answer}, which a harness would read as seconds; "
                "score it with python -m vtg.score"
            )
        find_model(pretrained, key="pretrained")
        (settings,) = settings_at(read_budgets([budget]), own).values()
        where = f"cuda:{self.accelerator.local_process_index}" if self.accelerator.device.type == "cuda" else "cpu"
        self._grounder = Grounder(settings, device=device if device and self._world_size == 1 else where)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The answer to each request, in their order; an empty text where the video cannot be read, which is counted.

        Raises RunError where more than `MAX_BAD_SHARE` of the videos cannot be read.
        """
        asked = [self._question(request) for request in requests]
        answers, bad = [""] * len(asked), list[SampleError]()
        bar = ProgressBar(len(asked), title="answering", unit="question", shown=self._rank == 0)

        def skipped(at: int, error: SampleError) -> None:
            bad.append(error)
            log.warning("%s", error)
            if len(bad) > max(1.0, MAX_BAD_SHARE * len(asked)):
                raise RunError(f"{len(bad)} of {len(asked)} videos cannot be read, the last: {error}") from error
            bar.update()

        with bar:
            for at, text in clip_answers(self._grounder, asked, batch_size=self.batch_size, skipped=skipped):
                answers[at] = _until(text, requests[at].args[2].get("until"))
                bar.update()
        if bad:
            log.warning("%d of %d videos cannot be read: their answers are empty", len(bad), len(asked))
        return answers

    def _question(self, request: Any) -> ClipQuestion:
        """What a request of a chat task asks."""
        _, doc_to_messages, options, doc_id, task, split = request.args
        messages = doc_to_messages(self.task_dict[task][split][doc_id])
        parts = [part for message in messages for part in message["content"]]
        videos = [part for part in parts if part["type"] == "video"]
        if len(videos) != 1 or len(messages) != 1 or any(part["type"] not in ("video", "text") for part in parts):
            raise RunError(f"task {task}: vtg answers questions about one video each; choose a grounding task")
        if options.get("do_sample") or options.get("temperature") or (options.get("num_beams") or 1) > 1:
            raise RunError(f"task {task}: asks for sampling or beams ({options}), and vtg answers greedily")
        window = VideoWindow(
            str(videos[0]["url"]), start_s=videos[0].get("start_time"), end_s=videos[0].get("end_time")
        )
        text = "\n".join(part["text"] for part in parts if part["type"] == "text")
        return ClipQuestion(window, text, int(options.get("max_new_tokens") or MAX_NEW_TOKENS))

    def loglikelihood(self, requests: Sequence[Any]) -> Any:
        """Raises RunError: vtg answers in text."""
        raise RunError("vtg answers in text, and gives no likelihoods; choose a task with output_type generate_until")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> Any:
        """Raises RunError: one question, one answer."""
        raise RunError("vtg answers one question at a time; choose a task with output_type generate_until")


def _until(text: str, ends: str | Sequence[str] | None) -> str:
    """The text up to the first of the task's end marks."""
    for end in [ends] if isinstance(ends, str) else ends or ():
        text = text.partition(end)[0] if end else text
    return text
