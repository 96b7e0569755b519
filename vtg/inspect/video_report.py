"""What is in a video: the facts of its container, the true time of every frame, and what sampling takes of it."""

from dataclasses import asdict

import numpy as np

from vtg.config.video_settings import VideoConfig
from vtg.inspect.contact_sheet import contact_sheet
from vtg.inspect.inspection import Inspection, Report
from vtg.video.clip import DecodeError
from vtg.video.clip_cost import stills_cost
from vtg.video.clip_loading import decode_frames, plan_clip
from vtg.video.container import read_index
from vtg.video.files.address import is_picture
from vtg.video.still_loading import load_stills, stills_info
from vtg.video.video_window import VideoWindow


def inspect_video(
    path: str,
    config: VideoConfig,
    *,
    factor: int = 32,
    temporal_patch: int = 2,
    decodes: bool = True,
    sheet: str | None = None,
) -> Inspection:
    """Facts, frame times and sampling of a video, facts of a picture; if it cannot be read, `error` says why."""
    if is_picture(path):
        report = _of_pictures(path, config, factor, temporal_patch, sheet=sheet)
        return Inspection(report, failed="error" in report)
    report, spreads = _report(path, config, factor, temporal_patch, decodes=decodes, sheet=sheet)
    return Inspection(report, spreads, failed="error" in report)


def _report(
    path: str, config: VideoConfig, factor: int, temporal_patch: int, *, decodes: bool, sheet: str | None
) -> tuple[Report, dict[str, np.ndarray]]:
    report: Report = {"kind": "video", "path": path}
    # A file that cannot be read is a result of an inspection, not a failure of it.
    try:
        index = read_index(path)
    except DecodeError as error:
        return report | {"error": str(error)}, {}
    report |= asdict(index.info)
    spreads = {
        "time between frames (ms)": 1000 * np.diff(index.times_s),
        "time between keyframes (s)": np.diff(index.times_s[index.is_key]),
    }
    report |= {
        "shown_frames": len(index.times_s),
        "timestamps_s": _seconds(index.times_s),
        "keyframes_s": _seconds(index.times_s[index.is_key]),
    }
    if index.fault:
        return report | {"error": f"{path}: {index.fault}"}, spreads
    # The very plan of training, so that what is shown is what a model would be given.
    plan = plan_clip(index, VideoWindow(path), config, factor=factor, temporal_patch=temporal_patch)
    report["sampling"] = {
        "policy": config.sampling,
        "fps": config.fps,
        "max_frames": config.max_frames,
        "frames": len(plan.chosen),
        "timestamps_s": _seconds(plan.timestamps_s),
        "height": plan.size[0],
        "width": plan.size[1],
        "tokens": plan.tokens,
        "padding_frames": plan.pad,
    }
    if decodes:
        # Without a sheet the pictures are thrown away: the smallest size finds what cannot be decoded.
        size = (index.info.height, index.info.width) if sheet else (factor, factor)
        try:
            frames = decode_frames(index, plan.chosen, size=size, decoder=config.decoder, exact=False)
        except DecodeError as error:
            return report | {"error": str(error)}, spreads
        if sheet:
            contact_sheet(frames, plan.timestamps_s).save(sheet)
            report["sheet"] = sheet
    return report, spreads


def _of_pictures(path: str, config: VideoConfig, factor: int, temporal_patch: int, *, sheet: str | None) -> Report:
    report: Report = {"kind": "picture", "path": path}
    try:
        info = stills_info(path)
        clip = load_stills(path, config, factor=factor, temporal_patch=temporal_patch)
    except DecodeError as error:
        return report | {"error": str(error)}
    count, _, height, width = clip.frames.shape
    cost = stills_cost(
        count, height=info.height, width=info.width, config=config, factor=factor, temporal_patch=temporal_patch
    )
    report |= {"pictures": count, "width": info.width, "height": info.height, "codec": info.codec}
    report["read_as"] = {"height": height, "width": width, "tokens": cost.tokens}
    if sheet:
        labels = [str(number) for number in range(1, count + 1)]
        contact_sheet(clip.frames, clip.timestamps_s, labels=labels).save(sheet)
        report["sheet"] = sheet
    return report


def _seconds(times_s: np.ndarray) -> list[float]:
    return [round(time_s, 6) for time_s in times_s.tolist()]
