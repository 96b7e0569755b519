"""Still pictures as clips of one or some frames, which have no times."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vtg.config.video_settings import VideoConfig
from vtg.video.clip import Clip, DecodeError
from vtg.video.clip_cost import stills_cost
from vtg.video.files import video_files
from vtg.video.files.address import parts_of
from vtg.video.frame_index import VideoInfo

# What rows name by `PICTURE_ENDINGS`; Pillow's readers of rarer formats are not let at files from anywhere.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")


def load_stills(
    path: str, config: VideoConfig, *, factor: int = 32, temporal_patch: int = 2, side: int | None = None
) -> Clip:
    """Reads one picture, or several that a name joins, upright and at the size that frames of a clip would have.

    Several are made of one size, as frames are: that of the first, whatever the shape of the others.

    Args:
        factor, temporal_patch, side: as `vtg.video.clip_loading.load_clip` takes them.

    Raises:
        DecodeError: a file cannot be read.
    """
    names = parts_of(path)
    pictures = [_upright(name) for name in names]
    cost = stills_cost(
        len(pictures),
        height=pictures[0].height,
        width=pictures[0].width,
        config=config,
        factor=factor,
        temporal_patch=temporal_patch,
        side=side,
    )
    frames = [np.asarray(picture.resize((cost.width, cost.height), Image.Resampling.BICUBIC)) for picture in pictures]
    return Clip(
        frames=np.ascontiguousarray(np.stack(frames).transpose(0, 3, 1, 2)),
        timestamps_s=np.arange(len(frames), dtype=np.float64),
        duration_s=stills_duration_s(path),
        path=path,
        start_s=0.0,
        end_s=stills_duration_s(path),
    )


def stills_duration_s(path: str) -> float:
    """Of the clip that stands for pictures, in which nothing lasts: a second for each."""
    return float(len(parts_of(path)))


def stills_info(path: str) -> VideoInfo:
    """Facts of pictures from their headers; the size is that of the first, upright. Raises DecodeError."""
    facts = [_facts(name) for name in parts_of(path)]
    width, height, codec = facts[0]
    return VideoInfo(
        path=path,
        duration_s=stills_duration_s(path),
        declared_s=None,
        width=width,
        height=height,
        fps=1.0,
        frames=len(facts),
        codec=codec,
        rotation=0,
        start_s=0.0,
    )


def _upright(path: str) -> Image.Image:
    with _opened(path) as picture:
        return ImageOps.exif_transpose(picture).convert("RGB")


def _facts(path: str) -> tuple[int, int, str]:
    """Width, height, format."""
    with _opened(path) as picture:
        width, height = picture.size
        # Orientations 5 to 8 lie on their side.
        if picture.getexif().get(0x0112, 1) >= 5:
            width, height = height, width
        return width, height, (picture.format or "").lower()


@contextmanager
def _opened(path: str) -> Iterator[Image.Image]:
    try:
        with _source(path) as source, Image.open(source, formats=FORMATS) as picture:
            yield picture
    except UnidentifiedImageError:
        known = ", ".join(FORMATS)
        raise DecodeError(f"{path}: not a readable picture ({known}); check that the download is complete") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DecodeError(f"{path}: the picture cannot be read ({error}); check the file") from error


@contextmanager
def _source(path: str) -> Iterator[IO[bytes]]:
    """The picture's bytes: of a file, a member of a tar file, or an object in a store."""
    if video_files.is_remote(path):
        with video_files.open_remote(path) as file:
            yield file
        return
    holder, member = video_files.split_member(path)
    with open(holder, "rb") as file:
        if member is None:
            yield file
            return
        first, size = video_files.member_range(holder, member)
        file.seek(first)
        yield BytesIO(file.read(size))
