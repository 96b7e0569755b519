"""Contact sheets: the frames of a clip in a grid, the time burned into each."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Pixels between frames and around them: enough to tell neighbours of one scene apart.
GAP = 4

GROUND, INK, SHADE = (24, 24, 24), (255, 255, 255), (0, 0, 0)
# Width by height that a sheet comes near to where the number of columns is free: it fits a screen without scrolling.
ASPECT = 4 / 3

# Points: below the smallest digits run together, above the largest labels hide small frames.
SMALLEST_FONT, LARGEST_FONT = 9, 30


def contact_sheet(
    frames: np.ndarray | Sequence[np.ndarray],
    timestamps_s: np.ndarray | Sequence[float],
    *,
    labels: Sequence[str] | None = None,
    columns: int | None = None,
    width: int = 1280,
) -> Image.Image:
    """A picture `width` pixels wide with all frames, row by row, each with its time ("12.3 s") in its upper left.

    Args:
        frames: (T, 3, H, W) uint8 RGB.
        timestamps_s: (T,) what is written on them.
        labels: (T,) what is written instead; cut where it is wider than its frame.
        columns: frames a row; None chooses a number that makes the sheet about 4:3.

    Raises:
        ValueError: no frames, another shape, not one time for each frame, or cells narrower than 16 pixels.
    """
    pictures = np.asarray(frames)
    if pictures.ndim != 4 or pictures.shape[1] != 3 or pictures.dtype != np.uint8 or 0 in pictures.shape:
        raise ValueError(f"frames must be (T, 3, H, W) uint8 with T >= 1, not {pictures.shape} {pictures.dtype}")
    count, _, height, frame_width = pictures.shape
    if len(timestamps_s) != count:
        raise ValueError(f"timestamps_s: {len(timestamps_s)} times for {count} frames; give one for each")
    if columns is None:
        columns = min(max(round(math.sqrt(count * ASPECT * height / frame_width)), 1), count)
    if columns < 1 or (width - GAP) // columns - GAP < 16:
        raise ValueError(
            f"columns = {columns}, width = {width}: must give cells of at least 16 pixels; use fewer columns, or a "
            "wider sheet"
        )
    cell_w = (width - GAP) // columns - GAP
    cell_h = max(1, round(cell_w * height / frame_width))
    rows = -(-count // columns)
    sheet = Image.new("RGB", (width, GAP + rows * (cell_h + GAP)), GROUND)
    draw = ImageDraw.Draw(sheet)
    texts = labels or [f"{float(time_s):.1f} s" for time_s in timestamps_s]
    # Names may be of any length: they are cut, and times never are.
    font = ImageFont.load_default(max(SMALLEST_FONT, cell_w // 18)) if labels else _font(texts, cell_w, cell_h)
    for at, (picture, label) in enumerate(zip(pictures, texts, strict=True)):
        x, y = GAP + at % columns * (cell_w + GAP), GAP + at // columns * (cell_h + GAP)
        image = Image.fromarray(picture.transpose(1, 2, 0)).resize((cell_w, cell_h), Image.Resampling.LANCZOS)
        sheet.paste(image, (x, y))
        _write(draw, (x, y), _fitting(label, font, cell_w), font)
    return sheet


def _fitting(label: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The label, without its middle where it is wider than its frame: names begin alike, and times stand at the end."""
    text, kept = label, len(label)
    while kept > 4 and _box(text, font)[2] > width:
        kept -= 1
        text = f"{label[: kept // 2]}…{label[len(label) - kept // 2 :]}"
    return text


def _font(labels: Sequence[str], cell_w: int, cell_h: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The default font, as large as suits the cell and as the longest label fits into it."""
    size = min(max(round(min(cell_w / 9, cell_h / 6)), SMALLEST_FONT), LARGEST_FONT)
    longest = max(labels, key=len)
    # Measured rather than computed: without FreeType Pillow has another default font, of one size.
    while size > SMALLEST_FONT and _box(longest, ImageFont.load_default(size))[2] > cell_w:
        size -= 1
    return ImageFont.load_default(size)


def _box(label: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> tuple[int, int, int, int]:
    """Offset of the text, and width and height of the shaded box around it."""
    left, top, right, bottom = (round(edge) for edge in font.getbbox(label))
    pad = max(2, (bottom - top) // 4)
    return pad - left, pad - top, right - left + 2 * pad, bottom - top + 2 * pad


def _write(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    label: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """White on a black box: legible whatever is behind it."""
    (x, y), (text_x, text_y, box_w, box_h) = corner, _box(label, font)
    draw.rectangle((x, y, x + box_w - 1, y + box_h - 1), fill=SHADE)
    draw.text((x + text_x, y + text_y), label, fill=INK, font=font)
