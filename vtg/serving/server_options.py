"""The options that all servers of vtg have."""

import argparse
import importlib.util
import logging
import os

from vtg.errors import ConfigError
from vtg.serving.limits import MB, Limits
from vtg.serving.request_guard import LOOPBACK

log = logging.getLogger(__name__)

KEY = "VTG_API_KEY"
"""Environment variable of the key, which the list of processes does not show."""

DEFAULTS = Limits()


def add_server_options(parser: argparse.ArgumentParser, *, port: int) -> None:
    """Adds what `limits_of` and `key_of` read, and --host, --port, --allow-dir, --allow-urls and --allow-private."""
    add = parser.add_argument
    add("--host", default=LOOPBACK[0], metavar="ADDRESS", help="where it can be reached from (default: this machine)")
    add("--port", type=int, default=port, metavar="N", help=f"0: a free one (default: {port})")
    add("--api-key", metavar="KEY", help=f"what clients must show; ${KEY} sets it unseen (default: none)")
    add(
        "--allow-dir",
        action="append",
        default=[],
        metavar="FOLDER",
        help="clients may name files in it; may be given several times (default: none)",
    )
    add("--allow-urls", action="store_true", help="clients may name http(s) addresses of public hosts")
    add(
        "--allow-private",
        action="append",
        default=[],
        metavar="HOST",
        help="clients may name http(s) addresses of this host, though it lies in a private network",
    )
    mb = DEFAULTS.upload_bytes // MB
    add("--max-upload-mb", type=float, default=mb, metavar="MB", help=f"of one video (default: {mb})")
    add(
        "--max-video-s",
        type=float,
        default=DEFAULTS.video_s,
        metavar="S",
        help=f"seconds of one clip (default: {DEFAULTS.video_s:g})",
    )
    add(
        "--max-queries",
        type=int,
        default=DEFAULTS.queries,
        metavar="N",
        help=f"about one video at once (default: {DEFAULTS.queries})",
    )
    add(
        "--max-waiting",
        type=int,
        default=DEFAULTS.waiting,
        metavar="N",
        help=f"requests at once; further ones are told to come again (default: {DEFAULTS.waiting})",
    )
    add(
        "--timeout-s",
        type=float,
        default=DEFAULTS.timeout_s,
        metavar="S",
        help=f"for one answer (default: {DEFAULTS.timeout_s:g})",
    )


def check_installed() -> None:
    """Raises ConfigError where a server's packages are not there."""
    if missing := [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]:
        raise ConfigError(f"servers need {' and '.join(missing)}: pip install 'vtg[app]'")


def limits_of(options: argparse.Namespace) -> Limits:
    """Raises ConfigError for a limit that is none."""
    for name in ("max_upload_mb", "max_video_s", "max_queries", "max_waiting", "timeout_s"):
        if not getattr(options, name) > 0:
            raise ConfigError(f"--{name.replace('_', '-')} {getattr(options, name)}: must be above 0")
    upload_bytes = int(options.max_upload_mb * MB)
    return Limits(
        upload_bytes=upload_bytes,
        kept_bytes=max(DEFAULTS.kept_bytes, 2 * upload_bytes),
        video_s=options.max_video_s,
        queries=options.max_queries,
        waiting=options.max_waiting,
        timeout_s=options.timeout_s,
    )


def key_of(options: argparse.Namespace) -> str | None:
    """What clients must show. Warns where anyone can ask. Raises ConfigError for an empty one."""
    key = os.environ.get(KEY) if options.api_key is None else options.api_key
    if key is not None and not key.strip():
        raise ConfigError(f"--api-key (or ${KEY}) is empty: leave it out, or give a text without blanks around it")
    if key is None and options.host not in LOOPBACK:
        log.warning("--host %s without --api-key: whoever reaches this machine can ask", options.host)
    return key
