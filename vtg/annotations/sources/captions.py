"""ActivityNet Captions and its form: `{"v_bXd…": {"duration": 73.1, "timestamps": […], "sentences": […]}}`.

So are Charades-STA as JSON, Charades-CD and ActivityNet-CD (with `video_duration`), Charades-CG and ActivityNet-CG.
"""

from collections.abc import Iterator
from itertools import zip_longest

from vtg.annotations.sources.source_row import Entry, Found, FoundRow, Head, NoRow


def fits(head: Head) -> bool:
    in_frames = head.have("fps", "num_frames")
    return head.shape == "object" and head.inside is None and head.have("timestamps", "sentences") and not in_frames


def rows(entry: Entry) -> Iterator[Found]:
    value = entry.value
    if not isinstance(value, dict) or not all(isinstance(value.get(key), list) for key in ("timestamps", "sentences")):
        yield NoRow("entry-format", f"{str(entry.key)[:40]}: has no lists `timestamps` and `sentences`")
        return
    duration = value.get("duration", value.get("video_duration"))
    for span, sentence in zip_longest(value["timestamps"], value["sentences"]):
        if span is None or sentence is None:
            lone = f"the sentence {sentence[:40]!r}" if isinstance(sentence, str) else f"the span {span}"
            yield NoRow("moment-unpaired", f"{str(entry.key)[:40]}: {lone} has no counterpart")
        else:
            yield FoundRow(video=entry.key, query=sentence, spans=span, duration=duration)
