"""The web application: the page's own files, and the routers that answer it."""

from collections.abc import Mapping
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vtg.errors import ConfigError, RunError, SampleError
from vtg.serving.refusals import Refused, wrong
from vtg.serving.request_guard import error_document

PAGE = Path(__file__).parent / "page"
ONE_PAGE = {"Ask": "/"}

# Nothing of a page is fetched from elsewhere, and no other page may show this one in a frame. data: the film strips.
POLICY = "default-src 'self'; img-src 'self' data:; media-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'"


def create_app(*routers: APIRouter, pages: Mapping[str, str] = ONE_PAGE) -> FastAPI:
    """The application with the page at `/`, its files under `/page`, and `routers` for what it asks.

    `pages`: name and path of each that it has; where `/` is none of them, it leads to the first.
    A router names its own prefix (`APIRouter(prefix="/rows")`). A Refused that it raises is answered with its status,
    a SampleError, ConfigError or RunError with 400, and with `{"error": {"message": text}}`, which the page shows.
    """
    # FastAPI's own pages of documentation fetch scripts from a CDN.
    app = FastAPI(title="vtg", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(PageHeaders)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(ClientDisconnect, _unheard)
    for error in (SampleError, ConfigError, RunError):
        app.add_exception_handler(error, _told)
    app.mount("/page", StaticFiles(directory=PAGE), name="page")

    @app.get("/")
    async def index() -> Response:
        return page_file("index.html") if "/" in pages.values() else RedirectResponse(next(iter(pages.values())))

    @app.get("/pages")
    async def named_pages() -> Mapping[str, str]:
        return pages

    for router in routers:
        app.include_router(router)
    return app


def page_file(name: str, *, folder: Path = PAGE) -> FileResponse:
    """A page of `folder`."""
    return FileResponse(folder / name, media_type="text/html; charset=utf-8")


class PageHeaders:
    """Adds to every answer what keeps the page to itself. Not Starlette's, which would not hear that a browser left."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = POLICY
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                # Of a newer vtg on the same port: a browser is to ask whether its copy is still the newest.
                headers.setdefault("Cache-Control", "no-cache")
            await send(message)

        await self.app(scope, receive, headed)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)
    return JSONResponse(error_document(error), status_code=error.status)


async def _unheard(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # its browser has gone, in the middle of what it sent


async def _told(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse(error_document(wrong(str(error))), status_code=400)
