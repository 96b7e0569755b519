"""Serves a checkpoint by OpenAI's chat protocol: a video and a sentence in, its moments out.

    python -m vtg.serve CHECKPOINT [--port N] [--allow-dir FOLDER] [settings.video.fps=1 ...]

CHECKPOINT is a run directory (its best/), a checkpoint or model folder, a name on the hub, or tiny. Further words are
settings of `python -m vtg.predict`. Clients POST to /v1/chat/completions one user message with a video (a data: URL; a
file under --allow-dir; an address with --allow-urls; or frames with their times) and the sentence to look for, around
which the model's own prompt is made. The answer has the text, and the moments in seconds in `message.vtg`.
Requests that come at once are answered together. /health says whether it answers.

Exit code 0: stopped by SIGTERM. 1: the model cannot be loaded. 2: wrong usage. 130: stopped by Ctrl-C.
"""

import argparse
import logging
import sys

from vtg.console import stdout_may_close
from vtg.entry import loading
from vtg.errors import ConfigError, RunError
from vtg.evaluation.ask_settings import ask_settings
from vtg.serving.admission import Admission
from vtg.serving.server_options import add_server_options, check_installed, key_of, limits_of

log = logging.getLogger("vtg.serve")  # __name__ is __main__ under python -m

PORT = 8000


def main(argv: list[str] | None = None) -> int:
    """Parses, loads, serves; returns the exit code."""
    options = _parser().parse_intermixed_args(argv)
    try:
        return _serve(options)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _serve(options: argparse.Namespace) -> int:
    check_installed()
    limits, key = limits_of(options), key_of(options)
    # Decoded in a child process: a file that crashes its decoder costs its sender an answer, and nobody the server.
    own = ("settings.video.isolate=true", f"settings.video.timeout_s={limits.timeout_s:g}")
    asked = ask_settings(options.checkpoint, [*own, *options.settings])
    admission = Admission(
        limits, allow_dirs=options.allow_dir, allow_urls=options.allow_urls, private_hosts=options.allow_private
    )
    from vtg.serving.web_server import bind, serve, url_of

    name = options.model_name or options.checkpoint
    with bind(options.host, options.port) as bound:
        with loading("torch and transformers"):
            from vtg.logs import start_logging
            from vtg.serve.chat_app import ChatEndpoint, chat_app
            from vtg.serving.model_worker import ModelWorker

        start_logging()
        for line in asked.differences:
            log.warning("%s: answers may be worse than the checkpoint can give", line)

        def tell() -> None:
            with stdout_may_close():
                print(f"{url_of(bound)}/v1 answers for {name} (Ctrl-C stops it)")

        with ModelWorker(asked, limits=limits, device=options.device) as worker, admission:
            endpoint = ChatEndpoint(worker, admission, name=name, room=asked.max_new_tokens)
            return serve(chat_app(endpoint, host=options.host, key=key), bound, on_start=tell)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vtg.serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="of python -m vtg.predict")
    parser.add_argument("--model-name", metavar="NAME", help="what clients call it (default: CHECKPOINT)")
    parser.add_argument("--device", metavar="DEVICE", help="cpu, cuda, cuda:1 (default: the GPU where there is one)")
    add_server_options(parser, port=PORT)
    return parser


if __name__ == "__main__":
    sys.exit(main())
