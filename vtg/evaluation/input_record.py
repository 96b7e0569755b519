"""What a model was shown and asked, kept as `input.json` beside its answers: a score means little without it."""

import json
from pathlib import Path
from typing import Any

from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VIDEO_MEANS, VideoConfig
from vtg.storage.json_files import write_json
from vtg.tasks.span_task import SpanTask

INPUT_FILE = "input.json"


def input_record(video: VideoConfig, task: TaskConfig, **more: Any) -> dict[str, Any]:
    """Sampling and limits of frames and pixels, the prompts as they are asked, and the form of the answers.

    `more`: what else is known of the answers, such as `checkpoint` or `max_new_tokens`.
    """
    # What decodes, and where clips are cached, is no part of what the model sees.
    shown = {key: value for key, value in vars(video).items() if key not in VIDEO_MEANS}
    return {**more, **shown, "answer": task.answer, "prompts": list(SpanTask(task).pool), "selection": task.selection}


def write_input(folder: Path, record: dict[str, Any]) -> None:
    """Beside the answers in `folder`."""
    write_json(folder / INPUT_FILE, record)


def read_input(predictions: str) -> dict[str, Any] | None:
    """The record beside a file of predictions; None where there is none, or it cannot be read."""
    try:
        record = json.loads((Path(predictions).parent / INPUT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None
