"""What a video file says of itself: its facts, and the presentation time of every frame, read without decoding.

Time zero of a file is its container's start time, as players show it: an MPEG-TS that starts at 10.012 s or a Matroska
file that starts at 7.5 s begins at 0 here. All times come from the container's presentation timestamps (PTS), never
from a frame count and a rate. The video is the first video stream that is no cover picture. Frames that an edit list
hides, frames before the first keyframe and the hidden frames of VP8 are not shown, and so have no time.
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import IO, Any

import av
import av.logging
import numpy as np
from av.container import InputContainer
from av.error import ArgumentError, FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vtg.video.clip import DecodeError
from vtg.video.files import formats
from vtg.video.files import video_files as storage

SEEKABLE = ("mov", "mp4", "matroska", "webm")
"""Formats whose header or tail says where the keyframes are."""

LONGEST_S = 1e6
"""No recording lasts that many seconds (11 days): such a time is damage."""

SHORT_TOLERANCE_S = 1.0
SHORT_TOLERANCE = 0.05
"""A file whose frames end earlier than its header says by more than this (s, share of its length) is cut off."""

READ_ANY_METADATA: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
"""Titles that are not UTF-8 must not make a video unreadable: PyAV 19 reads all, without the argument."""


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """Facts of a file.

    Attributes:
        duration_s: from the container's start to the end of the last frame.
        declared_s: the length the header gives to the whole file, sound included; None if it gives none.
        width, height: of the upright picture, in stored pixels (the pixel aspect ratio is ignored, as HF does).
        fps: average rate of the stream, 0 if unknown.
        frames: number of stored frames as the header counts them, None if it does not.
        rotation: degrees clockwise (0, 90, 180, 270) that turn the stored picture upright.
        start_s: container start time, the file's own time of zero here.
    """

    path: str
    duration_s: float
    declared_s: float | None
    width: int
    height: int
    fps: float
    frames: int | None
    codec: str
    rotation: int
    start_s: float


@dataclass(frozen=True, repr=False, eq=False)
class FrameIndex:
    """Every shown frame of a file, or of a part of it.

    Attributes:
        times_s: (N,) float64, strictly increasing: presentation times, 0 = the container's start.
        pts: (N,) int64: the same in ticks of `time_base`, as stored.
        is_key: (N,) bool: frames that decode on their own.
        packet_pts: (M,) int64: of every stored frame, hidden ones included, in the order of decoding.
        packet_is_key: (M,) bool: which of these decode on their own.
        stream_index: of the video stream within the container.
        format: FFmpeg's name of the container format.
        fault: why the file cannot be read to its end; None if it can.
        is_whole: no part was asked for: the first packet is the file's first.
    """

    info: VideoInfo
    times_s: np.ndarray
    pts: np.ndarray
    is_key: np.ndarray
    packet_pts: np.ndarray
    packet_is_key: np.ndarray
    time_base: Fraction
    stream_index: int
    format: str
    fault: str | None
    is_whole: bool = True

    @property
    def by_rank(self) -> bool:
        """The format stores no presentation times (AVI): the n-th shown frame has the n-th time, not its own."""
        return self.format == "avi"

    def __repr__(self) -> str:
        return f"FrameIndex({self.info.path!r}, {len(self.pts)} frames, {self.info.duration_s:.3f} s)"


def probe(path: str) -> VideoInfo:
    """Facts of a file from its header, its first frame and its last packets; the middle is not read where it can seek.

    Raises:
        DecodeError: not a readable video, or one that ends before its header says.
    """
    with open_video(path) as (container, stream):
        scan = _Scan(path, container, stream)
        scan.read(stop_at_first_frame=True)
        first, seen = scan.first_frame, scan.packets
        scan.packets = []
        if _seek_to_end(container, stream):
            scan.read()
        if first is None or not scan.shown() or scan.fault:
            return _sound(read_index(path)).info
        scan.first_frame, scan.packets = first, [*seen, *scan.packets]
        return _sound(scan.index(whole=False)).info


def read_index(path: str) -> FrameIndex:
    """Facts of a file and the times of all its frames. Reads the whole file once and decodes its first frame.

    A file that breaks off is read as far as it goes, and `fault` says so.

    Raises:
        DecodeError: not a readable video, or none of its frames can be decoded.
    """
    with open_video(path) as (container, stream):
        scan = _Scan(path, container, stream)
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
        scan = _Scan(info.path, container, stream)
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
        if scan.fault or not scan.packets or not scan.packets[0][2] or scan.packets[0][0] > first or not scan.shown():
            return None
        return scan.part(info)


def frame_times(path: str) -> np.ndarray:
    """Presentation times (N,) float64 in seconds of all frames that are shown, 0 = the container's start.

    Raises:
        DecodeError: not a readable video, or one that ends before its header says.
    """
    return _sound(read_index(path)).times_s


@contextmanager
def open_video(path: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The opened file and its video stream; FFmpeg's own messages are kept off stderr.

    Raises:
        DecodeError: no such file, not a video, or no video stream in it.
    """
    av.logging.set_level(None)
    with storage.opened(path) as source, _container(path, source) as container:
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
        size = storage.stamp(path)[0]
        # What it says of a format that is not allowed, among other things.
        other = (
            ", or of a format that is not opened, as playlists and still images"
            if isinstance(error, ArgumentError)
            else ""
        )
        held = f"; {size} bytes" if size > 0 or not storage.is_remote(path) else ""
        raise DecodeError(
            f"{path}: not a readable video ({_reason(error)}{other}{held}); "
            "check that the download is complete, and no web page"
        ) from None


