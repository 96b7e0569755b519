"""What the page asks of the server: its lanes, its clips, what a question would cost, and the answers."""

import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from vtg.annotations.target import Span
from vtg.app.examples import Examples
from vtg.app.lanes import Lane, Lanes
from vtg.app.media import facts
from vtg.app.shelf import Shelf, ShelvedVideo
from vtg.errors import ConfigError, SampleError
from vtg.evaluation.metrics import row_ious
from vtg.serving.admission import Admission
from vtg.serving.web_server import answer_unless_gone
from vtg.tasks.answer import Answer
from vtg.video.video_window import VideoWindow


class Sampling(BaseModel):
    """How a clip is to be sampled; None: as the checkpoint was trained."""

    fps: float | None = Field(None, ge=0, le=1000)
    max_frames: int | None = Field(None, ge=1, le=100_000)
    max_pixels: int | None = Field(None, ge=1, le=10**9)

    def sampling(self) -> dict[str, Any]:
        return {"fps": self.fps, "max_frames": self.max_frames, "max_pixels": self.max_pixels}


class Clip(Sampling):
    """A video of the shelf, or a part of it from `start_s` to `end_s`."""

    video: str
    start_s: float | None = None
    end_s: float | None = None
    duration_s: float | None = None

    def window(self, video: ShelvedVideo) -> VideoWindow:
        return VideoWindow(video.path, start_s=self.start_s, end_s=self.end_s, duration_s=self.duration_s)


class Look(Clip):
    """What a question would cost."""

    query: str = ""


class Asked(Clip):
    """Questions to one lane; `truths`: the annotated moments of each, None where there are none."""

    lane: int
    queries: list[str]
    truths: list[list[tuple[float, float]] | None] | None = None


def ask_router(lanes: Lanes, shelf: Shelf, admission: Admission, examples: "Future[Examples]") -> APIRouter:
    """`GET /state`, `GET /examples`, `POST /look`, `GET /frames.webp` and `POST /ask`.

    Args:
        examples: the clips to begin with.
    """
    router, limits = APIRouter(), admission.limits

    @router.get("/state")
    def state() -> dict[str, Any]:
        told = {"upload_bytes": limits.upload_bytes, "video_s": limits.video_s, "queries": limits.queries}
        opens = bool(admission.allow_dirs or admission.allow_urls or admission.private_hosts)
        return {"lanes": [_lane_state(lane) for lane in lanes.lanes], "limits": told, "opens": opens}

    @router.get("/examples")
    def clips() -> dict[str, Any]:
        if not examples.done():
            return {"ready": False, "clips": [], "notes": []}
        found, notes = examples.result()
        return {"ready": True, "clips": [clip.document() for clip in found], "notes": notes}

    @router.post("/look")
    def look(clip: Look) -> dict[str, Any]:
        video = shelf.get(clip.video)
        try:
            return {"lanes": [_look(lane, number, video, clip) for number, lane in enumerate(lanes.lanes)]}
        except SampleError as error:
            raise video.told(error) from error

    @router.get("/frames.webp")
    def frames(
        video: str,
        lane: int,
        fps: float | None = None,
        max_frames: int | None = None,
        max_pixels: int | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
        duration_s: float | None = None,
    ) -> Response:
        shelved = shelf.get(video)
        reader = lanes[lane].reader
        sampling = reader.sampled(fps=fps, max_frames=max_frames, max_pixels=max_pixels)
        try:
            window = VideoWindow(shelved.path, start_s=start_s, end_s=end_s, duration_s=duration_s)
            picture = reader.picture(window, sampling)
        except SampleError as error:
            raise shelved.told(error) from error
        # Its address holds all that it depends on but the file's content, and keys are of files that stay.
        return Response(picture, media_type="image/webp", headers={"Cache-Control": "private, max-age=3600"})

    @router.post("/ask")
    async def ask(asked: Asked, request: Request) -> dict[str, Any]:
        from vtg.serving.model_worker import Question

        lane, video = lanes[asked.lane], shelf.get(asked.video)
        began = time.monotonic()
        try:
            sampling = lane.reader.sampled(**asked.sampling())
            future = lane.worker.submit(Question(asked.window(video), asked.queries, sampling))
            answered = await answer_unless_gone(request, future, timeout_s=limits.timeout_s)
        except SampleError as error:
            raise video.told(error) from error
        truths = asked.truths or [None] * len(asked.queries)
        tokens = zip(answered.prompt_tokens, answered.completion_tokens, strict=True)
        return {
            "duration_s": answered.clip.duration_s,
            "frames": len(answered.clip.timestamps_s),
            "took_s": round(time.monotonic() - began, 3),
            "answers": [
                {
                    "query": query,
                    "spans": [list(span) for span in answer.spans],
                    "status": str(answer.status),
                    "text": answer.text,
                    "iou": None if truth is None else _iou(answer, truth),
                    "prompt_tokens": prompt,
                    "completion_tokens": completion,
                }
                for query, truth, answer, (prompt, completion) in zip(
                    asked.queries, truths, answered.answers, tokens, strict=True
                )
            ],
        }

    return router


def _iou(answer: Answer, truth: Sequence[Span]) -> float:
    """As an evaluation scores it."""
    row = {"prediction": answer.spans, "timestamp": truth, "status": str(answer.status)}
    return float(row_ious([row])[0])


def _lane_state(lane: Lane) -> dict[str, Any]:
    state, fault = lane.state
    settings = lane.asked.settings
    video = settings.video
    sampling = {"fps": video.fps, "max_frames": video.max_frames, "max_pixels": video.max_pixels}
    return {
        "name": lane.name,
        "state": state,
        "reads": lane.reads,
        "fault": fault,
        "policy": video.sampling,
        "sampling": sampling,
        "max_length": settings.model.max_length,
        "differences": lane.asked.differences,
    }


def _look(lane: Lane, number: int, video: ShelvedVideo, look: Look) -> dict[str, Any]:
    """What one lane would read; `{"error"}` where its settings cannot be."""
    from vtg.app.clip_reader import COLUMNS, cell_size, shown

    if not lane.reads:
        return {"loading": True}
    reader = lane.reader
    duration_s = look.duration_s if look.duration_s is not None else facts(video).duration_s
    try:
        sampling = reader.sampled(**look.sampling())
        reading = reader.read(look.window(video), look.query or "a person", sampling, duration_s=duration_s)
    except ConfigError as error:
        return {"error": str(error)}
    picked = shown(len(reading.frame_times_s))
    height, width = cell_size(reading.height, reading.width)
    asked = {key: value for key, value in look.model_dump(exclude={"query"}).items() if value is not None}
    return {
        **reading.document(),
        "path": video.name,
        "max_length": reader.settings.model.max_length,
        "strip": {
            "picture": f"/frames.webp?{urlencode({**asked, 'lane': number})}",
            "columns": min(COLUMNS, len(picked)),
            "count": len(picked),
            "times_s": [round(time_s, 4) for time_s in reading.frame_times_s[picked].tolist()],
            "height": height,
            "width": width,
        },
    }
