"""PyAV: the default. Brings its own FFmpeg, reads every file that FFmpeg reads, and knows every frame's own pts.

Only what the wanted frames need is decoded: each from the keyframe before it on, and of the frames in between, where
the codec marks them, only those that others refer to. Nothing about the pictures changes by that.
"""

from collections.abc import Iterator

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from vtg.video.clip import DecodeError
from vtg.video.container import open_video
from vtg.video.decoders.picture import resized
from vtg.video.frame_index import FrameIndex
from vtg.video.packet_scan import ffmpeg_reason, rotation_of

# Where more packets than this lie between two stretches to decode, a seek is cheaper than reading past them.
SEEK_PACKETS = 64


def decode(index: FrameIndex, chosen: np.ndarray, *, size: tuple[int, int], exact: bool = True) -> np.ndarray:
    """The frames (T, 3, height, width) uint8 of `index` at `chosen`.

    Raises:
        DecodeError: a wanted frame cannot be decoded; says how far the file can.
    """
    reading = _Reading(index, chosen, size, exact=exact)
    fault = reading.everything() if index.by_order else reading.stretches(decode_stretches(index, index.pts[chosen]))
    if reading.missing and not index.by_order:
        # A marked keyframe may be none, or a seek land behind it (open groups, wrong tables): read all from the start.
        fault = reading.everything()
    if reading.missing:
        first = min(reading.missing.values())
        raise DecodeError(
            f"{index.info.path}: {len(reading.missing)} of {len(chosen)} frames cannot be decoded, the first at "
            f"{index.times_s[chosen[first]]:.3f} s ({fault or 'the decoder left it out'}); "
            "the file is damaged: fetch it again, or drop its rows"
        )
    return reading.frames


def decode_stretches(index: FrameIndex, wanted_pts: np.ndarray) -> list[tuple[int, int]]:
    """First and last packet (positions in `index.packet_pts`) of the stretches that decode the frames with these pts.

    A stretch begins with the last keyframe that is neither shown nor stored after a wanted frame: frames that are
    stored after a keyframe but shown before it (open groups of pictures) need the one before.
    """
    # Stable: of two packets with one time the later stored one counts, as in the index.
    order = np.argsort(index.packet_pts, kind="stable")
    last = order[np.searchsorted(index.packet_pts[order], wanted_pts, side="right") - 1]
    keys = np.flatnonzero(index.packet_is_key)
    stretches: list[tuple[int, int]] = []
    for end, pts in sorted(zip(last.tolist(), wanted_pts.tolist(), strict=True)):
        before = keys[: np.searchsorted(keys, end, side="right")]
        before = before[index.packet_pts[before] <= pts]
        start = int(before[-1]) if len(before) else 0
        if stretches and start <= stretches[-1][1] + 1:
            stretches[-1] = (stretches[-1][0], max(end, stretches[-1][1]))
        else:
            stretches.append((start, end))
    return stretches


