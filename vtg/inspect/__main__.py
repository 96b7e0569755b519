"""Shows what is in a video or in an annotation file.

    python -m vtg.inspect VIDEO [video.KEY=VALUE ...] [--fps F] [--max-frames N] [--sampling NAME] [--sheet OUT.png]
    python -m vtg.inspect ROWS.jsonl [--video-dir D]
    python -m vtg.inspect VIDEO-OR-FOLDER --decoders
    python -m vtg.inspect --index ROWS.jsonl [--video-dir D] [-o INDEX]

A video: what its container says, the true time of every frame, and what sampling would take: as training does by
default (conf/video/default.yaml), or with the overrides of train_sft.py that are given (`video.fps=4`, `video=tiny`,
`experiment=gpu_8gb`). The frames that sampling takes are decoded (`--no-decode` leaves that out), and shown with their
times in a picture (`--sheet`). An annotation file: rows, columns, types, durations, spans, rows a video. `--decoders`:
which decoder gives exact frames and times of each file, and which refuses it, and why. `--index`: opens every video of
an annotation file once and keeps its duration, size and rate in ROWS.jsonl.videos.parquet, so that training on many
videos plans its batches without opening any; run it again to go on after a stop, or when videos have changed. VIDEO may
lie in a tar file (`shard.tar::a.mp4`) or in a store (`s3://bucket/a.mp4`), ROWS may be WebDataset shards
('shards/{000..099}.tar'). Exit code 0; 1: a file cannot be read, has broken rows, or a decoder is wrong about it; 2:
wrong usage.
"""

import argparse
import json
import math
import os
import sys
from dataclasses import replace

from vtg.annotations.formats import format_name
from vtg.annotations.sample import resolve_video
from vtg.config.rules import check_choices, check_video
from vtg.config.schema import SFTConfig
from vtg.config.video_settings import VideoConfig
from vtg.console import stdout_may_close
from vtg.entry import compose_settings
from vtg.errors import ConfigError
from vtg.inspect.annotation_report import inspect_annotations
from vtg.inspect.decoder_table import compare_decoders
from vtg.inspect.report_lines import report_lines
from vtg.inspect.video_facts import index_videos
from vtg.inspect.video_report import inspect_video
from vtg.video.files import address, video_files
from vtg.video.frame_sampling import POLICIES

ANNOTATION_ENDINGS = (".jsonl", ".json")


