"""What differs between two runs: settings, package versions, commit, machine, data files, test samples."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vtg.report.run_reader import Run

ABSENT = "(absent)"

# Settings of `data` that name an annotation file: one name may hold other rows by now.
DATA_FILES = ("annotation_file", "val_file", "test_file")

# Keys of environment.json that may change scores or speed; packages and commit are groups of their own.
MACHINE = ("python", "platform", "cpus", "gpus", "world_size", "command")

Differences = dict[str, tuple[Any, Any]]
"""Key → its value in run A and in run B."""


def differences(a: Run, b: Run) -> dict[str, Differences]:
    """What differs, by group: config, packages, commit, machine, data, samples. A group is empty where all is the same.

    Annotation files are compared by their present content; a relative path is looked up in the current folder.
    """
    packages = [_as_dict(run.environment.get("packages")) for run in (a, b)]
    machine = [{key: run.environment.get(key, ABSENT) for key in MACHINE} for run in (a, b)]
    commits = [{"git_commit": run.environment.get("git_commit", ABSENT)} for run in (a, b)]
    return {
        "config": _differing(_flatten(a.config) if a.config else {}, _flatten(b.config) if b.config else {}),
        "packages": _differing(*packages),
        "commit": _differing(*commits),
        "machine": _differing(*machine),
        "data": _differing(_data_digests(a), _data_digests(b)),
        "samples": _differing(_tested_samples(a, b), _tested_samples(b, a)),
    }


def difference_lines(a: Run, b: Run, groups: Mapping[str, Differences]) -> list[str]:
    """The differences as text, each group under its name; the groups without one in the last line."""
    lines = [f"A  {a.folder}", f"B  {b.folder}"]
    for group, differing in groups.items():
        if differing:
            lines += ["", group]
            width = max(len(key) for key in differing)
            lines += [
                f"  {key:<{width}}  {_as_text(in_a)}  →  {_as_text(in_b)}" for key, (in_a, in_b) in differing.items()
            ]
    if same := [group for group, differing in groups.items() if not differing]:
        lines += ["", f"the same: {', '.join(same)}"]
    return lines


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> Differences:
    # In the order of run A, not sorted: neighbours in config.yaml stay neighbours.
    keys = [*a, *(key for key in b if key not in a)]
    pairs = {key: (a.get(key, ABSENT), b.get(key, ABSENT)) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _as_dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _data_digests(run: Run) -> dict[str, str]:
    """Number of lines and digest of each annotation file of the run."""
    paths = {key: _as_dict(run.config.get("data")).get(key) for key in DATA_FILES}
    return {key: _digest(Path(path)) for key, path in paths.items() if isinstance(path, str)}


def _digest(path: Path) -> str:
    if not path.is_file():
        return f"{path} is not there"
    digest, lines = hashlib.sha256(), 0
    # By blocks: annotation files reach gigabytes.
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            lines += block.count(b"\n")
    return f"{lines} lines, sha256 {digest.hexdigest()[:12]}"


def _tested_samples(run: Run, other: Run) -> dict[str, str]:
    """How many samples `run` was tested on, and how many of them `other` was not; empty where they are the same."""
    qids, other_qids = ({str(row.get("qid")) for row in tested.tuned} for tested in (run, other))
    if qids == other_qids:
        return {}
    return {"tested": f"{len(qids)} samples, {len(qids - other_qids)} of them here alone"}


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one with dotted keys: `{"a": {"b": 1}}` becomes `{"a.b": 1}`."""
    if isinstance(value, dict) and (value or not prefix):
        return {k: v for key, inner in value.items() for k, v in _flatten(inner, f"{prefix}{key}.").items()}
    return {prefix[:-1]: value}
