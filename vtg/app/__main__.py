"""Opens a page in the browser on which one looks at videos and asks runs or checkpoints when something happens.

python -m vtg.app outputs/sft_tiny_demo
python -m vtg.app
"""

import argparse
import importlib.util
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from vtg.console import print_any_text

PORT = 7860


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves the page until Ctrl-C; returns the exit code."""
    print_any_text()
    options = _parser().parse_args(arguments)
    if importlib.util.find_spec("fastapi") is None or importlib.util.find_spec("uvicorn") is None:
        print("error: vtg.app needs FastAPI and uvicorn; pip install 'vtg[app]'", file=sys.stderr)
        return 2
    import uvicorn

    from vtg.app.application import create_app
    from vtg.app.media import Media, media_router
    from vtg.app.shelf import Shelf

    with tempfile.TemporaryDirectory(prefix="vtg-app-") as folder:
        media = Media(Shelf(), Path(folder) / "clips")
        uvicorn.run(create_app(media_router(media)), host=options.host, port=options.port, log_level="warning")
    return 0


def _parser() -> argparse.ArgumentParser:
    title, _, details = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m vtg.app",
        description=title,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=PORT, help=f"port to listen on (default: {PORT})")
    return parser


if __name__ == "__main__":
    sys.exit(main())
