"""What differs between two runs: settings, versions, commit, machine, data files, test samples."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vtg.evaluation.report.run_reader import Run, flat

ABSENT = "(absent)"
DATA_FILES = ("annotation_file", "val_file", "test_file")
MACHINE = ("python", "platform", "cpus", "gpus", "world_size", "command")

Pairs = dict[str, tuple[Any, Any]]


def differences(a: Run, b: Run) -> dict[str, Pairs]:
    """Group → what differs there → its value in either run. Groups: config, packages, commit, machine, data, samples.

    Data files are compared by content, as they are now; a relative path is looked up in the current folder.
    """
    packages = [_mapping(run.environment.get("packages")) for run in (a, b)]
    machine = [{key: run.environment.get(key, ABSENT) for key in MACHINE} for run in (a, b)]
    commits = [{"git_commit": run.environment.get("git_commit", ABSENT)} for run in (a, b)]
    return {
        "config": _pairs(flat(a.config) if a.config else {}, flat(b.config) if b.config else {}),
        "packages": _pairs(*packages),
        "commit": _pairs(*commits),
        "machine": _pairs(*machine),
        "data": _pairs(_data(a), _data(b)),
        "samples": _pairs(_samples(a, b), _samples(b, a)),
    }


def difference_lines(a: Run, b: Run, found: Mapping[str, Pairs]) -> list[str]:
    """The differences as text, a group under its name; what is the same in one line at the end."""
    lines = [f"A  {a.folder}", f"B  {b.folder}"]
    for group, pairs in found.items():
        if pairs:
            lines += ["", group]
            width = max(len(key) for key in pairs)
            lines += [f"  {key:<{width}}  {_shown(one)}  →  {_shown(other)}" for key, (one, other) in pairs.items()]
    if same := [group for group, pairs in found.items() if not pairs]:
        lines += ["", f"the same: {', '.join(same)}"]
    return lines


def _pairs(a: Mapping[str, Any], b: Mapping[str, Any]) -> Pairs:
    keys = [*a, *(key for key in b if key not in a)]
    both = {key: (a.get(key, ABSENT), b.get(key, ABSENT)) for key in keys}
    return {key: pair for key, pair in both.items() if pair[0] != pair[1]}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _data(run: Run) -> dict[str, str]:
    """What the run's annotation files hold: rows and a digest, or that a file is not there."""
    paths = {key: _mapping(run.config.get("data")).get(key) for key in DATA_FILES}
    return {key: _content(Path(path)) for key, path in paths.items() if isinstance(path, str)}


def _content(path: Path) -> str:
    if not path.is_file():
        return f"{path} is not there"
    digest, lines = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            lines += block.count(b"\n")
    return f"{lines} lines, sha256 {digest.hexdigest()[:12]}"


def _samples(run: Run, other: Run) -> dict[str, str]:
    """How many samples a run was tested on, and how many of them the other was not."""
    mine, its = ({str(row.get("qid")) for row in one.tuned} for one in (run, other))
    if mine == its:
        return {}
    return {"tested": f"{len(mine)} samples, {len(mine - its)} of them here alone"}


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