def main(argv: list[str] | None = None) -> int:
    """Parses, inspects, prints; returns the exit code."""
    # Intermixed, so that settings may follow options, as in `VIDEO --sheet OUT.png video.fps=4`.
    options = _parser().parse_intermixed_args(argv)
    path = options.path if _holds_rows(options.path) else resolve_video(options.path, options.video_dir)
    wrong = _wrong_usage(options)
    if wrong:
        print(f"error: {wrong}", file=sys.stderr)
        return 2
    if options.decoders:
        return compare_decoders(path, as_json=options.json)
    if options.index:
        return index_videos(options.path, options.output, video_dir=options.video_dir, as_json=options.json)
    # Files of other formats are looked for by their readers: a pattern of shards is no name of a file.
    if format_name(path) == "jsonl" and not video_files.exists(path):
        why = address.fault(path) or f"{path}: no such file; give a video or an annotation file (.jsonl, .json)"
        print(f"error: {why}", file=sys.stderr)
        return 2
    try:
        if _holds_rows(path):
            report = inspect_annotations(path, video_dir=options.video_dir)
            failed = report["broken_rows"] > 0
        else:
            config, factor = _sampling(options)
            report = inspect_video(
                path,
                config,
                factor=factor,
                temporal_patch=options.temporal_patch,
                decodes=options.decode,
                sheet=options.sheet,
            )
            failed = "error" in report
    except (ConfigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with stdout_may_close():
        if options.json:
            print(json.dumps(report, allow_nan=False))
        else:
            error = report.pop("error", None)  # what could be read is shown even so, and the error on stderr
            print("\n".join(report_lines(report)))
            if error:
                print(f"error: {error}", file=sys.stderr)
    return 1 if failed else 0


def _holds_rows(path: str) -> bool:
    """Whether it is an annotation file, rather than a video."""
    return path.lower().endswith(ANNOTATION_ENDINGS) or format_name(path) != "jsonl"


def _wrong_usage(options: argparse.Namespace) -> str | None:
    """What is wrong with the options, None if nothing is."""
    for name in ("factor", "temporal_patch"):
        # The factor has no default of its own: an override of the model may set it.
        if getattr(options, name) is not None and getattr(options, name) < 1:
            return f"--{name.replace('_', '-')} {getattr(options, name)}: must be at least 1"
    is_video = not (options.decoders or options.index or _holds_rows(options.path))
    if options.overrides and not is_video:
        return f"{options.overrides[0]}: settings say how a video is sampled; leave them out, or give one video"
    not_a_setting = next((word for word in options.overrides if "=" not in word), None)
    if not_a_setting is not None:
        return f"{not_a_setting}: must be a setting, KEY=VALUE; one video or annotation file is inspected at a time"
    if options.output is not None and not options.index:
        return f"-o {options.output}: names the file of an index; add --index"
    if options.fps is not None and not math.isfinite(options.fps):
        return f"--fps {options.fps}: must be a number of frames a second, or 0 for all"
    if options.sheet is None:
        return None
    # Checked before anything is decoded: a sheet that cannot be saved would cost the wait for its frames.
    folder = os.path.dirname(options.sheet) or "."
    if options.decoders or not options.decode:
        return "--sheet shows decoded frames of one video; leave out --decoders and --no-decode"
    if os.path.splitext(options.sheet)[1].lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        return f"--sheet {options.sheet}: the name must end in .png, .jpg or .webp"
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        return f"--sheet {options.sheet}: {folder} is no folder to write to"
    return None


def _sampling(options: argparse.Namespace) -> tuple[VideoConfig, int]:
    """How training would sample the video under these options, and the pixels a side of its vision tokens.

    Raises:
        ConfigError: for overrides that cannot be.
    """
    # Without overrides the defaults of the schema are conf/video/default.yaml's: nothing needs composing.
    config, factor = VideoConfig(), 32
    if options.overrides:
        names_video = any(word.startswith("video=") for word in options.overrides)
        own = [] if names_video else ["video=default"]  # rather than what the tiny model brings
        training = compose_settings("sft", [*own, *options.overrides], SFTConfig)
        config, factor = training.video, training.model.patch_factor
    given = {"fps": options.fps, "max_frames": options.max_frames, "sampling": options.sampling}
    config = replace(config, **{key: value for key, value in given.items() if value is not None})
    if options.max_frames is not None:
        # A user who asks for few frames means it; min_frames is a default that would refuse them.
        config.min_frames = min(config.min_frames, config.max_frames)
    check_choices(config, "video.")
    check_video(config)
    return config, factor if options.factor is None else options.factor


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vtg.inspect", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", metavar="PATH", help="a video, or an annotation file (.jsonl, .json)")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings of train_sft.py: video.fps=4")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--video-dir", metavar="D", help="folder of the videos")
    parser.add_argument("--sampling", choices=list(POLICIES), help="sampling policy")
    parser.add_argument("--fps", type=float, metavar="F", help="frames a second to sample; 0: every frame")
    parser.add_argument("--max-frames", type=int, metavar="N", help="at most so many frames")
    parser.add_argument(
        "--factor", type=int, help="pixels a side of a vision token (default: 32, or that of model=...)"
    )
    parser.add_argument("--temporal-patch", type=int, default=2, help="frames a temporal patch (default: 2)")
    parser.add_argument("--sheet", metavar="OUT.png", help="save the sampled frames, each with its time, as a picture")
    parser.add_argument("--decoders", action="store_true", help="compare the decoders on a video or a folder of them")
    parser.add_argument("--index", action="store_true", help="keep the facts of all videos of an annotation file")
    parser.add_argument("-o", "--output", metavar="INDEX", help="file of the index (default: PATH.videos.parquet)")
    parser.add_argument("--no-decode", dest="decode", action="store_false", help="do not decode the sampled frames")
    return parser


if __name__ == "__main__":
    sys.exit(main())
