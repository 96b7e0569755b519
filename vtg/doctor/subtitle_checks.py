"""The subtitle files that rows name, beside what every reader of rows checks."""

from pathlib import Path

from vtg.annotations.row_target import Row
from vtg.annotations.sample import Problem
from vtg.annotations.subtitles import read_subtitles
from vtg.errors import SampleError


def subtitle_problems(row: Row, path: str, line: int, nth: int) -> list[Problem]:
    """What is wrong with the subtitle file that a row names, beside the annotation file."""
    name = row.get("subtitles")
    if isinstance(name, str):
        try:
            read_subtitles(str(Path(path).parent / name))
        except SampleError as error:
            return [Problem(path, line, "subtitles", str(error), "error", "subtitles-file", nth)]
    return []
