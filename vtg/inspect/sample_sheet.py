"""A sheet of frames out of many videos: a few of each sample, each with what it is of."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from vtg.inspect.contact_sheet import contact_sheet
from vtg.inspect.inspection import SheetCell
from vtg.video.episodes.frame_provider import FrameProvider

# (width, height) of a frame, how many a sheet has at most, and in a row; pixels of a column.
CELL, MOST = (320, 240), 60
COLUMNS, WIDTH = 6, 260
GROUND = (24, 24, 24)
# Where a frame cannot be had.
ABSENT = (96, 32, 32)


def sample_sheet(cells: Sequence[SheetCell]) -> tuple[Image.Image, dict[str, str]]:
    """The sheet, and path → why frames of it are missing (they are dark red)."""
    provider = FrameProvider()
    pictures, labels = [], []
    for cell in cells[:MOST]:
        (frame,) = provider.frames_at(cell.record, [cell.time_s], cell.camera)
        pictures.append(_fitted(frame))
        labels.append(cell.label if frame is not None else f"{cell.label}: unreadable")
    columns = next((count for count in (COLUMNS, 5, 4, 3) if len(pictures) % count == 0), COLUMNS)
    columns = min(columns, len(pictures))
    sheet = contact_sheet(
        np.stack(pictures), [0.0] * len(pictures), labels=labels, columns=columns, width=260 * columns
    )
    return sheet, dict(provider.faults)


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
