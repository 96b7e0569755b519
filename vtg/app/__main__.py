"""A page in the browser: ask runs or checkpoints when something happens in a video, see the moment and play it.

    python -m vtg.app outputs/sft_tiny_demo
    python -m vtg.app outputs/sft_a outputs/sft_b settings.video.fps=1
    python -m vtg.app
    python -m vtg.app --rows train.jsonl --video-dir videos

Drop a video or pick one of the run's, type queries, and see every model's moments on a timeline over the frames that it
saw; a moment is played in a loop when it is clicked. A run is asked beside the model that it was trained from. Without
an argument the tiny model that comes with vtg is asked about synthetic videos. The page is there at once; weights are
loaded meanwhile. What is dropped on it lies in a folder of its own, which is removed when the server ends; no other
file of this machine can be asked for, but the videos of a run's rows and those in folders that --allow-dir names.

With --rows or --annotate rows are looked through, corrected and written, on a page of their own.

Exit code 0: ended; 2: wrong usage; 130: Ctrl-C.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from vtg.console import print_any_text
from vtg.errors import ConfigError

if TYPE_CHECKING:
    from fastapi import APIRouter

    from vtg.app.lanes import Lanes
    from vtg.app.media import Media
    from vtg.serving.limits import Limits

PORT = 7860

# What a checkout or a wheel has, to be asked where nothing else is named.
EMBEDDED = "tiny"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves the page until Ctrl-C; returns the exit code."""
    print_any_text()
    options = _parser().parse_args(arguments)
    try:
        return _serve(options)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _serve(options: argparse.Namespace) -> int:
    # Late: --help and wrong options must not wait for these.
    from vtg.serving.server_options import check_installed, key_of, limits_of

    check_installed()
    from vtg.app.application import create_app
    from vtg.app.media import Media, media_router
    from vtg.app.rows.rows_options import rows_of
    from vtg.app.rows.rows_router import rows_router
    from vtg.app.shelf import Shelf
    from vtg.logs import start_logging
    from vtg.serving.request_guard import Guard
    from vtg.serving.web_server import bind, serve, url_of

    start_logging()
    limits, key, shelf = limits_of(options), key_of(options), Shelf()
    with ExitStack() as stack:
        rows = rows_of(options)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vtg-app-")))
        media = Media(shelf, folder / "clips")
        routers, pages, starts = [media_router(media)], {}, []
        if options.checkpoints or rows is None:
            lanes, more = _asking(options, limits, stack, media, folder)
            routers, pages, starts = [*routers, *more], {"Ask": "/"}, [lanes.start]
        if rows is not None:
            stack.callback(rows.close)
            routers.append(rows_router(rows, address_of=lambda path: f"/videos/{shelf.put(path).key}/file"))
            pages["Rows"] = "/rows"
        bound = bind(options.host, options.port)
        stack.callback(bound.close)
        app = create_app(*routers, pages=pages)
        guarded = Guard(app, host=options.host, key=key, max_body_bytes=limits.upload_bytes, asks_password=True)

        def started() -> None:
            loading = "; weights are loaded meanwhile" if starts else ""
            if rows is not None:
                print(rows)
            print(f"{url_of(bound)} (Ctrl-C ends it{loading})", flush=True)
            for start in starts:
                start()

        return serve(guarded, bound, on_start=started)


def _asking(
    options: argparse.Namespace, limits: "Limits", stack: ExitStack, media: "Media", folder: Path
) -> tuple["Lanes", list["APIRouter"]]:
    """The models that are asked, not loaded yet, and the routers of the page that asks them."""
    from vtg.app.ask_routes import ask_router
    from vtg.app.examples import find_examples
    from vtg.app.lanes import Lanes, lane_settings
    from vtg.app.upload_routes import Uploads, upload_router
    from vtg.serving.admission import Admission

    checkpoints, overrides = _parted(options.checkpoints)
    settings = lane_settings(checkpoints, base=options.base, overrides=overrides)
    may_open = {"allow_dirs": options.allow_dir, "allow_urls": options.allow_urls}
    admission = stack.enter_context(Admission(limits, **may_open, private_hosts=options.allow_private))
    lanes = stack.enter_context(Lanes(settings, limits=limits))
    finding = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="vtg examples"))
    examples = finding.submit(find_examples, [Path(one) for one in checkpoints], media.shelf, folder / "demo")
    return lanes, [
        ask_router(lanes, media.shelf, admission, examples),
        upload_router(Uploads(admission, media.shelf), media),
    ]


def _parted(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """(checkpoints, settings): `key=value` is a setting, unless it is a folder, as the runs of a sweep are named."""
    settings = [word for word in words if "=" in word and not os.path.exists(word)]
    return [word for word in words if word not in settings] or [EMBEDDED], settings


def _parser() -> argparse.ArgumentParser:
    from vtg.app.rows.rows_options import add_rows_options
    from vtg.serving.server_options import add_server_options

    title, _, details = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m vtg.app",
        description=title,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "checkpoints",
        nargs="*",
        metavar="RUN|CHECKPOINT|KEY=VALUE",
        help="run directories, checkpoint or model folders, names on the hub; and settings of python -m vtg.predict, "
        "for all of them (default: the tiny model that comes with vtg)",
    )
    parser.add_argument("--no-base", dest="base", action="store_false", help="ask runs alone, not their bases")
    add_rows_options(parser)
    add_server_options(parser, port=PORT)
    return parser


if __name__ == "__main__":
    sys.exit(main())
