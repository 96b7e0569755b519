"""Scores futures that are longer than a predictor was trained on: window after window, each from what was said before.

    python -m vtg.latents rollout RUN VIDEO|FOLDER|ROWS.jsonl ... [--ahead-s 12] [--draws 8]

RUN is a run directory of train_latents.py. Each video is parted into clips, one after another, of the context that the
run was trained with and --ahead-s seconds that follow; of ROWS.jsonl each video is read once. Errors are printed by
seconds ahead beside those of the baselines, which see the same context, with 95 % intervals over videos.

Exit code 0: all were read. 1: some failed, which are listed. 2: wrong usage. 130: interrupted; what was read by then is
scored.
"""

import argparse
import math
import sys
from typing import TYPE_CHECKING

from vtg.console import stdout_may_close
from vtg.entry import loading
from vtg.errors import ConfigError, RunError
from vtg.latents.command_line import exit_code
from vtg.latents.video_sources import sources_of
from vtg.storage.json_files import json_text

if TYPE_CHECKING:
    from vtg.latents.rollouts.rollout_run import RolloutRun

AHEAD_S = 12.0


def main(argv: list[str] | None = None) -> int:
    """Parses, rolls out, prints; returns the exit code."""
    options = _options(argv)
    try:
        _check(options)
        sources, faults = sources_of(options.sources, video_dir=options.video_dir)
        run = _run(options)
    except (ConfigError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    run.failed += faults
    run.read(sources)
    with stdout_may_close():
        print(json_text(run.document()) if options.json else "\n".join(run.lines()))
    return exit_code(run.failed, interrupted=run.interrupted)


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m vtg.latents rollout",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="a run directory of train_latents.py, its best/ or a checkpoint")
    add("sources", nargs="+", metavar="VIDEO|FOLDER|ROWS", help="what to read")
    add("--video-dir", metavar="D", help="folder of the videos that rows name")
    add(
        "--ahead-s",
        type=float,
        default=AHEAD_S,
        metavar="S",
        help=f"seconds behind the context to predict (default: {AHEAD_S:g})",
    )
    add(
        "--draws",
        type=int,
        default=0,
        metavar="N",
        help="of a flow: N futures of drawn windows, their mean and their crps (default: 0, windows of predictions)",
    )
    add("--json", action="store_true", help="one JSON document on stdout")
    return parser.parse_intermixed_args(argv)


def _check(options: argparse.Namespace) -> None:
    if not (math.isfinite(options.ahead_s) and options.ahead_s > 0):
        raise ConfigError(f"--ahead-s {options.ahead_s}: must be more than 0")
    if options.draws < 0:
        raise ConfigError(f"--draws {options.draws}: must be at least 0")


def _run(options: argparse.Namespace) -> "RolloutRun":
    """Raises ConfigError for a run that cannot be loaded, or that draws nothing."""
    with loading("torch and transformers"):
        from vtg.latents.latent_run import load_latent_run
        from vtg.latents.rollouts.rollout_run import RolloutRun
        from vtg.logs import start_logging

    start_logging()
    encoder, predictor, reader, trained = load_latent_run(options.run)
    if options.draws and trained.predictor.kind != "flow":
        raise ConfigError(
            f"--draws {options.draws}: {options.run} is a predictor of one future (predictor.kind = "
            f"{trained.predictor.kind}); leave it out, or give a run of predictor=flow"
        )
    future = trained.future
    return RolloutRun(
        encoder, predictor, reader, future=future, ahead_s=options.ahead_s, draws=options.draws, run=options.run
    )
