"""A sheet of frames out of many videos: a few of each sample, each with what it is of."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from vtg.config.video_settings import VideoConfig
from vtg.inspect.contact_sheet import contact_sheet
from vtg.inspect.inspection import SheetCell
from vtg.video.clip import DecodeError
from vtg.video.episodes.frame_provider import FrameProvider
from vtg.video.files.address import is_picture
from vtg.video.still_loading import load_stills

# (width, height) of a frame, how many a sheet has at most, and in a row; pixels of a column.
CELL, MOST = (320, 240), 60
COLUMNS, WIDTH = 6, 260
GROUND = (24, 24, 24)
# Where a frame cannot be had.
ABSENT = (96, 32, 32)


def sample_sheet(cells: Sequence[SheetCell]) -> tuple[Image.Image, dict[str, str]]:
    """The sheet, and path → why frames of it are missing (they are dark red)."""
    provider, faults = FrameProvider(), dict[str, str]()
    pictures, labels = [], []
    for cell in cells[:MOST]:
        part = cell.record.part(cell.camera)
        if part is not None and is_picture(part.path):
            frame = _still(part.path, faults)
        else:
            (frame,) = provider.frames_at(cell.record, [cell.time_s], cell.camera)
        pictures.append(_fitted(frame))
        labels.append(cell.label if frame is not None else f"{cell.label}: unreadable")
    columns = next((count for count in (COLUMNS, 5, 4, 3) if len(pictures) % count == 0), COLUMNS)
    columns = min(columns, len(pictures))
    sheet = contact_sheet(
        np.stack(pictures), [0.0] * len(pictures), labels=labels, columns=columns, width=260 * columns
    )
    return sheet, provider.faults | faults


def _still(path: str, faults: dict[str, str]) -> np.ndarray | None:
    """(3, H, W) uint8 of a picture; None, and the reason in `faults`, where it cannot be read."""
    try:
        return load_stills(path, VideoConfig()).frames[0]
    except DecodeError as error:
        faults[path] = str(error)
        return None


def _fitted(frame: np.ndarray | None) -> np.ndarray:
    """(3, H, W) of one size: a frame within a dark ground."""
    ground = Image.new("RGB", CELL, ABSENT if frame is None else GROUND)
    if frame is not None:
        picture = Image.fromarray(np.ascontiguousarray(frame.transpose(1, 2, 0)))
        scale = min(CELL[0] / picture.width, CELL[1] / picture.height)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        ground.paste(
            picture.resize(size, Image.Resampling.LANCZOS), ((CELL[0] - size[0]) // 2, (CELL[1] - size[1]) // 2)
        )
    return np.asarray(ground).transpose(2, 0, 1)
