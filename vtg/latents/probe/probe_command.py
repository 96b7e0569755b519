"""Grounds test rows by frozen latents alone: cheap references to read a model's scores by.

    python -m vtg.latents probe RUN                     (the rows that a run of train_sft.py or train_rl.py has)
    python -m vtg.latents probe --train TRAIN.jsonl --test TEST.jsonl [--video-dir D] [-o probe.json]
        [encoder=vjepa2 clips.seconds=4 clips.cache_dir=outputs/latents ...]

linear_probe is a ridge regression of whether a latent lies in the moment, on products of the query's words and the
latent; nearest_moment compares latents to the moments of the training rows with the most similar words. Beside them
stand the whole video and the best constant share of it, which look at nothing. Of RUN probe.json is written into it,
and `vtg.report` shows its scores beside the model's. The encoder is named by settings of train_latents.py; the default
one is the tiny model's tower, which knows synthetic videos only.

Exit code 0: done. 1: too few rows could be read. 2: wrong usage, or a file that is not there. 130: interrupted.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from vtg.config.clip_settings import check_clips
from vtg.config.latents_schema import LatentsConfig
from vtg.console import aligned, stdout_may_close
from vtg.entry import compose_settings, loading
from vtg.errors import ConfigError, RunError
from vtg.latents.command_line import check_settings, without_settings
from vtg.storage.atomic import holds_something_else, write_text
from vtg.storage.json_files import json_text

# Latents are read of whole videos, clip after clip.
READ, NOT_READ = ("encoder", "clips"), ("clips.start",)

# Finer than training's default, as a moment of the gym may last a second and a half.
CLIPS = ("clips.n_frames=16", "clips.seconds=4")

FILE = "probe.json"
REPORT_SIGNATURE = b'{"report": "vtg.latents probe"'


def main(argv: list[str] | None = None) -> int:
    """Parses, fits, prints; returns the exit code."""
    options = _options(argv)
    try:
        _fill_in(options)
        settings = compose_settings("latents", [*CLIPS, *options.overrides], LatentsConfig)
        check_clips(settings.clips)
        with loading("torch and transformers"):
            from vtg.latents.probe.probe_run import probed
            from vtg.logs import start_logging

        start_logging()
        document = probed(settings, train=options.train, test=options.test, video_dir=options.video_dir)
        if options.output is not None:
            write_text(options.output, json_text(document) + "\n")
    except KeyboardInterrupt:
        return 130
    except (ConfigError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except OSError as error:
        print(f"error: {error}; check the path and its permissions", file=sys.stderr)
        return 2
    for why in document["left_out"]:
        print(f"left out: {why}", file=sys.stderr)
    with stdout_may_close():
        print(json_text(document) if options.json else "\n".join(_lines(document, options.output)))
    return 0


def _lines(document: dict[str, Any], output: str | None) -> list[str]:
    columns: dict[str, dict[str, float]] = document["columns"]
    names = list(next(iter(columns.values())))
    head = ["", *(name.replace("_", " ") for name in columns)]
    cells = [[name, *(f"{column[name]:.1f}" for column in columns.values())] for name in names]
    said = f"{document['train_rows']} rows of training, {document['test_rows']} of test, shares in percent"
    return [*aligned([head, *cells]), said, *([] if output is None else [f"{output}: written"])]


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m vtg.latents probe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("words", nargs="*", metavar="RUN|KEY=VALUE", help="a run directory; settings of train_latents.py")
    add("--train", metavar="ROWS", help="annotation rows that probes are fitted to")
    add("--test", metavar="ROWS", help="those that are asked")
    add("--video-dir", metavar="D", help="folder of the videos that rows name")
    add("-o", "--output", metavar="FILE.json", help=f"the scores (default: {FILE} in RUN)")
    add("--json", action="store_true", help="one JSON document on stdout")
    options = parser.parse_intermixed_args(argv)
    options.runs, options.overrides = without_settings(options.words)
    return options


def _fill_in(options: argparse.Namespace) -> None:
    """Files of a run where one is named. Raises ConfigError for what cannot be, before anything is read."""
    given = [name for name in ("train", "test") if getattr(options, name) is not None]
    if len(options.runs) > 1:
        raise ConfigError(f"{options.runs[1]}: a second run; give one at a time")
    if options.runs and given:
        raise ConfigError(f"--{given[0]} beside a run: a run has rows of its own; give one of both")
    if options.runs:
        _fill_in_run(options, Path(options.runs[0]))
    elif len(given) < 2:
        raise ConfigError("of which rows? Give a run directory, or --train ROWS and --test ROWS")
    check_settings(options.overrides, read=READ, but=NOT_READ)
    out = options.output
    if out is not None and holds_something_else(out, REPORT_SIGNATURE):
        raise ConfigError(f"-o {out} is there and is no report of vtg.latents probe; name another file")


def _fill_in_run(options: argparse.Namespace, run: Path) -> None:
    try:
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        data = config["data"]
        options.train, options.test = data["annotation_file"], data["test_file"] or data["val_file"]
        options.video_dir = options.video_dir or data["video_dir"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ConfigError(f"{run}: no run directory with a config.yaml that names its rows ({error})") from None
    if options.train is None or options.test is None:
        raise ConfigError(f"{run}/config.yaml: names no rows of training or of test; give --train and --test")
    options.output = options.output or str(run / FILE)
