"""The table of `vtg.inspect --decoders`: files by decoders."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from vtg.console import stdout_may_close
from vtg.inspect.decoder_agreement import EXACT, WRONG, Agreement, comparison
from vtg.progress_bar import ProgressBar, counted
from vtg.video.decoders import DECODERS


def compare_decoders(path: str, *, as_json: bool) -> int:
    """Prints the table of files x decoders for a video, or the files of a folder; returns the exit code."""
    files = sorted(file for file in Path(path).glob("*") if file.is_file()) if os.path.isdir(path) else [Path(path)]
    if not files or not all(file.is_file() for file in files):
        print(f"error: {path}: no such file, and no folder of files; give a video or a folder", file=sys.stderr)
        return 2
    # In one child process for all files: a decoder that crashes on a file costs its verdict, not the comparison.
    with comparison() as compared:
        bar = ProgressBar(len(files), title="comparing decoders", unit="file")
        agreements = [compared.of(str(file)) for file in counted(files, bar)]
    wrong = [verdict for agreement in agreements for verdict in agreement.verdicts if verdict.verdict == WRONG]
    unread = [
        agreement for agreement in agreements if not any(verdict.verdict == EXACT for verdict in agreement.verdicts)
    ]
    with stdout_may_close():
        if as_json:
            documents = [
                {"file": agreement.path, "decoders": [asdict(verdict) for verdict in agreement.verdicts]}
                for agreement in agreements
            ]
            print(json.dumps({"files": documents, "wrong": len(wrong), "unreadable": len(unread)}))
        else:
            print("\n".join(_table(agreements)))
    return 1 if wrong or unread else 0


def _table(agreements: list[Agreement]) -> list[str]:
    width = max(len(os.path.basename(agreement.path)) for agreement in agreements)
    lines = [" ".join([f"{'file':{width}}", *(f"{name:>13}" for name in DECODERS), "  frames compared"])]
    reasons = []
    for agreement in agreements:
        name = os.path.basename(agreement.path)
        times_s = [] if agreement.clip is None else agreement.clip.timestamps_s.tolist()
        compared = f"  {len(times_s)} from {times_s[0]:.3f} to {times_s[-1]:.3f} s" if times_s else "  none"
        lines.append(" ".join([f"{name:{width}}", *(f"{v.verdict:>13}" for v in agreement.verdicts), compared]))
        reasons += [f"{name}: {v.decoder} {v.verdict}: {v.reason}" for v in agreement.verdicts if v.reason]
    return [*lines, "", *reasons]
