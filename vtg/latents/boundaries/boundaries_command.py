"""Finds where events begin and end in videos: where a predictor of an encoder's latents is most wrong.

    python -m vtg.latents boundaries VIDEO|FOLDER|ROWS.jsonl ... --run outputs/latents_... [-o SPANS.jsonl]
    python -m vtg.latents boundaries VIDEO [encoder=vjepa2 clips.seconds=4 future.context_s=2 ...]

With --run (a run directory of train_latents.py) each latent is predicted from those just before it, and boundaries are
the peaks of the error. Without, nothing is trained: the error is the change since the last latent, of the encoder that
is named by settings of train_latents.py; the default one is the tiny model's, which knows synthetic videos only.
SPANS.jsonl has an annotation row for each span between two boundaries, with a placeholder for a sentence and the scores
at both ends: `vtg.annotate --spans SPANS.jsonl` asks a model what happens in each, and spans of one video are what a
moment is to be told from. Of ROWS.jsonl each video is read once; where its rows have moments, the share of their ends
that a boundary is near to is printed beside that of as many uniform cuts.

Exit code 0: all were read. 1: some failed, which are listed. 2: wrong usage. 130: interrupted; what was read by then is
written.
"""

import argparse
import json
import math
import os
import sys
from typing import TYPE_CHECKING

from vtg.config.latent_rules import check_latents
from vtg.config.latents_schema import LatentsConfig
from vtg.console import stdout_may_close
from vtg.entry import compose_settings, loading
from vtg.errors import ConfigError, RunError
from vtg.latents.command_line import check_settings, exit_code, without_settings
from vtg.latents.video_sources import sources_of
from vtg.storage.json_files import json_text, write_jsonl

if TYPE_CHECKING:
    from vtg.latents.boundaries.surprise import SurpriseReader

# Chosen on training videos of the gym (benchmarks/boundaries.py): the mean error itself, and boundaries no nearer than
# two latents of a quarter of a second.
THRESHOLD, MIN_GAP_S = 1.0, 0.25

# Without a run: fine enough to place a boundary within half a second, where the default clip of training is coarser.
CLIPS = ("clips.n_frames=24", "clips.seconds=3", "future.context_s=2")

# Settings that this command reads: others of train_latents.py would change nothing. The whole of a video is read, so
# where clips begin is not to be chosen.
READ, NOT_READ = ("encoder", "clips", "future.context_s"), ("clips.start", "clips.cache_dir", "clips.cache_gb")

SCORES = "boundary_scores"
"""A key of every row that is written, by which such a file is known."""


def main(argv: list[str] | None = None) -> int:
    """Parses, reads, prints; returns the exit code."""
    options = _options(argv)
    try:
        _check(options)
        sources, faults = sources_of(options.sources, video_dir=options.video_dir)
        reader = _reader(options)
    except (ConfigError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    from vtg.latents.boundaries.boundary_run import BoundaryRun

    run = BoundaryRun(sources, threshold=options.threshold, min_gap_s=options.min_gap_s)
    run.failed += faults
    run.read(reader)
    lines = run.lines()
    if options.output is not None:
        try:
            write_jsonl(options.output, run.rows())
        except OSError as error:
            print(f"error: {error}; check the path and its permissions", file=sys.stderr)
            return 1
        lines.append(f"{options.output}: {len(run.rows())} spans")
    with stdout_may_close():
        print(json_text(run.document()) if options.json else "\n".join(lines))
    return exit_code(run.failed, interrupted=run.interrupted)


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m vtg.latents boundaries",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("words", nargs="+", metavar="VIDEO|FOLDER|ROWS|KEY=VALUE", help="what to read; settings of train_latents.py")
    add("--run", metavar="RUN", help="a run directory of train_latents.py, its best/ or a checkpoint (default: none)")
    add("-o", "--output", metavar="SPANS.jsonl", help="the spans between boundaries, as annotation rows")
    add("--video-dir", metavar="D", help="folder of the videos that rows name")
    add(
        "--threshold",
        type=float,
        default=THRESHOLD,
        metavar="X",
        help=f"a boundary's error, over the video's mean error, is above it (default: {THRESHOLD:g})",
    )
    add(
        "--min-gap-s",
        type=float,
        default=MIN_GAP_S,
        metavar="S",
        help=f"of boundaries nearer than this the higher is kept (default: {MIN_GAP_S:g})",
    )
    add("--json", action="store_true", help="one JSON document on stdout, with the score of each boundary")
    options = parser.parse_intermixed_args(argv)
    options.sources, options.overrides = without_settings(options.words)
    return options


def _check(options: argparse.Namespace) -> None:
    """Raises ConfigError for what cannot be, before anything is read."""
    if not options.sources:
        raise ConfigError("of what? Give a video, a folder of videos, or a file of annotation rows")
    for name in ("threshold", "min_gap_s"):
        value = getattr(options, name)
        if not (math.isfinite(value) and value >= 0):
            raise ConfigError(f"--{name.replace('_', '-')} {value}: must be at least 0")
    if options.run is not None and options.overrides:
        raise ConfigError(f"{options.overrides[0]}: a run has settings of its own; leave it out beside --run")
    check_settings(options.overrides, read=READ, but=NOT_READ)
    out: str | None = options.output
    if out is None:
        return
    if not out.endswith(".jsonl"):
        raise ConfigError(f"-o {out}: the name must end in .jsonl")
    if os.path.exists(out) and not _is_of_spans(out):
        raise ConfigError(f"-o {out} is there and holds no spans of this command; name another file")


def _is_of_spans(path: str) -> bool:
    """Whether this command has written a file; an empty one is of videos without any frame to predict."""
    if not os.path.isfile(path):
        return False
    with open(path, encoding="utf-8", errors="replace") as file:
        first = file.readline()
    try:
        return not first or SCORES in json.loads(first)
    except (ValueError, TypeError):
        return False


def _reader(options: argparse.Namespace) -> "SurpriseReader":
    """Raises ConfigError for a run, an encoder or settings that cannot be."""
    run: str | None = options.run
    settings = None
    if run is None:
        settings = compose_settings("latents", [*CLIPS, *options.overrides], LatentsConfig)
        check_latents(settings)
    with loading("torch and transformers"):
        from vtg.latents.boundaries.surprise import SurpriseReader
        from vtg.latents.clip_reading import ClipReader
        from vtg.latents.encoders import load_encoder
        from vtg.latents.latent_run import load_latent_run
        from vtg.logs import start_logging

    start_logging()
    if run is not None:
        encoder, predictor, reader, trained = load_latent_run(run)
        return SurpriseReader(encoder, reader, context_s=trained.future.context_s, predictor=predictor)
    assert settings is not None
    encoder = load_encoder(settings.encoder)
    reader = ClipReader(settings.clips, frame_size_px=encoder.frame_size_px)
    return SurpriseReader(encoder, reader, context_s=settings.future.context_s)
