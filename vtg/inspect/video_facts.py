"""`vtg.inspect --index`: the facts of all videos of an annotation file, kept for training."""

import json
import sys

from vtg.annotations.sample import resolve_video
from vtg.console import stdout_may_close
from vtg.errors import ConfigError
from vtg.inspect.inspection import SHOWN
from vtg.inspect.report_lines import report_lines
from vtg.progress_bar import ProgressBar
from vtg.video.clip import DecodeError


def index_videos(path: str, out: str | None, *, video_dir: str | None, as_json: bool) -> int:
    """Makes or brings up to date the index of the videos of an annotation file; returns the exit code."""
    from vtg.annotations.table_cache import read_table, video_stamps
    from vtg.video.video_index import ENDING, make_index

    out = path + ENDING if out is None else out
    if "://" in out or any(mark in out for mark in "{*?["):
        print(f"error: {out}: cannot be written to; name a local file with -o", file=sys.stderr)
        return 2
    try:
        table, broken = read_table(path)
        videos, _ = table.videos()
        with ProgressBar(len(videos), title="opening videos", unit="video") as bar:
            stamps = video_stamps(videos, video_dir)
            index = make_index(
                videos, stamps, out, resolve=lambda name: resolve_video(name, video_dir), progress=bar.update
            )
    except (OSError, ConfigError, DecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    # The index keeps videos of other annotation files too: their errors are no concern of these rows.
    asked = set(videos.to_pylist())
    bad = [(video, reason) for video, reason in index.errors() if video in asked]
    report = {"kind": "index", "path": path, "index": out, "rows": len(table), "broken_rows": len(broken)}
    if broken:  # `vtg.validate` lists them all
        report["problems"] = [str(lost.problem) for lost in broken[:SHOWN]]
    report |= {"videos": len(videos), "unreadable": len(bad)}
    with stdout_may_close():
        if as_json:
            print(json.dumps(report | {"unreadable_videos": [{"video": video, "reason": why} for video, why in bad]}))
        else:
            print("\n".join([*report_lines(report), *(f"unreadable: {why}" for _, why in bad)]))
    return 1 if bad or broken else 0
