"""Files of the shelf as a browser plays them: as they lie there, or encoded again where browsers cannot play them."""

import threading
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse

from vtg.app.shelf import Shelf, ShelvedVideo, is_plain_file
from vtg.errors import SampleError
from vtg.video.container import open_video, probe
from vtg.video.episodes.frame_provider import FrameProvider
from vtg.video.episodes.records import FilePart, VideoRecord
from vtg.video.frame_index import VideoInfo
from vtg.video.time_limit import within

# Media type → (ends of file names, decoders of codecs) that Chromium, Firefox and Safari all play.
PLAYED = {
    "video/mp4": ((".mp4", ".m4v", ".mov"), ("h264",)),
    "video/webm": ((".webm",), ("vp8", "vp9")),
}

# Pixels of eight bits, which all of them show.
PLAYED_PIXELS = ("yuv420p", "yuvj420p", "yuva420p")

# Players count from the first frame, vtg from the container's start: apart by more than this, a span would be off.
START_TOLERANCE_S = 0.1

# Longer videos are not encoded again for a browser: somebody waits for it.
MOST_ENCODED_S = 600.0

# Of reading a file's facts: a file may be damaged so that its reader hangs.
PROBE_TIMEOUT_S = 20.0


class Media:
    """What a browser is given of a video of the shelf. Safe under threads."""

    def __init__(self, shelf: Shelf, folder: Path) -> None:
        """`folder`: where videos encoded again are kept; whoever made it removes it."""
        self.shelf = shelf
        self._provider = FrameProvider(clip_dir=folder)
        self._encoding = threading.Semaphore(1)  # one at a time: an encoder takes every core

    def described(self, key: str) -> dict[str, Any]:
        """What the page is told of a video: its facts, and why a browser cannot play it, or null.

        Raises:
            SampleError: an unknown key, or a video that cannot be read.
        """
        video = self.shelf.get(key)
        info = facts(video)
        told = {name: getattr(info, name) for name in ("duration_s", "width", "height", "fps", "codec")}
        return {"video": key, "name": video.name, **told, "unplayable": why_not_played(video, info)}

    def playable(self, key: str) -> tuple[str, str]:
        """(file, media type) of what a browser can play of a video, its times as vtg counts them.

        Raises:
            SampleError: an unknown key, a video that cannot be read, or one too long to be encoded for a browser.
        """
        video = self.shelf.get(key)
        info = facts(video)
        if kind := played_as(video, info):
            return video.path, kind
        if reason := why_not_played(video, info):
            raise SampleError(reason)
        with self._encoding:
            record = VideoRecord({"video": FilePart(video.path)}, Path(video.name).stem)
            try:
                return self._provider.episode_clip_path(record), "video/mp4"
            except SampleError as error:
                raise video.told(error) from error


def facts(video: ShelvedVideo) -> VideoInfo:
    """`probe` with a time limit.

    Raises:
        SampleError: not a readable video, or one that takes too long to be read.
    """
    try:
        return within(PROBE_TIMEOUT_S, probe, video.path)
    except TimeoutError:
        reason = f"cannot be read within {PROBE_TIMEOUT_S:.0f} s; the file may be damaged"
        raise SampleError(f"{video.name}: {reason}") from None
    except SampleError as error:
        raise video.told(error) from error


def played_as(video: ShelvedVideo, info: VideoInfo) -> str | None:
    """The media type under which browsers play a file as it is; None where some do not, or it lies elsewhere."""
    suffix = Path(video.path).suffix.lower()
    kind = next((kind for kind, (ends, codecs) in PLAYED.items() if suffix in ends and info.codec in codecs), None)
    if kind is None or not is_plain_file(video.path) or abs(info.start_s) > START_TOLERANCE_S:
        return None
    with open_video(video.path) as (_, stream):
        return kind if stream.codec_context.pix_fmt in PLAYED_PIXELS else None


def why_not_played(video: ShelvedVideo, info: VideoInfo) -> str | None:
    """What keeps a browser from playing a video, even encoded again; None where nothing does."""
    if info.duration_s <= MOST_ENCODED_S or played_as(video, info):
        return None
    return (
        f"{video.name}: browsers cannot play it as it is ({info.codec}), and {info.duration_s:.0f} s are too many to "
        f"be encoded for them here (at most {MOST_ENCODED_S:.0f} s); make an H.264 mp4 of it"
    )


def media_router(media: Media) -> APIRouter:
    """`GET /videos/KEY`: its facts; `GET /videos/KEY/file`: the video, whole or the range that a player asks for."""
    router = APIRouter(prefix="/videos")

    @router.get("/{key}")
    def described(key: str) -> dict[str, Any]:
        return media.described(key)

    @router.get("/{key}/file")
    def file(key: str) -> FileResponse:
        path, kind = media.playable(key)
        return FileResponse(path, media_type=kind)  # answers Range by itself

    return router
