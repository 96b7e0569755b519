"""HiREST: `{"Make a Plaster Mask": {"vRGS….mp4": {"relevant": true, "clip": true, "v_duration": 393.46, "bounds":
[45, 271], "steps": [{"heading": "…", "absolute_bounds": [45, 58]}]}}}`: moments of prompts, and the steps in them.

A prompt that a whole video is about (`clip` false) has no moment to find, as in the benchmark's own evaluation.
"""

from collections.abc import Iterator

from vtg.annotations.sources.source_row import Entry, Found, FoundRow, Head, NoRow


def fits(head: Head) -> bool:
    return head.shape == "object" and head.most(_is_prompt)


def _is_prompt(value: object) -> bool:
    videos = value.values() if isinstance(value, dict) else ()
    return bool(videos) and all(isinstance(video, dict) and "bounds" in video for video in videos)


def rows(entry: Entry) -> Iterator[Found]:
    """One moment a prompt and video."""
    for name, video in entry.value.items() if isinstance(entry.value, dict) else ():
        if not isinstance(video, dict) or "bounds" not in video:
            yield NoRow("not-annotated", f"{entry.key}: {name}", is_bad=False)
        elif not video.get("relevant", True) or not video.get("clip", True):
            yield NoRow("whole-video", f"{entry.key}: {name} has no moment of its own", is_bad=False)
        else:
            yield FoundRow(video=name, query=entry.key, spans=video["bounds"], duration=video.get("v_duration"))


def step_rows(entry: Entry) -> Iterator[Found]:
    """One moment a step."""
    for name, video in entry.value.items() if isinstance(entry.value, dict) else ():
        steps = video.get("steps") if isinstance(video, dict) else None
        if not isinstance(steps, list) or not steps:
            yield NoRow("no-steps", f"{entry.key}: {name}", is_bad=False)
            continue
        for step in steps:
            if not isinstance(step, dict):
                yield NoRow("step-format", f"{entry.key}: {name}: {str(step)[:60]} is not an object")
                continue
            yield FoundRow(
                video=name,
                query=step.get("heading"),
                spans=step.get("absolute_bounds"),
                duration=video.get("v_duration"),
                metadata={"prompt": entry.key, "step": step.get("index")},
            )
