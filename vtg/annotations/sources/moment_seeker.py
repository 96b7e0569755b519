"""MomentSeeker: `[{"src_video_path": "…", "qry_text": "…", "answering_time_interval": [[3, 9]]}]`, no durations.

Queries by an image or a video (ti2v, tv2v) have no row: no text asks for them alone.
"""

from collections.abc import Iterator

from vtg.annotations.sources.source_row import Entry, Found, FoundRow, Head, NoRow, of_objects, others

KNOWN = ("src_video_path", "qry_text", "answering_time_interval", "duration")
CONDITIONS = ("qry_img_path", "qry_video_path", "qry_image_path", "qry_img", "qry_video")


def fits(head: Head) -> bool:
    return head.have("src_video_path", "qry_text")


@of_objects
def rows(entry: Entry) -> Iterator[Found]:
    value = entry.value
    if shown := next((value[key] for key in CONDITIONS if value.get(key)), None):
        yield NoRow("query-not-text", f"{value.get('src_video_path')}: asks by {str(shown)[:60]}", is_bad=False)
    else:
        yield FoundRow(
            video=value.get("src_video_path"),
            query=value.get("qry_text"),
            spans=value.get("answering_time_interval"),
            duration=value.get("duration"),
            metadata=others(value, *KNOWN),
        )
