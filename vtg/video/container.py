"""What a video file says of itself: its facts, and the presentation time of every frame, read without decoding.

Time zero of a file is its container's start time, as players show it: an MPEG-TS that starts at 10.012 s or a Matroska
file that starts at 7.5 s begins at 0 here. All times come from the container's presentation timestamps (PTS), never
from a frame count and a rate. The video is the first video stream that is no cover picture. Frames that an edit list
hides, frames before the first keyframe and the hidden frames of VP8 are not shown, and so have no time.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EINVAL
from typing import IO, Any

import av
import av.logging
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from vtg.video.clip import DecodeError
from vtg.video.files import formats, video_files
from vtg.video.files.address import is_picture
from vtg.video.frame_index import FrameIndex, VideoInfo
from vtg.video.packet_scan import PacketScan, ffmpeg_reason
from vtg.video.still_loading import stills_info

# Formats whose header or tail lists the keyframes; in others a seek searches, or lands anywhere.
SEEKABLE = ("mov", "mp4", "matroska", "webm")

# Titles that are not UTF-8 must not make a video unreadable. PyAV 19 reads them all, and no longer has the argument.
READ_ANY_METADATA: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


def probe(path: str) -> VideoInfo:
    """Facts of a file from its header, first frame and last packets; a file that can seek is not read in between.

    Raises:
        DecodeError: not a readable video, or one that ends before its header says.
    """
    if is_picture(path):
        return stills_info(path)
    with open_video(path) as (container, stream):
        scan = PacketScan(path, container, stream)
        scan.read(stop_at_first_frame=True)
        first, head_packets = scan.first_frame, scan.packets
        scan.packets = []
        if _seek_to_end(container, stream):
            scan.read()
        # Only reading it all tells how far a damaged file can be read.
        if first is None or not scan.shown() or scan.fault:
            return _sound(read_index(path)).info
        scan.first_frame, scan.packets = first, [*head_packets, *scan.packets]
        return _sound(scan.index(whole=False)).info


def read_index(path: str) -> FrameIndex:
    """Facts of a file and the times of all its frames. Reads the whole file once and decodes its first frame.

    A file that breaks off is read as far as it goes, and `fault` says so.

    Raises:
        DecodeError: not a readable video, or none of its frames can be decoded.
    """
    with open_video(path) as (container, stream):
        scan = PacketScan(path, container, stream)
        scan.read()
        return scan.index(whole=True)


def read_part(info: VideoInfo, start_s: float, end_s: float) -> FrameIndex | None:
    """The index of the frames with start_s <= t < end_s of a probed file, and of what decoding them needs.

    Reads from the keyframe before `start_s` on, however long the file is. None where the format keeps no table to find
    that keyframe by, or the table is wrong: then `read_index` has to read it all.

    Raises:
        DecodeError: not a readable video any more.
    """
    with open_video(info.path) as (container, stream):
        scan = PacketScan(info.path, container, stream)
        tick = stream.time_base
        if not any(name in SEEKABLE for name in container.format.name.split(",")) or tick is None:
            return None
        first = math.floor((start_s + info.start_s) / tick)
        stop = math.ceil((end_s + info.start_s) / tick)
        try:
            container.seek(first, stream=stream)
            scan.read(decodes=False, stop_pts=stop)
        except FFmpegError:
            return None
        if scan.fault or not scan.packets or not scan.shown():
            return None
        # A wrong table leads to a packet that is no keyframe, or lies after the wanted start.
        if not scan.packets[0].is_key or scan.packets[0].pts > first:
            return None
        return scan.part(info)


@contextmanager
def open_video(path: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The opened file and its video stream.

    Raises:
        DecodeError: no such file, not a video, or no video stream in it.
    """
    # FFmpeg writes to stderr by itself, from any thread; what matters of it is in the errors raised.
    av.logging.set_level(None)
    with video_files.opened(path) as source, _container(path, source) as container:
        streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "none"
            raise DecodeError(f"{path}: has no video stream (streams: {kinds}); check that it is the right file")
        if streams[0].codec_context is None:
            raise DecodeError(f"{path}: the codec of its video is unknown; check the file, or re-encode it as H.264")
        # Frame threads can deadlock when reading stops early, and workers already fill the cores.
        streams[0].codec_context.thread_type = "SLICE"
        streams[0].codec_context.thread_count = 1
        yield container, streams[0]


def _container(path: str, source: str | IO[bytes]) -> InputContainer:
    formats.check_head(path, source)
    try:
        return av.open(source, "r", options=formats.options(), **READ_ANY_METADATA)
    except (FFmpegError, ValueError) as error:
        size = video_files.stamp(path)[0]
        # FFmpeg raises this for a format that is not on the list, but for some damaged files as well.
        may_be_refused = isinstance(error, FFmpegError) and error.errno == EINVAL
        other = ", or of a format that is not opened, as playlists and still images" if may_be_refused else ""
        size_text = f"; {size} bytes" if size > 0 or not video_files.is_remote(path) else ""
        raise DecodeError(
            f"{path}: not a readable video ({ffmpeg_reason(error)}{other}{size_text}); "
            "check that the download is complete, and no web page"
        ) from None


def _seek_to_end(container: InputContainer, stream: VideoStream) -> bool:
    """Moves to the last keyframe; False where the file cannot seek."""
    # No time is later than this one, and FFmpeg goes to the keyframe before it. 1 << 63 would overflow.
    try:
        container.seek(1 << 62, stream=stream)
    except FFmpegError:
        return False
    return True


def _sound(index: FrameIndex) -> FrameIndex:
    """`index`, unless it has a fault, which is raised as DecodeError."""
    if index.fault:
        raise DecodeError(f"{index.info.path}: {index.fault}")
    return index
