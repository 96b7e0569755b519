"""What the rows' page asks: `/rows`, the page; `/rows/…`, rows a page at a time, their clips, edits, saving."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel

from vtg.annotations.row_checks import KEYS
from vtg.app.rows.clip_frames import ClipFrames, clip_frames
from vtg.app.rows.row_filter import RowFilter
from vtg.app.rows.row_store import Looked, RowStore, StaleEdit
from vtg.app.rows.row_text import source_of, spans_in, text_of
from vtg.errors import SampleError

PAGE = Path(__file__).parent / "page"
MEDIA_TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript"}

# Rows of one answer: a page shows some fifty, and no more than a screen can.
MOST_ROWS = 200


class Edit(BaseModel):
    """`action`: set (`values`), text (`text`), new, delete, undo or redo; `key`: the row; `revision`: as last read."""

    action: str
    revision: int
    key: int = -1
    values: dict[str, Any] = {}
    text: str = ""


class Saving(BaseModel):
    """`keeps_bad`: rows with errors stay among the others; else they are written beside them."""

    revision: int
    keeps_bad: bool = False


def asked(
    text: str = "",
    finding: str = "",
    source: str = "",
    min_iou: float | None = None,
    max_iou: float | None = None,
) -> RowFilter:
    """The filter of a query string."""
    return RowFilter(text=text, finding=finding, source=source, min_iou=min_iou, max_iou=max_iou)


Asked = Annotated[RowFilter, Depends(asked)]


def rows_router(store: RowStore, *, address_of: Callable[[str], str]) -> APIRouter:
    """`address_of`: where the page gets the video file at a path."""
    router = APIRouter(prefix="/rows")
    files = {path.name: path for path in PAGE.iterdir()}
    views = _Views(store, address_of)

    @router.get("")
    def page() -> FileResponse:
        return FileResponse(files["rows.html"], media_type=MEDIA_TYPES[".html"])

    @router.get("/page/{name}")
    def page_file(name: str) -> Response:
        if name not in files:
            return _refused(f"no file {name}", 404)
        return FileResponse(files[name], media_type=MEDIA_TYPES[files[name].suffix])

    @router.get("/state")
    def state() -> dict[str, Any]:
        return views.state() | {"kinds": store.kinds(), "sources": store.sources()}

    @router.get("/list")
    def rows(
        asks: Asked,
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 50,
        around: int | None = None,
    ) -> dict[str, Any]:
        total, offset, found = store.page(asks, offset=offset, limit=limit, around=around)
        return {"total": total, "offset": offset, "rows": [views.brief(one) for one in found], **views.state()}

    @router.get("/row/{key}")
    def row(key: int) -> dict[str, Any]:
        return views.whole(key)

    @router.get("/numbered/{number}")
    def numbered(number: int) -> dict[str, Any]:
        _, _, found = store.page(RowFilter(), offset=max(0, number - 1), limit=1)
        if number < 1 or not found:
            raise SampleError(f"there is no row {number}; they are 1 to {len(store.rows)}")
        return views.whole(found[0].row.key)

    @router.get("/row/{key}/step")
    def step(key: int, asks: Asked, by: int = 1) -> dict[str, Any]:
        found = store.step(asks, key, by)
        return {"key": None} if found is None else views.whole(found.row.key)

    @router.get("/row/{key}/clip")
    def clip(key: int) -> dict[str, Any]:
        return views.clip(key)

    @router.get("/row/{key}/strip")
    def strip(key: int) -> Response:
        return Response(views.frames(key).strip(), media_type="image/webp")

    @router.post("/edit")
    def edit(asks: Edit) -> Response:
        return _answered(lambda: views.whole(views.edited(asks)))

    @router.post("/save")
    def save(asks: Saving) -> Response:
        def saved() -> dict[str, Any]:
            counts = store.save(keeps_bad=asks.keeps_bad, revision=asks.revision)
            return counts | {"rejects": str(store.files.rejects), **views.state()}

        return _answered(saved)

    return router


def _answered(change: Callable[[], dict[str, Any]]) -> Response:
    """What a change gives; or, in words, why it was refused."""
    try:
        return JSONResponse(change())
    except StaleEdit as error:
        return _refused(str(error), 409)
    except OSError as error:
        return _refused(f"nothing was changed: {error}; make room, or give this process the right to write there", 507)


def _refused(text: str, status: int) -> JSONResponse:
    return JSONResponse({"error": {"message": text}}, status_code=status)


class _Views:
    """Rows as JSON for the page."""

    def __init__(self, store: RowStore, address_of: Callable[[str], str]) -> None:
        self._store, self._address_of = store, address_of

    def state(self) -> dict[str, Any]:
        store = self._store
        return {
            "name": store.name,
            "out": str(store.files.out),
            "total_rows": len(store.rows),
            "open_rows": store.open_count(),
            "revision": store.rows.revision,
            "is_saved": store.is_saved,
            "can_undo": store.rows.can_undo,
            "can_redo": store.rows.can_redo,
            "predictions": store.proposals.path,
            "faults": store.faults,
        }

    def brief(self, looked: Looked) -> dict[str, Any]:
        row, value = looked.row, looked.value or {}
        problems = self._store.problems(row)
        return {
            "key": row.key,
            "number": looked.number,
            "video": text_of(value, "video"),
            "sentence": text_of(value, "sentence"),
            "spans": spans_in(value),
            "has_moments": value.get("timestamp") is not None,
            "iou": looked.iou,
            "severity": min((problem.severity for problem in problems), default=""),  # "error" before "warning"
            "is_open": self._store.is_open(row),
            "is_edited": self._store.rows.is_edited(row),
        }

    def whole(self, key: int) -> dict[str, Any]:
        """A row with all that is said of it; the state alone where there is no such row."""
        if key not in self._store.rows:
            return {"key": None, "state": self.state()}
        looked = self._store.looked(key)
        value = looked.value or {}
        proposals = self._store.proposed(value) if looked.value is not None else []
        return self.brief(looked) | {
            "place": looked.row.place,
            "source": source_of(value, ""),
            "text": looked.row.raw.decode(errors="backslashreplace").strip(),
            "is_object": looked.value is not None,
            "values": {name: value[name] for name in KEYS if name in value},
            "problems": [
                {"field": one.field, "message": one.message, "severity": one.severity, "kind": one.kind}
                for one in self._store.problems(looked.row)
            ],
            "proposals": [{"spans": one.spans, "sentence": one.sentence, "place": one.place} for one in proposals],
            "state": self.state(),
        }

    def frames(self, key: int) -> ClipFrames:
        """Raises SampleError where the clip of a row cannot be shown."""
        if key not in self._store.rows:
            raise SampleError(f"row {key} is not there any more; load the page again")
        value = self._store.looked(key).value
        if value is None:
            raise SampleError("this row is no JSON object: nothing tells its video; mend its text")
        try:
            self._store.check_shown(value)
            return clip_frames(value, self._store.video_dir)
        except (OSError, TimeoutError) as error:
            raise SampleError(f"the video of this row cannot be read: {error}") from None

    def clip(self, key: int) -> dict[str, Any]:
        frames = self.frames(key)
        return {
            "video": self._address_of(frames.path),
            "offset_s": frames.start_s,
            "duration_s": frames.duration_s,
            "times_s": frames.times_s.tolist(),
            "fault": frames.fault,
            "strip": {
                **frames.strip_form,
                "picture": f"/rows/row/{key}/strip?of={frames.start_s:.6f}+{frames.duration_s}",
            },
        }

    def edited(self, asks: Edit) -> int:
        """Does what is asked; returns the key of the row to look at then. Raises as `RowStore.edit`."""
        store, revision, key = self._store, asks.revision, asks.key
        match asks.action:
            case "set":
                return store.set_values(key, self._with_duration(key, asks.values), revision=revision)
            case "text":
                return store.set_text(key, asks.text, revision=revision)
            case "new":
                return store.insert(key, revision=revision)
            case "delete":
                return store.edit({"delete": key}, revision=revision)
            case "undo" | "redo":
                return store.edit({asks.action: 1}, revision=revision)
        raise SampleError(f"action {asks.action!r}: must be set, text, new, delete, undo or redo")

    def _with_duration(self, key: int, values: dict[str, Any]) -> dict[str, Any]:
        """The values, and the duration that the clip has where the row has none and its video can be read."""
        looked = self._store.looked(key) if key in self._store.rows else None
        if looked is None or looked.value is None or looked.value.get("duration") is not None or "duration" in values:
            return values
        try:
            return values | {"duration": self.frames(key).duration_s}
        except SampleError:
            return values  # the row says so as long as nobody mends it
