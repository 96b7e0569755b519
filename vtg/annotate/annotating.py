"""One video or episode through the modules; each leaves its result in a file, which a later run reads instead."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from vtg.annotate.answers import SLACK_S, BadAnswer, Segment, json_of, question_of, segments_form, segments_of
from vtg.annotate.chat_model import ChatModel
from vtg.annotate.episode_sources import Source
from vtg.annotate.window import Show, Window, image_block, shown_as, windows_of
from vtg.errors import SampleError
from vtg.storage.file_stamp import file_stamp
from vtg.storage.json_files import write_json
from vtg.tasks.json_form import JsonForm, text_form
from vtg.video.episodes.frame_provider import Frames

# Tries at an answer that can be read; each further one is told what was wrong with the last.
ANSWERS = 3

SEGMENTS = """{shown} They show seconds {start:.1f} to {end:.1f} of a video.{task}
List what happens in it, one event or subtask after another, each with its start and end in seconds as they are \
shown. Say what is done and with what, in one short sentence. Answer only with JSON:
[{{"start": 0.0, "end": 1.0, "text": "…"}}, …]"""

PLAN = """{shown} They show seconds {start:.1f} to {end:.1f} of a video.{task}
These subtasks follow one another in it: {segments}
Write the plan that leads to them, as one numbered list of short steps. Answer only with JSON: {{"plan": "1. …"}}"""

PLAN_OF_TASK = """There is no video of this.{task}
Write a plan for it, as one numbered list of short steps. Answer only with JSON: {{"plan": "1. …"}}"""

MEMORY = """These happened one after another: {segments}
Sum up in one or two sentences what has been done by now. Answer only with JSON: {{"memory": "…"}}"""

QUESTION = """This is what camera {camera} shows at {time:.1f} s of a video.{task}
Ask one question about what can be seen in it, and answer it: in words, or where something is, with \
{{"boxes": [{{"label": "…", "box": [x1, y1, x2, y2]}}]}} or {{"points": [{{"label": "…", "point": [x, y]}}]}}, in \
thousandths of width and height. Answer only with JSON: {{"question": "…", "answer": …}}"""

INTERJECTION = """These happened one after another: {segments}
Write one sentence that somebody watching could have said at {time:.1f} s to correct or to change what is done next. \
Answer only with JSON: {{"text": "…"}}"""

SHOWN = {
    "sheets": "These are sheets of frames, row by row, the time in seconds on each.",
    "frames": "These are frames, the time before each.",
    "video": "This is a video.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotateSettings:
    """How videos are shown, and what is asked.

    Attributes:
        modules: of MODULES, in their order; those that need segments come after them.
        show: how a window is shown.
        fps, max_frames: of a window.
        window_s: longer videos are asked about part by part.
        keyframes_per_episode: ticks at which there is a question, for each camera.
        camera: the one that segments are of; None for a record's first.
    """

    modules: tuple[str, ...] = ("segments",)
    show: Show = "sheets"
    fps: float = 1.0
    max_frames: int = 60
    window_s: float = 60.0
    keyframes_per_episode: int = 4
    camera: str | None = None


@dataclass(slots=True)
class Work:
    """A source under annotation: how to ask, and what the modules before have found."""

    source: Source
    settings: AnnotateSettings
    model: ChatModel
    provider: Frames
    found: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def camera(self) -> str:
        return self.settings.camera or next(iter(self.source.record.cameras))

    @property
    def task(self) -> str:
        return f" The task: {'; '.join(self.source.tasks)}." if self.source.tasks else ""

    def ask(
        self, blocks: Sequence[dict[str, Any]], prompt: str, read: Callable[[Any], Any], form: JsonForm | None = None
    ) -> Any:
        """What `read` makes of the JSON in the answer, which is of the form where the model can be kept to it.

        Raises:
            SampleError: no answer can be read.
        """
        messages: list[dict[str, Any]] = [{"role": "user", "content": [*blocks, {"type": "text", "text": prompt}]}]
        fault = ""
        for _ in range(ANSWERS):
            text = self.model.complete(messages, form)
            try:
                return read(json_of(text))
            except BadAnswer as error:
                fault = str(error)
                messages += [
                    {"role": "assistant", "content": text},
                    {"role": "user", "content": f"That cannot be read: {fault}. Answer again, only with the JSON."},
                ]
        raise SampleError(f"{self.source.key}: {ANSWERS} answers cannot be read; the last: {fault}")


def segments(work: Work) -> list[dict[str, Any]]:
    """What happens when: one entry a segment."""
    if not work.source.record.cameras:  # nobody can see when anything happens
        return []
    found: list[Segment] = []
    windows = windows_of(work.source.record, work.camera, window_s=work.settings.window_s, spans=work.source.spans)
    for window in windows:
        blocks, _ = _shown(work, window)
        # The time is written on frames; a video file begins at zero, whatever it was cut from.
        zero_s = window.start_s if work.settings.show == "video" else 0.0
        start_s, end_s = window.start_s - zero_s, window.end_s - zero_s
        prompt = SEGMENTS.format(shown=SHOWN[work.settings.show], start=start_s, end=end_s, task=work.task)
        new = work.ask(
            blocks,
            prompt,
            lambda value, window=window, zero_s=zero_s: segments_of(value, window, zero_s=zero_s),
            segments_form(window, zero_s=zero_s),
        )
        # What goes on over the edge of two windows is told by both.
        touch = bool(found and new) and new[0].start_s - found[-1].end_s <= SLACK_S
        if touch and new[0].text.lower() == found[-1].text.lower():
            new[0] = Segment(found.pop().start_s, new[0].end_s, new[0].text)
        found += new
    return [asdict(one) for one in found]


def plan(work: Work) -> list[dict[str, Any]]:
    """The plan, at the start; without a video it is of the task alone."""
    if not work.source.record.cameras:
        return [{"time_s": 0.0, "text": _ask_text(work, [], PLAN_OF_TASK.format(task=work.task), "plan")}]
    window = windows_of(work.source.record, work.camera, window_s=np.inf)[0]
    blocks, _ = _shown(work, window)
    prompt = PLAN.format(
        shown=SHOWN[work.settings.show], start=0.0, end=window.end_s, task=work.task, segments=_told(work, np.inf)
    )
    return [{"time_s": float(window.times_s[0]), "text": _ask_text(work, blocks, prompt, "plan")}]


def memory(work: Work) -> list[dict[str, Any]]:
    """What has been done by the end of each segment but the last."""
    ends_s = [one["end_s"] for one in work.found["segments"][:-1]]
    return [
        {"time_s": end_s, "text": _ask_text(work, [], MEMORY.format(segments=_told(work, end_s)), "memory")}
        for end_s in ends_s
    ]


def vqa(work: Work) -> list[dict[str, Any]]:
    """A question and its answer for every camera, at even ticks."""
    found = []
    for camera in work.provider.camera_keys(work.source.record):
        (window,) = windows_of(work.source.record, camera, window_s=np.inf)
        for time_s in window.frame_times(np.inf, work.settings.keyframes_per_episode).tolist():
            (frame,) = work.provider.frames_at(work.source.record, [time_s], camera)
            if frame is None:
                raise SampleError(f"{work.source.key}: {camera} has no frame at {time_s:.3f} s that can be decoded")
            prompt = QUESTION.format(camera=camera, time=time_s, task=work.task)
            question, answer = work.ask([image_block(frame)], prompt, question_of)
            found.append({"time_s": time_s, "camera": camera, "question": question, "answer": answer})
    return found


def interjections(work: Work) -> list[dict[str, Any]]:
    """What somebody watching could have said at the start of each segment but the first."""
    starts_s = [one["start_s"] for one in work.found["segments"][1:]]
    return [
        {
            "time_s": start_s,
            "text": _ask_text(work, [], INTERJECTION.format(segments=_told(work, start_s), time=start_s), "text"),
        }
        for start_s in starts_s
    ]


MODULES: dict[str, Callable[[Work], list[dict[str, Any]]]] = {
    "segments": segments,
    "plan": plan,
    "memory": memory,
    "vqa": vqa,
    "interjections": interjections,
}
"""Module → what it finds. Each runs after those before it; plan, memory and interjections tell of the segments."""

NEED_SEGMENTS = ("plan", "memory", "interjections")


def annotate(work: Work, stages: Path) -> dict[str, list[dict[str, Any]]]:
    """Module → its entries: read where an earlier run has left them, else asked for and written.

    Raises:
        SampleError: the video cannot be read, or no answer can be; what is done stays.
        RunError: the model cannot be asked.
        OSError: `stages` cannot be written.
    """
    for name in work.settings.modules:
        path = stages / work.source.key / f"{name}.json"
        provenance = provenance_of(work)
        kept = _kept(path, provenance)
        if kept is None:
            kept = MODULES[name](work)
            write_json(path, {"provenance": provenance, "entries": kept})
        work.found[name] = kept
    return work.found


def provenance_of(work: Work) -> dict[str, Any]:
    """What an annotation is of and by whom: the model, how it was shown, the prompts, the files. A change of any asks
    again."""
    prompts = sha256("".join((SEGMENTS, PLAN, MEMORY, QUESTION, INTERJECTION)).encode()).hexdigest()[:12]
    shown = {key: value for key, value in asdict(work.settings).items() if key != "modules"}
    parts = work.source.record.cameras.values()
    files = {os.path.basename(part.path): list(file_stamp(part.path)) for part in parts}
    spans = {"spans": [list(span) for span in work.source.spans]} if work.source.spans else {}
    return work.model.identity | {"prompts": prompts, "files": files} | spans | shown


def _kept(path: Path, provenance: dict[str, Any]) -> list[dict[str, Any]] | None:
    try:
        stage = json.loads(path.read_text(encoding="utf-8"))
        return stage["entries"] if stage["provenance"] == provenance else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):  # of another version: asked again
        return None


def _shown(work: Work, window: Window) -> tuple[list[dict[str, Any]], np.ndarray]:
    settings = work.settings
    return shown_as(window, work.provider, settings.show, fps=settings.fps, max_frames=settings.max_frames)


def _told(work: Work, until_s: float) -> str:
    told = [f"{one['start_s']:.1f} to {one['end_s']:.1f} s: {one['text']}" for one in work.found["segments"]]
    before = [text for text, one in zip(told, work.found["segments"], strict=True) if one["start_s"] < until_s]
    return "; ".join(before) or "nothing"


def _ask_text(work: Work, blocks: Sequence[dict[str, Any]], prompt: str, key: str) -> str:
    """The text under a key of the answer."""

    def read(value: Any) -> str:
        text = value.get(key) if isinstance(value, dict) else None
        if not isinstance(text, str) or not text.strip():
            raise BadAnswer(f'it must be {{"{key}": "…"}} with a text that is not empty')
        return text.strip()

    return work.ask(blocks, prompt, read, text_form(key))