def rotation_of(frame: VideoFrame) -> int:
    """Degrees clockwise, to the nearest quarter turn, that turn a decoded frame upright."""
    return -round(frame.rotation / 90) * 90 % 360


class _Scan:
    """One pass over the packets of a stream."""

    def __init__(self, path: str, container: InputContainer, stream: VideoStream) -> None:
        self.path, self.container, self.stream = path, container, stream
        # (pts, packet duration, keyframe, shown)
        self.packets: list[tuple[int, int, bool, bool]] = []
        self.first_frame: VideoFrame | None = None
        self.fault = ""

    def read(self, *, decodes: bool = True, stop_at_first_frame: bool = False, stop_pts: int | None = None) -> None:
        """Reads packets to the end, to the first frame, or until no packet can belong before `stop_pts`."""
        context = self.stream.codec_context
        decode_fault = ""
        try:
            for packet in self.container.demux(self.stream):
                if stop_pts is not None and packet.dts is not None and packet.dts >= stop_pts:
                    return  # a frame is never shown before it is decoded
                if packet.size:
                    self._add(packet)
                if decodes and self.first_frame is None:
                    try:
                        frames = context.decode(packet)
                    except FFmpegError as error:
                        decode_fault = _reason(error)
                        continue
                    if frames:
                        self.first_frame = frames[0]
                        if stop_at_first_frame:
                            return
        except (FFmpegError, IndexError) as error:  # IndexError: PyAV, where damage looks like a new stream
            self.fault = _reason(error)
        if decodes and self.first_frame is None:
            self.fault = self.fault or decode_fault

    def _add(self, packet: Packet) -> None:
        if packet.pts is None:
            raise DecodeError(
                f"{self.path}: a frame without a presentation time; write it anew: ffmpeg -i IN -c:v libx264 OUT.mp4"
            )
        shown = not packet.is_discard and (self.stream.codec_context.name != "vp8" or bool(bytes(packet)[0] & 0x10))
        self.packets.append((packet.pts, packet.duration or 0, packet.is_keyframe, shown))

    def shown(self) -> list[tuple[int, int, bool, bool]]:
        """Shown packets in order of their times."""
        first_key = next((at for at, packet in enumerate(self.packets) if packet[2]), 0)
        return sorted({packet[0]: packet for packet in self.packets[first_key:] if packet[3]}.values())

    def index(self, *, whole: bool) -> FrameIndex:
        shown, stream, frame = self.shown(), self.stream, self.first_frame
        if frame is None or not shown:
            cause = self.fault or ("no frames in it" if not self.packets else f"{stream.codec_context.name}")
            raise DecodeError(f"{self.path}: no frame of the video can be decoded ({cause}); check the file")
        tick = stream.time_base
        assert tick is not None  # every demuxed stream has one
        start_time = self.container.start_time
        start_s = first_s = float(shown[0][0] * tick)
        # Rounded to microseconds, which must not put the first frame before zero.
        if start_time is not None and abs(start_time / av.time_base - first_s) > 1 / av.time_base:
            start_s = start_time / av.time_base
        rate = float(stream.average_rate or 0)
        pts = np.array([packet[0] for packet in shown], dtype=np.int64)
        last_s = float(shown[-1][1] * tick) or (1 / rate if rate else float(np.median(np.diff(pts)) * tick))
        rotation = rotation_of(frame)
        height, width = (frame.width, frame.height) if rotation % 180 else (frame.height, frame.width)
        declared = self.container.duration
        info = VideoInfo(
            path=self.path,
            duration_s=float(pts[-1] * (tick.numerator / tick.denominator) - start_s) + last_s,
            declared_s=None if declared is None else declared / av.time_base,
            width=width,
            height=height,
            fps=rate,
            frames=stream.frames or None,
            codec=stream.codec_context.name,
            rotation=rotation,
            start_s=start_s,
        )
        if info.duration_s > LONGEST_S:
            raise DecodeError(
                f"{self.path}: its last frame is at {info.duration_s:.10g} s; the times are damaged: write it anew, or "
                "drop its rows"
            )
        return self._frames(info, fault=self._fault(info, self._stream_s(start_s), whole=whole), is_whole=True)

    def part(self, info: VideoInfo) -> FrameIndex:
        return self._frames(info, fault=None, is_whole=False)

    def _frames(self, info: VideoInfo, *, fault: str | None, is_whole: bool) -> FrameIndex:
        tick = self.stream.time_base
        assert tick is not None
        shown = self.shown()
        pts = np.array([packet[0] for packet in shown], dtype=np.int64)
        return FrameIndex(
            info=info,
            times_s=pts * (tick.numerator / tick.denominator) - info.start_s,
            pts=pts,
            is_key=np.array([packet[2] for packet in shown], dtype=bool),
            packet_pts=np.array([packet[0] for packet in self.packets], dtype=np.int64),
            packet_is_key=np.array([packet[2] for packet in self.packets], dtype=bool),
            time_base=Fraction(tick.numerator, tick.denominator),  # PyAV 19 has a type of its own
            stream_index=self.stream.index,
            format=self.container.format.name,
            fault=fault,
            is_whole=is_whole,
        )

    def _stream_s(self, start_s: float) -> float | None:
        """The length that the header gives to the video stream; Matroska states its end, in a tag or for the file."""
        stream = self.stream
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        if tag := re.fullmatch(
            r"(\d{1,6}):(\d{1,2}):(\d{1,2}(?:\.\d*)?)", stream.metadata.get("DURATION", ""), re.ASCII
        ):
            return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3]) - start_s
        if self.container.duration is not None and len(self.container.streams) == 1:
            return self.container.duration / av.time_base - start_s
        return None

    def _fault(self, info: VideoInfo, stream_s: float | None, *, whole: bool) -> str | None:
        stored = len(self.packets)
        # Only MP4 and MOV list every frame in their header; others count loosely. What an edit list cuts off is in that
        # count, but not in the table that the demuxer goes by.
        listed = min(self.stream.frames, len(self.stream.index_entries)) if "mp4" in self.container.format.name else 0
        short_s = 0.0 if stream_s is None else stream_s - info.duration_s
        is_short = short_s > max(SHORT_TOLERANCE_S, SHORT_TOLERANCE * (stream_s or 0.0))
        if not (self.fault or (whole and stored < listed) or is_short):
            return None
        count = f"{stored} of {listed} frames" if whole and listed else "frames"
        length = f" of {stream_s:.2f} s" if stream_s else ""
        cause = f" ({self.fault})" if self.fault else ""
        return f"the file breaks off: {count} can be read, up to {info.duration_s:.2f} s{length}{cause}; fetch it again"


def _seek_to_end(container: InputContainer, stream: VideoStream) -> bool:
    """Moves to the last keyframe; False where the file cannot seek."""
    try:
        container.seek(1 << 62, stream=stream)
    except FFmpegError:
        return False
    return True


def _sound(index: FrameIndex) -> FrameIndex:
    if index.fault:
        raise DecodeError(f"{index.info.path}: {index.fault}")
    return index


def _reason(error: Exception) -> str:
    """FFmpeg's words for an error, without number and path."""
    return (error.strerror if isinstance(error, FFmpegError) else None) or str(error)
