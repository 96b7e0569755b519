"""Subtitle files (.srt, .vtt): what is said, and when."""

import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from functools import lru_cache
from pathlib import Path

from vtg.errors import SampleError

Subtitle = tuple[float, float, str]
"""Start and end in seconds, and what is said."""

MAX_BYTES = 8 << 20
"""Of a file: the subtitles of a day of speech are a tenth of it."""

_TIME = r"(?:(\d{1,3}):)?(\d{1,2}):(\d{1,2}[.,]\d{1,3})"
_CUE = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}")
_TAG = re.compile(r"<[^<>]{0,200}>|\{\\[^{}]{0,200}\}")


# Several questions are asked about a clip, and its file is read for each of them.
@lru_cache(maxsize=64)
def read_subtitles(path: str) -> tuple[Subtitle, ...]:
    """The subtitles of a file in order of time, in seconds of its video, each text on one line and without mark-up.

    Raises:
        SampleError: the file cannot be read, is no UTF-8 text, or holds no subtitle.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SampleError(f"subtitle file {path}: cannot be read ({error.strerror}); correct the path") from None
    if len(raw) > MAX_BYTES:
        raise SampleError(f"subtitle file {path}: is larger than {MAX_BYTES >> 20} MiB; name a subtitle file")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        encoding = "UTF-16" if raw.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "WINDOWS-1252"
        raise SampleError(
            f"subtitle file {path}: is not UTF-8 text (byte {error.start}: {raw[error.start]:#04x}); convert it, "
            f"as with iconv -f {encoding} -t UTF-8 {Path(path).name}"
        ) from None
    found = parse_subtitles(text)
    if not found:
        raise SampleError(f"subtitle file {path}: holds no line such as 00:00:01,000 --> 00:00:02,500; check the file")
    return found


def parse_subtitles(text: str) -> tuple[Subtitle, ...]:
    """The subtitles of the text of an .srt or .vtt file, in order of time; what is none is passed over."""
    found: list[Subtitle] = []
    times: tuple[float, float] | None = None
    said: list[str] = []

    def end_cue() -> None:
        words = " ".join(_TAG.sub("", " ".join(said)).split())
        if times is not None and words and times[0] < times[1]:
            found.append((*times, words))
        said.clear()

    for line in text.splitlines():
        if cue := _CUE.match(line):
            end_cue()
            times = _seconds(*cue.groups()[:3]), _seconds(*cue.groups()[3:])
        elif not line.strip():
            end_cue()
            times = None
        elif times is not None:
            said.append(line)
    end_cue()
    return tuple(sorted(found))


def _seconds(hours: str | None, minutes: str, seconds: str) -> float:
    return round(3600 * int(hours or 0) + 60 * int(minutes) + float(seconds.replace(",", ".")), 3)
