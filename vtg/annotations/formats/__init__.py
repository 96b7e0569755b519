"""Dataset formats that are read where they lie: one file here for each, and one line in `FORMATS`.

Every command reads annotation files through the table, so that a new format can be validated, inspected and scored too.

docs/extending.md adds one as an example.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from vtg.annotations.formats.json_rows import single_file
from vtg.annotations.formats.lerobot_rows import is_lerobot, lerobot_files, lerobot_rows
from vtg.annotations.formats.published import is_published, published_files, read_published
from vtg.annotations.formats.video_rows import is_videos, read_videos, videos_stamp
from vtg.annotations.formats.webdataset import is_shards, read_shards, shards_of
from vtg.annotations.raw_rows import RowsOfLines, raw_rows
from vtg.annotations.sample import Problem, Sample, read_samples, sample_of
from vtg.annotations.sources.source_row import MISREAD
from vtg.errors import SampleError


@dataclass(frozen=True, kw_only=True)
class RowFormat:
    """How the value of `data.annotation_file` is read.

    Attributes:
        detect: whether a path is of this format. Asked often: by the name, or by a few bytes.
        rows: streams (line, row as JSON) of every row, right or wrong: `sample_of` checks them as those of a JSONL
            file. Raises SampleError for a file that cannot be read any further.
        read: streams the samples, and a Problem for each row that is lost, where that takes more than `rows`.
        files: (true path, bytes, time in ns) of the files the rows come from; a cached table is made anew when any
            changes. Raises OSError or ConfigError when there are none.
        cache_name: the part of the path that samples depend on (their default qid, say); by default all of it.
        may_be_unannotated: whether `vtg.predict` also takes its rows without `timestamp` or `duration`.
    """

    detect: Callable[[str], bool]
    rows: Callable[[str], Iterator[tuple[int, bytes]]] | None = None
    read: Callable[[str], Iterator[Sample | Problem]] | None = None
    files: Callable[[str], list[tuple[str, int, int]]] = single_file
    cache_name: Callable[[str], str] = str
    may_be_unannotated: bool = False

    def __post_init__(self) -> None:
        assert self.rows or self.read, "a format without a reader"

    def samples(self, path: str) -> Iterator[Sample | Problem]:
        """A sample for each row, or the first error of a row that is lost."""
        if self.read is not None:
            yield from self.read(path)
            return
        of_lines = RowsOfLines()
        for item in self.raw_rows(path):
            if isinstance(item, Problem):
                yield item
            else:
                yield sample_of(item[1], path=path, line=item[0], nth=of_lines.nth(*item))

    def raw_rows(self, path: str) -> Iterator[tuple[int, bytes] | Problem]:
        """(line, row as JSON) of each row, for what looks at broken rows too; a Problem for what is no row at all."""
        if self.rows is None:
            for number, item in enumerate(self.samples(path), 1):
                yield item if isinstance(item, Problem) else (number, msgspec.json.encode(item.row()))
            return
        line = 0
        try:
            for line, raw in self.rows(path):
                yield line, raw
        except SampleError as error:
            yield Problem(path, line + 1, "file", str(error), "error", "file-broken")
        except MISREAD as error:
            text = f"cannot be read from here on ({type(error).__name__}: {error}); correct the row, or its reader"
            yield Problem(path, line + 1, "file", text, "error", "file-broken")


FORMATS: dict[str, RowFormat] = {
    # Claims every path, so it stands first: the last entry that detects its own wins.
    "jsonl": RowFormat(
        detect=lambda path: True,
        rows=raw_rows,
        read=read_samples,
        # Qids are made of the file's stem and the line, so that a file moved to another folder keeps its table.
        cache_name=lambda path: Path(path).stem,
        may_be_unannotated=True,
    ),
    "published": RowFormat(detect=is_published, read=read_published, files=published_files),
    "lerobot": RowFormat(detect=is_lerobot, rows=lerobot_rows, files=lerobot_files),
    "webdataset": RowFormat(detect=is_shards, read=read_shards, files=shards_of),
    "videos": RowFormat(
        detect=is_videos,
        read=lambda path: read_videos(path, lambda place: format_of(place).raw_rows(place)),
        files=lambda path: videos_stamp(path, lambda place: format_of(place).files(place)),
    ),
}


def format_name(path: str) -> str:
    """The name in `FORMATS` of the format of an annotation file."""
    return next(name for name in reversed(FORMATS) if FORMATS[name].detect(path))


def format_of(path: str) -> RowFormat:
    """The format of an annotation file."""
    return FORMATS[format_name(path)]
