"""Videos that are dropped on the page: kept in a folder of the server's own, the oldest removed first."""

from collections import OrderedDict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from vtg.app.media import Media
from vtg.app.shelf import Shelf, ShelvedVideo
from vtg.errors import SampleError
from vtg.serving.admission import Admission, Session

# Of all visitors together; the one that came first goes first.
MOST_KEPT = 50


class NamedVideo(BaseModel):
    """A path in an allowed folder, or an address where these are allowed."""

    url: str


class Uploads:
    """The dropped videos, each in a session of its own. Used by one thread alone, that of the event loop."""

    def __init__(self, admission: Admission, shelf: Shelf) -> None:
        self.admission, self.shelf = admission, shelf
        self._kept: OrderedDict[str, Session] = OrderedDict()

    def keep(self, video: ShelvedVideo, session: Session) -> None:
        """Keeps a video until it is removed, or enough others have come."""
        if before := self._kept.pop(video.key, None):
            before.close()
        self._kept[video.key] = session
        while len(self._kept) > MOST_KEPT:
            self.remove(next(iter(self._kept)))

    def remove(self, key: str) -> None:
        """Removes a dropped video and its file. Raises SampleError for any other video."""
        if key not in self._kept:
            raise SampleError(f"video {key}: was not dropped here, and so is not removed")
        session = self._kept.pop(key)
        if Path(self.shelf.get(key).path).is_relative_to(session.folder):  # else it is a file of an allowed folder
            self.shelf.drop(key)
        session.close()


def upload_router(uploads: Uploads, media: Media) -> APIRouter:
    """`POST /videos?name=NAME` with the file as the body, `POST /videos/named`, and `DELETE /videos/KEY`."""
    router = APIRouter(prefix="/videos")

    @router.post("")
    async def upload(request: Request, name: str) -> dict[str, Any]:
        with ExitStack() as undone:  # of a browser that goes away nothing is left
            session = undone.enter_context(uploads.admission.session())
            with session.upload(name) as upload:
                upload.expect(int(request.headers.get("content-length") or 0))
                async for chunk in request.stream():
                    upload.write(chunk)
            undone.pop_all()
        return await kept(uploads.shelf.put(str(upload.path), name=upload.name), session)

    @router.post("/named")
    async def named(given: NamedVideo) -> dict[str, Any]:
        with ExitStack() as undone:
            session = undone.enter_context(uploads.admission.session())
            path = await run_in_threadpool(session.admit, given.url)
            undone.pop_all()
        return await kept(uploads.shelf.put(str(path), name=given.url.rpartition("/")[2][:80]), session)

    async def kept(video: ShelvedVideo, session: Session) -> dict[str, Any]:
        uploads.keep(video, session)
        try:
            return await run_in_threadpool(media.described, video.key)
        except SampleError:  # no video
            uploads.remove(video.key)
            raise

    @router.delete("/{key}")
    async def remove(key: str) -> dict[str, bool]:
        uploads.remove(key)
        return {"removed": True}

    return router
