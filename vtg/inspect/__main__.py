"""Shows what is in a video, in annotations, tables and data sets.

    python -m vtg.inspect VIDEO [video.KEY=VALUE ...] [--fps F] [--max-frames N] [--sampling NAME] [--sheet OUT.png]
    python -m vtg.inspect ROWS.jsonl | TABLE.parquet | FOLDER | NAME [--video-dir D] [--num-samples N]
    python -m vtg.inspect ... [--sheet OUT.png] [--html PAGE.html]
    python -m vtg.inspect                           (lists the sets that vtg.download brought)
    python -m vtg.inspect VIDEO-OR-FOLDER --decoders
    python -m vtg.inspect --index ROWS.jsonl [--video-dir D] [-o INDEX]

A video: what its container says, the true time of every frame, and what sampling would take: as training does by
default (conf/video/default.yaml), or with the overrides of train_sft.py that are given (`video.fps=4`, `video=tiny`,
`experiment=gpu_8gb`). The frames that sampling takes are decoded (`--no-decode` leaves that out), and shown with their
times in a picture (`--sheet`). Anything else: rows, columns, types, a few samples (`--num-samples`), durations, and
what cannot be read: annotation files, Parquet tables, folders of videos, of shards or of tables, folders that
`datasets` saved, LeRobot data sets, sets that vtg.download brought, by name. `--sheet` shows frames of the samples,
`--html` histograms of all values on a page. `--decoders`: which decoder gives exact frames and times of each file, and
which refuses it, and why. `--index`: opens every video of an annotation file once and keeps its duration, size and rate
in ROWS.jsonl.videos.parquet, so that training on many videos plans its batches without opening any; run it again to go
on after a stop, or when videos have changed. VIDEO may lie in a tar file (`shard.tar::a.mp4`) or in a store
(`s3://bucket/a.mp4`), ROWS may be WebDataset shards ('shards/{000..099}.tar') or a published file
(charades_sta:FILE.txt). Exit code 0; 1: a file cannot be read, has broken rows, or a decoder is wrong about it; 2:
wrong usage.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vtg.config.rules import check_choices, check_video
from vtg.config.schema import SFTConfig
from vtg.config.video_settings import VideoConfig
from vtg.console import aligned, stdout_may_close
from vtg.download.download_report import size_text
from vtg.download.set_folder import DEFAULT_FOLDER
from vtg.entry import compose_settings
from vtg.errors import ConfigError, RunError, SampleError
from vtg.inspect.decoder_table import compare_decoders
from vtg.inspect.inspection import Inspection
from vtg.inspect.report_lines import report_lines
from vtg.inspect.targets import downloaded_sets, inspect_path, is_video, located
from vtg.inspect.video_facts import index_videos
from vtg.inspect.video_report import inspect_video
from vtg.storage.atomic import write_text, written_beside
from vtg.video.frame_sampling import POLICIES

SAMPLES = 3


def main(argv: list[str] | None = None) -> int:
    """Parses, inspects, prints; returns the exit code."""
    # Intermixed, so that settings may follow options, as in `VIDEO --sheet OUT.png video.fps=4`.
    options = _parser().parse_intermixed_args(argv)
    wrong = _wrong_usage(options)
    if wrong:
        print(f"error: {wrong}", file=sys.stderr)
        return 2
    try:
        if options.path is None:
            return list_sets(options.data_dir, as_json=options.json)
        if options.decoders:
            return compare_decoders(options.path, as_json=options.json)
        if options.index:
            return index_videos(options.path, options.output, video_dir=options.video_dir, as_json=options.json)
        path = located(options.path, options.video_dir, options.data_dir)
        parts = _inspect(path, options)
        _write_pictures(path, parts, options)
    except (ConfigError, SampleError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    _print(path, parts, as_json=options.json)
    return 1 if any(found.failed for found in parts.values()) else 0


def _inspect(path: str, options: argparse.Namespace) -> dict[str, Inspection]:
    if not is_video(path):
        return inspect_path(path, num_samples=options.num_samples, video_dir=options.video_dir)
    config, factor = _sampling(options)
    found = inspect_video(
        path,
        config,
        factor=factor,
        temporal_patch=options.temporal_patch,
        decodes=options.decode,
        sheet=options.sheet,
    )
    return {"": found}


def _write_pictures(path: str, parts: Mapping[str, Inspection], options: argparse.Namespace) -> None:
    """The sheet, where it is not of one video, and the page; both are then named in the first report."""
    report = next(iter(parts.values())).report
    sheet = None
    cells = [cell for found in parts.values() for cell in found.cells]
    if options.sheet and not is_video(path):
        from vtg.inspect.sample_sheet import sample_sheet

        if not cells:
            where = "" if options.video_dir else "; --video-dir says where they are"
            print(f"no sheet: no video of the samples is there{where}", file=sys.stderr)
        else:
            sheet, faults = sample_sheet(cells)
            with written_beside(options.sheet) as beside:
                sheet.save(beside, format=Path(options.sheet).suffix[1:].lower().replace("jpg", "jpeg"))
            report["sheet"] = options.sheet
            for why in faults.values():
                print(f"not on the sheet: {why}", file=sys.stderr)
    elif "sheet" in report:
        from PIL import Image

        sheet = Image.open(report["sheet"])
    if options.html:
        from vtg.inspect.spread_page import spread_page

        write_text(options.html, spread_page(Path(path).name, parts, sheet))
        report["page"] = options.html


def _print(path: str, parts: Mapping[str, Inspection], *, as_json: bool) -> None:
    with stdout_may_close():
        if as_json:
            reports = {name: found.report for name, found in parts.items()}
            several = {"kind": "folder", "path": path, "parts": reports}
            print(json.dumps(reports[""] if list(reports) == [""] else several, allow_nan=False))
            return
        for name, found in parts.items():
            error = found.report.pop("error", None)  # what could be read is shown even so, and the error on stderr
            print("\n".join([*([f"== {name}"] if name else []), *report_lines(found.report)]))
            if error:
                print(f"error: {error}", file=sys.stderr)


def list_sets(data_dir: str, *, as_json: bool) -> int:
    """Prints the sets that were downloaded to a folder."""
    sets = downloaded_sets(data_dir)
    with stdout_may_close():
        if as_json:
            names = [
                {"name": folder.name, "whole": record.is_whole, "rows": record.rows, "licence": record.licence}
                for folder, record in sets
            ]
            print(json.dumps({"kind": "downloaded", "path": data_dir, "sets": names}))
        elif not sets:
            print(f"{data_dir}: no downloaded data sets; python -m vtg.download --list shows what there is")
        else:
            rows = [("data set", "state", "size", "rows", "videos to get")]
            for folder, record in sets:
                size = size_text(sum(file.size for file in record.files.values()))
                tables = ", ".join(f"{name.removesuffix('.parquet')} {count:,}" for name, count in record.rows.items())
                state = "whole" if record.is_whole else "in part"
                rows.append((folder.name, state, size, tables or "-", f"{record.videos_missing:,}"))
            print("\n".join(aligned(rows)))
    return 0


def _wrong_usage(options: argparse.Namespace) -> str | None:
    """What is wrong with the options, None if nothing is."""
    for name in ("factor", "temporal_patch"):
        # The factor has no default of its own: an override of the model may set it.
        if getattr(options, name) is not None and getattr(options, name) < 1:
            return f"--{name.replace('_', '-')} {getattr(options, name)}: must be at least 1"
    is_one_video = options.path is not None and not (options.decoders or options.index) and is_video(options.path)
    if options.overrides and not is_one_video:
        return f"{options.overrides[0]}: settings say how a video is sampled; leave them out, or give one video"
    not_a_setting = next((word for word in options.overrides if "=" not in word), None)
    if not_a_setting is not None:
        return f"{not_a_setting}: must be a setting, KEY=VALUE; one video or annotation file is inspected at a time"
    if options.num_samples < 0:
        return f"--num-samples {options.num_samples}: must be at least 0"
    if options.path is None and (options.decoders or options.index or options.sheet or options.html):
        return "what of? Give a path; without one the downloaded data sets are listed"
    if options.html and (options.decoders or options.index):
        return "--html shows what is in a file or a data set; leave out --decoders and --index"
    if options.html and (wrong := _not_writable("--html", options.html, (".html", ".htm"))):
        return wrong
    if options.output is not None and not options.index:
        return f"-o {options.output}: names the file of an index; add --index"
    if options.fps is not None and not math.isfinite(options.fps):
        return f"--fps {options.fps}: must be a number of frames a second, or 0 for all"
    if options.sheet is None:
        return None
    if options.decoders or options.index or not options.decode:
        return "--sheet shows decoded frames; leave out --decoders, --index and --no-decode"
    return _not_writable("--sheet", options.sheet, (".png", ".jpg", ".jpeg", ".webp"))


def _not_writable(option: str, path: str, endings: tuple[str, ...]) -> str | None:
    """Why a file cannot be written, checked before anything is read: it would cost the wait for its frames."""
    folder = os.path.dirname(path) or "."
    if os.path.splitext(path)[1].lower() not in endings:
        return f"{option} {path}: the name must end in {', '.join(endings[:-1])} or {endings[-1]}"
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        return f"{option} {path}: {folder} is no folder to write to"
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
    parser.add_argument("path", nargs="?", metavar="PATH", help="a video, rows, a table, a folder, or a set's name")
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
    parser.add_argument("--num-samples", type=int, default=SAMPLES, metavar="N", help=f"samples (default: {SAMPLES})")
    parser.add_argument(
        "--data-dir", default=DEFAULT_FOLDER, metavar="D", help=f"of downloads (default: {DEFAULT_FOLDER})"
    )
    parser.add_argument("--html", metavar="PAGE.html", help="save histograms, columns and samples as a page")
    parser.add_argument("--sheet", metavar="OUT.png", help="save the frames of a video, or of samples, as a picture")
    parser.add_argument("--decoders", action="store_true", help="compare the decoders on a video or a folder of them")
    parser.add_argument("--index", action="store_true", help="keep the facts of all videos of an annotation file")
    parser.add_argument("-o", "--output", metavar="INDEX", help="file of the index (default: PATH.videos.parquet)")
    parser.add_argument("--no-decode", dest="decode", action="store_false", help="do not decode the sampled frames")
    return parser


if __name__ == "__main__":
    sys.exit(main())
