"""WebDataset shards as a source of rows: tar files in which `key.json` holds the rows of the video `key.mp4`.

A pattern names them: `shards/{000..099}.tar`, `shards/*.tar`, `s3://bucket/{train,more}-{00..31}.tar`. The JSON is one
row or a list of rows, as in an annotation file; its `video` is the member beside it, `shard.tar::key.mp4`, whatever it
says itself. A key is the name of a member up to the first full stop of its last part.

A row without a qid gets one of the shard, the key and its number: `000.tar::key:1`. The shard is named from the folder
on that no brace or wildcard of the pattern stands in, so that qids stay where the shards move to another place.
"""

import glob
import json
import os
import re
from collections.abc import Iterator
from itertools import product

import msgspec

from vtg.annotations.sample import Problem, Sample, sample_of
from vtg.errors import ConfigError, SampleError
from vtg.storage.file_stamp import stamp_of

ENDING = ".tar"
VIDEO_ENDINGS = ("mp4", "mkv", "webm", "mov", "avi", "m4v", "mpg", "mpeg", "ts", "flv", "ogv")
# As of a row in an annotation file (`raw_rows`): what is larger holds more than rows.
MAX_SIDECAR_BYTES = 16 << 20

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def is_shards(path: str) -> bool:
    """Whether an annotation file is a pattern of shards."""
    return path.endswith(ENDING)


def shard_names(pattern: str) -> list[str]:
    """The shards that a pattern names, in order: braces written out, then wildcards looked up.

    Raises:
        ConfigError: there are none.
    """
    # Late, here and below: rows are checked without numpy, which this imports.
    from vtg.video.files import stores, video_files

    shards: list[str] = []
    for name in _written_out(pattern):
        if not glob.has_magic(name):
            shards.append(name)
        elif video_files.is_remote(name):
            system, path = stores.file_system(name)
            scheme = name.partition("://")[0]
            listed = stores.with_retries(name, lambda system=system, path=path: system.glob(path))
            shards += [path if "://" in path else f"{scheme}://{path.lstrip('/')}" for path in sorted(listed)]
        else:
            shards += sorted(glob.glob(name))
    missing = [name for name in shards if not video_files.is_remote(name) and not os.path.isfile(name)]
    if missing or not shards:
        what = (
            f"{len(missing)} of its {len(shards)} shards are not there ({missing[0]})" if missing else "no such shards"
        )
        raise ConfigError(f"{pattern}: {what} (looked in {os.getcwd()}); check the pattern of data.annotation_file")
    return shards


def shards_of(pattern: str) -> list[tuple[str, int, int]]:
    """(true path or address, bytes, time in ns) of the shards; of remote ones no time.

    Raises:
        ConfigError: there are none, or they cannot be reached.
    """
    try:
        return _stamps(pattern)
    except SampleError as error:
        raise ConfigError(f"data.annotation_file = {pattern!r}: {error}") from error


def _stamps(pattern: str) -> list[tuple[str, int, int]]:
    from vtg.video.files import stores, video_files

    stamps: list[tuple[str, int, int]] = []
    for name in shard_names(pattern):
        if video_files.is_remote(name):
            system, path = stores.file_system(name)
            size = stores.with_retries(name, lambda system=system, path=path: system.size(path))
            stamps.append((name, size or 0, 0))  # stores name the time of an object differently, and some have none
        else:
            stamps.append((os.path.realpath(name), *stamp_of(os.stat(name))))
    return stamps


def read_shards(pattern: str) -> Iterator[Sample | Problem]:
    """The rows of the shards, or what is wrong with each that is lost; a shard that breaks off is one problem.

    A place is `shard.tar::key.json:N`, N the number of the row in its list, from 1.
    """
    fixed = len(re.split(r"[{*?[]", pattern, maxsplit=1)[0].rpartition("/")[0])
    for shard in shard_names(pattern):
        try:
            yield from _rows_of(shard, shard[fixed:].lstrip("/"))
        except SampleError as error:
            yield Problem(shard, 1, "file", str(error), "error", "file-shard")


def _rows_of(shard: str, short: str) -> Iterator[Sample | Problem]:
    """The rows of a shard; `short`: its name in qids."""
    from vtg.video.files import video_files

    videos: dict[str, str] = {}
    sidecars: set[str] = set()
    waiting: list[tuple[str, str, bytes]] = []  # for their videos, which may come after them
    for name, first, size, file in video_files.members(shard):
        key, ending = _key(name)
        if ending in VIDEO_ENDINGS:
            videos.setdefault(key, name)
        elif ending == "json" and key in sidecars:
            text = f"is a second file of rows for {key}; keep one, with all of its rows"
            yield Problem(f"{shard}::{name}", 1, "file", text, "error", "file-twice")
        elif ending == "json" and size <= MAX_SIDECAR_BYTES:
            sidecars.add(key)
            file.seek(first)
            waiting.append((key, name, file.read(size)))
        elif ending == "json":
            yield Problem(
                f"{shard}::{name}", 1, "file", f"is {size} bytes; move bulky metadata out", "error", "file-size"
            )
        while waiting and waiting[0][0] in videos:
            yield from _rows(shard, short, *waiting.pop(0), videos)
    for sidecar in waiting:
        yield from _rows(shard, short, *sidecar, videos)


def _rows(
    shard: str, short: str, key: str, name: str, raw: bytes, videos: dict[str, str]
) -> Iterator[Sample | Problem]:
    path = f"{shard}::{name}"
    if key not in videos:
        text = f"no video {key}.mp4 ({', '.join(VIDEO_ENDINGS[:4])} …) beside it in the shard"
        yield Problem(path, 1, "video", text, "error", "video-missing")
        return
    try:
        held = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        yield sample_of(raw, path=path, line=1)  # which says what is wrong with it
        return
    for line, row in enumerate(held if isinstance(held, list) else [held], start=1):
        if isinstance(row, dict):
            row["video"] = f"{shard}::{videos[key]}"
            # With the key: two shards of one stem, or two rows of one key, would share what a line number gives.
            if row.get("qid") is None:
                row["qid"] = f"{short}::{key}:{line}"
        yield sample_of(json.dumps(row).encode(), path=path, line=line)


def _key(name: str) -> tuple[str, str]:
    folder, slash, last = name.rpartition("/")
    stem, _, ending = last.partition(".")
    return f"{folder}{slash}{stem}", ending.lower()


def _written_out(pattern: str) -> list[str]:
    """`a{00..02}.tar` → a00.tar, a01.tar, a02.tar; `{a,b}` → a, b; braces of anything else stay."""
    choices: list[list[str]] = []
    for at, part in enumerate(_BRACES.split(pattern)):
        bounds = _RANGE.fullmatch(part) if at % 2 else None
        if bounds:
            first, last = int(bounds[1]), int(bounds[2])
            # As a shell counts: {0..10} without zeros, {00..10} and {10..20} in two digits.
            width = len(bounds[1]) if bounds[1].startswith("0") or len(bounds[1]) == len(bounds[2]) else 0
            choices.append([f"{number:0{width}d}" for number in range(first, last + 1)])
        elif at % 2 and "," in part:
            choices.append(part.split(","))
        else:
            choices.append([f"{{{part}}}" if at % 2 else part])
    return ["".join(parts) for parts in product(*choices)]
