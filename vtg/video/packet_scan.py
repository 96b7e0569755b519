"""One pass over the packets of a video stream, and the facts and frame times that they and the header tell."""

import re
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vtg.video.clip import DecodeError
from vtg.video.frame_index import FrameIndex, VideoInfo

# No recording lasts that many seconds (11 days): such a time is damage.
LONGEST_S = 1e6

# A file whose frames end earlier than its header says by more than both (seconds, share of its length) was cut off.
# Less is usual: headers round, and count the last frame's duration or not.
SHORT_TOLERANCE_S = 1.0
SHORT_TOLERANCE = 0.05

# PyAV before 17 does not show the demuxer's table, without which a count of frames proves nothing.
KNOWS_INDEX = hasattr(VideoStream, "index_entries")


class StoredFrame(NamedTuple):
    """One packet of the video stream: presentation time and duration in ticks, and what its flags say."""

    pts: int
    duration: int
    is_key: bool
    is_shown: bool


class PacketScan:
    """One pass over the packets of a stream, in the order of decoding.

    Attributes:
        packets: those read so far.
        first_frame: the first picture that decoded; it tells the size and rotation for certain.
        fault: FFmpeg's reason where reading or decoding stopped early, else "".
    """

    def __init__(self, path: str, container: InputContainer, stream: VideoStream) -> None:
        self.path, self.container, self.stream = path, container, stream
        self.packets: list[StoredFrame] = []
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
                        decode_fault = ffmpeg_reason(error)
                        continue
                    if frames:
                        self.first_frame = frames[0]
                        if stop_at_first_frame:
                            return
        except (FFmpegError, IndexError) as error:  # IndexError: PyAV, where damage looks like a new stream
            self.fault = ffmpeg_reason(error)
        if decodes and self.first_frame is None:
            self.fault = self.fault or decode_fault

    def _add(self, packet: Packet) -> None:
        if packet.pts is None:
            raise DecodeError(
                f"{self.path}: a frame without a presentation time; write it anew: ffmpeg -i IN -c:v libx264 OUT.mp4"
            )
        # An edit list discards frames. VP8 has hidden reference frames, which no container flag tells: RFC 6386, 9.1,
        # bit 4 of a frame's first byte is `show_frame`.
        is_vp8_hidden = self.stream.codec_context.name == "vp8" and not bytes(packet)[0] & 0x10
        is_shown = not packet.is_discard and not is_vp8_hidden
        self.packets.append(StoredFrame(packet.pts, packet.duration or 0, packet.is_keyframe, is_shown))

    def shown(self) -> list[StoredFrame]:
        """Shown frames in order of their times."""
        # What is stored before the first keyframe cannot be decoded. Of two frames with one time the later counts.
        first_key = next((at for at, packet in enumerate(self.packets) if packet.is_key), 0)
        return sorted({packet.pts: packet for packet in self.packets[first_key:] if packet.is_shown}.values())

    def index(self, *, whole: bool) -> FrameIndex:
        """The file's index; `whole`: all packets were read, so that their number can be held against the header's.

        Raises:
            DecodeError: no frame decodes, or the times are damaged.
        """
        shown, stream, frame = self.shown(), self.stream, self.first_frame
        if frame is None or not shown:
            cause = self.fault or ("no frames in it" if not self.packets else f"{stream.codec_context.name}")
            raise DecodeError(f"{self.path}: no frame of the video can be decoded ({cause}); check the file")
        tick = stream.time_base
        assert tick is not None  # every demuxed stream has one
        start_time = self.container.start_time
        start_s = first_s = float(shown[0].pts * tick)
        # FFmpeg rounds the container's start to microseconds, which must not put the first frame before zero.
        if start_time is not None and abs(start_time / av.time_base - first_s) > 1 / av.time_base:
            start_s = start_time / av.time_base
        rate = float(stream.average_rate or 0)
        pts = np.array([packet.pts for packet in shown], dtype=np.int64)
        last_s = float(shown[-1].duration * tick) or (1 / rate if rate else float(np.median(np.diff(pts)) * tick))
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
        """The index of what was read of a probed file."""
        return self._frames(info, fault=None, is_whole=False)

    def _frames(self, info: VideoInfo, *, fault: str | None, is_whole: bool) -> FrameIndex:
        tick = self.stream.time_base
        assert tick is not None
        shown = self.shown()
        pts = np.array([packet.pts for packet in shown], dtype=np.int64)
        return FrameIndex(
            info=info,
            times_s=pts * (tick.numerator / tick.denominator) - info.start_s,
            pts=pts,
            is_key=np.array([packet.is_key for packet in shown], dtype=bool),
            packet_pts=np.array([packet.pts for packet in self.packets], dtype=np.int64),
            packet_is_key=np.array([packet.is_key for packet in self.packets], dtype=bool),
            time_base=Fraction(tick.numerator, tick.denominator),  # PyAV 19 has a type of its own
            stream_index=self.stream.index,
            format=self.container.format.name,
            fault=fault,
            is_whole=is_whole,
        )

    def _stream_s(self, start_s: float) -> float | None:
        """The length that the header gives to the video stream, None if it gives none."""
        stream = self.stream
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        # Matroska states the stream's end instead, in a tag or for the file.
        if tag := re.fullmatch(
            r"(\d{1,6}):(\d{1,2}):(\d{1,2}(?:\.\d*)?)", stream.metadata.get("DURATION", ""), re.ASCII
        ):
            return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3]) - start_s
        if self.container.duration is not None and len(self.container.streams) == 1:
            return self.container.duration / av.time_base - start_s
        return None

    def _fault(self, info: VideoInfo, stream_s: float | None, *, whole: bool) -> str | None:
        stored = len(self.packets)
        # Only MP4 and MOV list every frame in their header; others count loosely. That count includes what an edit list
        # cuts off, the demuxer's own table does not.
        listed = self.stream.frames if "mp4" in self.container.format.name else 0
        if listed and KNOWS_INDEX:
            listed = min(listed, len(self.stream.index_entries))
        lacks = KNOWS_INDEX and whole and stored < listed
        short_s = 0.0 if stream_s is None else stream_s - info.duration_s
        is_short = short_s > max(SHORT_TOLERANCE_S, SHORT_TOLERANCE * (stream_s or 0.0))
        if not (self.fault or lacks or is_short):
            return None
        count = f"{stored} of {listed} frames" if whole and listed else "frames"
        length = f" of {stream_s:.2f} s" if stream_s else ""
        cause = f" ({self.fault})" if self.fault else ""
        return f"the file breaks off: {count} can be read, up to {info.duration_s:.2f} s{length}{cause}; fetch it again"


def rotation_of(frame: VideoFrame) -> int:
    """Degrees clockwise, to the nearest quarter turn, that turn a decoded frame upright."""
    return -round(frame.rotation / 90) * 90 % 360


def ffmpeg_reason(error: Exception) -> str:
    """FFmpeg's description of an error, without number and path."""
    return (error.strerror if isinstance(error, FFmpegError) else None) or str(error)
