"""NExT-GQA: spans in gsub_val.json, `{"10001787725": {"duration": 34, "location": {"1": [[1.2, 5.8]]}}}`, and
the questions in val.csv or test.csv beside it, joined by video and question number.
"""

from collections.abc import Iterator

from vtg.annotations.sources.source_row import Entry, Found, FoundRow, Head, NoRow


def fits(head: Head) -> bool:
    return head.shape == "object" and head.have("duration", "location")


def rows(entry: Entry) -> Iterator[Found]:
    value = entry.value
    if not isinstance(value, dict) or not isinstance(value.get("location"), dict):
        yield NoRow("entry-format", f"{str(entry.key)[:40]}: has no object `location`")
        return
    for number, spans in value["location"].items():
        asked = entry.beside.get(f"{entry.key}_{number}")
        if asked is None:
            text = f"{entry.key}_{number}: put val.csv or test.csv, which has the questions, beside the file"
            yield NoRow("question-unknown", text)
            continue
        yield FoundRow(
            video=entry.key,
            query=asked["question"],
            spans=spans,
            duration=value.get("duration"),
            qid=f"{entry.key}_{number}",
            metadata={key: content for key, content in asked.items() if key not in ("question", "video_id", "qid")},
        )
