"""The endpoint: /v1/chat/completions, /v1/models, /health."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from vtg import __version__
from vtg.serve.chat_answer import completion, events
from vtg.serve.chat_request import ChatRequest, read_chat_request
from vtg.serving.admission import Admission, Session
from vtg.serving.asked_question import Answered, Question
from vtg.serving.model_worker import ModelWorker
from vtg.serving.refusals import ANSWERED_AS_WRONG, Refused, busy, stopped, wrong
from vtg.serving.request_guard import Guard, error_document
from vtg.serving.web_server import answer_unless_gone
from vtg.video.video_window import VideoWindow


class ChatEndpoint:
    """Answers requests of OpenAI's chat protocol with a worker.

    Args:
        name: of the model, as clients ask for it.
        room: the most tokens of an answer.
    """

    def __init__(self, worker: ModelWorker, admission: Admission, *, name: str, room: int) -> None:
        self.worker, self.admission, self.name, self.room = worker, admission, name, room
        self._began, self._in_progress = int(time.time()), 0

    async def complete(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        began = time.monotonic()
        with self.admission.session() as session:
            async with self._counted():
                asked = await self._read(request)
                answered = await self._answer(request, asked, session, began=began)
        document = completion(asked, answered, model=self.name)
        if not asked.streams:
            return JSONResponse(document)
        stream = events(document, tells_usage=asked.tells_usage)
        return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def models(self) -> dict[str, Any]:
        """GET /v1/models."""
        return {"object": "list", "data": [self._model()]}

    async def model(self, name: str) -> dict[str, Any]:
        """GET /v1/models/NAME."""
        if name != self.name:
            raise Refused(f"model {name!r}: this server has {self.name!r} alone", status=404, code="model_not_found")
        return self._model()

    async def health(self) -> dict[str, Any]:
        """GET /health."""
        if not self.worker.is_alive:
            raise stopped("the model answers no longer: start the server again")
        return {"status": "ok", "model": self.name, "version": __version__, "waiting": self.worker.waiting}

    def _model(self) -> dict[str, Any]:
        return {"id": self.name, "object": "model", "created": self._began, "owned_by": "vtg"}

    @asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        """Bodies are as large as videos, so a request that would have to wait is refused before it is read."""
        if self._in_progress >= self.worker.limits.waiting:
            raise busy(f"{self._in_progress} requests wait already")
        self._in_progress += 1
        try:
            yield
        finally:
            self._in_progress -= 1

    async def _read(self, request: Request) -> ChatRequest:
        body, kept = bytearray(), 0
        try:
            async for block in request.stream():
                self.admission.count(len(block))
                kept += len(block)
                body += block
            document = await asyncio.to_thread(json.loads, bytes(body))
            return await asyncio.to_thread(read_chat_request, document, model=self.name, room=self.room)
        except (ValueError, RecursionError) as error:
            raise wrong(f"the request is no JSON ({error})") from error
        finally:
            self.admission.count(-kept)

    async def _answer(self, request: Request, asked: ChatRequest, session: Session, *, began: float) -> Answered:
        limit_s = self.worker.limits.timeout_s
        video, asked_once = asked.video, True
        if isinstance(video, str):
            path = await asyncio.to_thread(session.admit, video, timeout_s=limit_s)
            asked_once = path.is_relative_to(session.folder)
            video = _windowed(str(path), asked, session)
        elif asked.start_s is not None or asked.end_s is not None:
            raise wrong("vtg.video_start, vtg.video_end: are of a file; leave out the frames outside of the part")
        future = self.worker.submit(Question(video, asked.queries, asked_once=asked_once))
        try:
            return await answer_unless_gone(request, future, timeout_s=limit_s - (time.monotonic() - began))
        except ANSWERED_AS_WRONG as error:
            raise wrong(session.shown(str(error))) from error


def _windowed(path: str, asked: ChatRequest, session: Session) -> VideoWindow:
    try:
        return VideoWindow(path, start_s=asked.start_s, end_s=asked.end_s)
    except ANSWERED_AS_WRONG as error:
        raise wrong(session.shown(str(error))) from error


def chat_app(endpoint: ChatEndpoint, *, host: str, key: str | None) -> Guard:
    """The application that is served; arguments as `Guard` takes them."""
    # Pages of its documentation would fetch scripts from elsewhere.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_api_route("/v1/chat/completions", endpoint.complete, methods=["POST"])
    app.add_api_route("/v1/models", endpoint.models, methods=["GET"])
    app.add_api_route("/v1/models/{name:path}", endpoint.model, methods=["GET"])
    app.add_api_route("/health", endpoint.health, methods=["GET"])

    @app.exception_handler(Refused)
    async def refuse(_request: Request, refused: Refused) -> JSONResponse:
        headers = {"Retry-After": "1"} if refused.status == 429 else None
        return JSONResponse(error_document(refused), status_code=refused.status, headers=headers)

    @app.exception_handler(HTTPException)
    async def refuse_page(_request: Request, error: HTTPException) -> JSONResponse:
        refused = Refused(str(error.detail), status=error.status_code, code="not_found")
        return JSONResponse(error_document(refused), status_code=error.status_code, headers=error.headers)

    @app.exception_handler(Exception)
    async def own_fault(_request: Request, error: Exception) -> JSONResponse:
        # The traceback is in the server's log; it may name files that are no client's business.
        refused = Refused(f"a fault of the server ({type(error).__name__})", status=500, code="server_error")
        return JSONResponse(error_document(refused), status_code=500)

    # A base64 body is a third longer than its video.
    most = endpoint.worker.limits.upload_bytes * 4 // 3 + 2**20
    return Guard(app, host=host, key=key, max_body_bytes=most)