class _Reading:
    """The wanted frames, filled in as they are decoded."""

    def __init__(self, index: FrameIndex, chosen: np.ndarray, size: tuple[int, int], *, exact: bool) -> None:
        self.index, self.size, self.exact = index, size, exact
        self.frames = np.empty((len(chosen), 3, *size), dtype=np.uint8)
        self.missing = {int(pts): at for at, pts in enumerate(index.pts[chosen])}
        # Times of the pictures that proved to decode on their own.
        self.intra_pts: set[int] = set()
        # One for all frames: it keeps its swscale context, which is slow to set up.
        self.reformatter = VideoReformatter()

    def everything(self) -> str:
        """Decodes from the start of the file to the last wanted frame; says what stopped it before."""
        done_s = None
        with open_video(self.index.info.path) as (container, stream):
            try:
                for number, frame in enumerate(_frames(container, stream)):
                    if self.index.by_order:
                        pts = int(self.index.pts[min(number, len(self.index.pts) - 1)])
                    elif frame.pts is None:
                        continue
                    else:
                        pts = frame.pts
                    self._take(pts, frame)
                    done_s = float(pts * self.index.time_base) - self.index.info.start_s
                    if not self.missing:
                        return ""
            except (FFmpegError, IndexError) as error:
                end = "nothing decodes" if done_s is None else f"it decodes up to {done_s:.3f} s"
                return f"{end}, then: {ffmpeg_reason(error)}"
        return ""

    def stretches(self, stretches: list[tuple[int, int]]) -> str:
        """Decodes these stretches of packets; says what stopped it before their end."""
        pts_of, is_key = self.index.packet_pts, self.index.packet_is_key
        with open_video(self.index.info.path) as (container, stream):
            context = stream.codec_context
            skips = _marks_reference_frames(stream)
            at = 0 if self.index.is_whole else None  # of the next packet; unknown where it is not the file's first
            packets = (packet for packet in container.demux(stream) if packet.size)
            try:
                for first, last in stretches:
                    if at is None or first - at > SEEK_PACKETS:
                        container.seek(int(pts_of[first]), stream=stream)
                        packets = (packet for packet in container.demux(stream) if packet.size)
                        at = None
                    before = dict(self.missing)
                    for packet in packets:
                        if at is None:
                            if packet.pts != pts_of[first] or not packet.is_keyframe:
                                if packet.is_keyframe and packet.pts is not None and packet.pts > pts_of[first]:
                                    return "a seek landed behind its keyframe"
                                continue
                            at = first
                        if at >= len(pts_of) or packet.pts != pts_of[at] or packet.is_keyframe != is_key[at]:
                            return "the packets are not those of the index"
                        if at >= first:
                            # Set anew for each packet: a wanted frame must come out even if no other refers to it.
                            if skips:
                                wanted = packet.pts in self.missing
                                context.skip_frame = "DEFAULT" if wanted else "NONREF"
                            for frame in context.decode(packet):
                                self._take(frame.pts, frame)
                        at += 1
                        if at > last:
                            break
                    for frame in context.decode(None):
                        self._take(frame.pts, frame)
                    context.flush_buffers()
                    if (first or not self.index.is_whole) and int(pts_of[first]) not in self.intra_pts:
                        # With gradual refresh (x264's intra-refresh) a frame is marked as a keyframe but depends on
                        # others: what was decoded from it is wrong.
                        self.missing |= before
                        return "a keyframe does not decode on its own"
            except (FFmpegError, IndexError) as error:  # IndexError: PyAV, where damage looks like a new stream
                return ffmpeg_reason(error)
        return ""

    def _take(self, pts: int | None, frame: VideoFrame) -> None:
        if pts is None:
            return
        if frame.pict_type == PictureType.I:
            self.intra_pts.add(pts)
        at = self.missing.pop(pts, None)
        if at is None:
            return
        turns = rotation_of(frame) // 90
        if self.exact:
            picture = self.reformatter.reformat(frame, format="rgb24").to_ndarray()
        else:
            height, width = self.size[::-1] if turns % 2 else self.size
            scaled = self.reformatter.reformat(
                frame, width=width, height=height, format="rgb24", interpolation="BICUBIC"
            )
            picture = scaled.to_ndarray()
        if turns:
            picture = np.ascontiguousarray(np.rot90(picture, k=-turns))
        self.frames[at] = resized(picture[None], self.size)[0]


def _frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    for packet in container.demux(stream):
        yield from stream.codec_context.decode(packet)


def _marks_reference_frames(stream: VideoStream) -> bool:
    """Whether FFmpeg's NONREF leaves out only frames that no other frame needs."""
    # H.264 says of every frame whether any other refers to it. HEVC says it for frames of the same temporal layer, so
    # only where there is one layer: the number stands in the header of MP4 and Matroska (ISO/IEC 14496-15, 8.3.3.1).
    name, header = stream.codec_context.name, stream.codec_context.extradata or b""
    return name == "h264" or (name == "hevc" and len(header) > 21 and header[0] == 1 and header[21] >> 3 & 7 == 1)
