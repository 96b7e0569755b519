"""Dataset formats that are read where they lie: one file here for each, and one line in `FORMATS`.

docs/extending.md adds one as an example. (`lerobot` makes rows from a data set of robot episodes; it is not in the
table, because a data set of episodes is a folder of its own videos rather than an annotation file.)
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vtg.annotations.formats.json_rows import single_file
from vtg.annotations.formats.webdataset import is_shards, read_shards, shards_of
from vtg.annotations.sample import Problem, Sample, read_samples


@dataclass(frozen=True, kw_only=True)
class RowFormat:
    """How the value of `data.annotation_file` is read.

    Attributes:
        detect: whether a path is of this format. Asked often: by the name, or by a few bytes.
        read: streams the samples, and a Problem for each row that is lost.
        files: (true path, bytes, time in ns) of the files the rows come from; a cached table is made anew when any
            changes. Raises OSError or ConfigError when there are none.
        cache_name: the part of the path that samples depend on (their default qid, say); by default all of it.
        may_be_unannotated: whether `vtg.predict` also takes its rows without `timestamp` or `duration`.
    """

    detect: Callable[[str], bool]
    read: Callable[[str], Iterator[Sample | Problem]]
    files: Callable[[str], list[tuple[str, int, int]]] = single_file
    cache_name: Callable[[str], str] = str
    may_be_unannotated: bool = False


FORMATS: dict[str, RowFormat] = {
    # Claims every path, so it stands first: the last entry that detects its own wins.
    "jsonl": RowFormat(
        detect=lambda path: True,
        read=read_samples,
        # Qids are made of the file's stem and the line, so that a file moved to another folder keeps its table.
        cache_name=lambda path: Path(path).stem,
        may_be_unannotated=True,
    ),
    "webdataset": RowFormat(detect=is_shards, read=read_shards, files=shards_of),
}


def format_name(path: str) -> str:
    """The name in `FORMATS` of the format of an annotation file."""
    return next(name for name in reversed(FORMATS) if FORMATS[name].detect(path))
