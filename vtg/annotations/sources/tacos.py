"""TACoS as 2D-TAN publishes it: `{"s17-d69.avi": {"timestamps": [[224, 358], …], "sentences": […], "fps": 29.4,
"num_frames": 17000}}`, times in frames. (UniVTG's and Lighthouse's TACoS is in the form of QVHighlights.)
"""

from collections.abc import Iterator

from vtg.annotations.sources import captions
from vtg.annotations.sources.source_row import Entry, Found, FoundRow, Head, NoRow, is_number


def fits(head: Head) -> bool:
    return head.shape == "object" and head.have("timestamps", "sentences", "fps", "num_frames")


def rows(entry: Entry) -> Iterator[Found]:
    value = entry.value if isinstance(entry.value, dict) else {}
    fps, frames = value.get("fps"), value.get("num_frames")
    if not isinstance(fps, int | float) or not isinstance(frames, int | float) or not fps > 0:
        yield NoRow(
            "entry-format", f"{str(entry.key)[:40]}: fps {fps!r} and num_frames {frames!r} must be numbers above 0"
        )
        return
    for found in captions.rows(entry._replace(value=value | {"duration": frames / fps})):
        if isinstance(found, FoundRow) and isinstance(found.spans, list) and all(map(is_number, found.spans)):
            found.spans = [frame / fps for frame in found.spans]
        yield found
