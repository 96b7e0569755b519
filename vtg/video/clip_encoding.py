"""A decoded clip as bytes, and back: what a file of the clip cache holds.

`raw` stores the exact pixels. `compact` stores them as H.264 in 4:4:4 without reordered frames: about 11 KB for a frame
of 480x256 (a thirtieth of raw) at 41 dB or better on each of nine real clips; a frame takes 0.7 ms to read on one core.
"""

import json
import zlib
from dataclasses import fields
from fractions import Fraction

import av
import numpy as np
from av.codec.context import CodecContext
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from vtg.video.clip import Clip

# Goes up with any change to what is written; entries of another format are decoded again.
FORMAT = 1

CACHE_FORMATS = ("compact", "raw")

# Slower presets save only a twentieth of the size. `psnr`: no psychovisual noise. `fastdecode` (CAVLC, no deblocking)
# halves the reading time for a tenth more bytes. bf=0: without B-frames nothing is reordered, so the n-th picture
# decoded is the n-th frame. g=999: keyframes cost most, and a clip is always read from its first frame on.
X264 = {"preset": "veryfast", "tune": "psnr,fastdecode", "crf": "16", "bf": "0", "g": "999"}

_SCALARS = tuple(field.name for field in fields(Clip) if field.name not in ("frames", "timestamps_s"))


class UnreadableEntry(ValueError):
    """Bytes that are damaged, of another format, or no clip at all."""


def pack_clip(clip: Clip, *, cache_format: str) -> bytes:
    """The clip as the content of a safetensors file: tensors, the other fields as JSON texts, and a checksum."""
    # Late: the cache may be off, and then nothing needs safetensors.
    from safetensors.numpy import save

    height, width = clip.frames.shape[2:]
    frames = {"frames": np.ascontiguousarray(clip.frames)} if cache_format == "raw" else _encode_h264(clip.frames)
    tensors = {**frames, "timestamps_s": np.ascontiguousarray(clip.timestamps_s)}
    # As JSON: floats come back exactly, and so does a file name that is not valid UTF-8.
    texts = {name: json.dumps(getattr(clip, name), default=np.generic.item) for name in _SCALARS}
    texts |= {"format": f"{FORMAT} {cache_format}", "height": str(height), "width": str(width)}
    return save(tensors, {**texts, "checksum": _checksum(tensors, texts)})


def unpack_clip(content: bytes, *, cache_format: str) -> Clip:
    """The clip that `pack_clip` made `content` of.

    Raises:
        UnreadableEntry: damaged, of another format, or not written by `pack_clip`.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        texts = header["__metadata__"]
        if texts["format"] != f"{FORMAT} {cache_format}":
            raise UnreadableEntry(f"format {texts['format']}, not {FORMAT} {cache_format}")
        if texts.pop("checksum") != _checksum(tensors, texts):
            raise UnreadableEntry("damaged: its checksum is another")
        times_s = tensors["timestamps_s"]
        size = len(times_s), int(texts["height"]), int(texts["width"])
        return Clip(
            frames=tensors["frames"] if cache_format == "raw" else _decode_h264(tensors, size),
            timestamps_s=times_s,
            **{name: json.loads(texts[name]) for name in _SCALARS},
        )
    except (SafetensorError, FFmpegError, ValueError, KeyError, TypeError) as error:
        raise UnreadableEntry(f"no whole entry ({error})") from error


def _checksum(tensors: dict[str, np.ndarray], texts: dict[str, str]) -> str:
    # After a power cut a file may have its full length and hold zeros, which would pass for black frames.
    checksum = zlib.crc32(json.dumps(texts, sort_keys=True).encode())
    for name in sorted(tensors):
        checksum = zlib.crc32(tensors[name].data, checksum)
    return f"{checksum:08x}"


def _encode_h264(frames: np.ndarray) -> dict[str, np.ndarray]:
    """Frames (T, 3, H, W) uint8 as H.264: `packets` (bytes,) uint8, end to end, and `sizes` (packets,) int64."""
    encoder = CodecContext.create("libx264", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.height, encoder.width, encoder.pix_fmt = *frames.shape[2:], "yuv444p"
    encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
    # One thread: workers already fill the cores, and the bytes do not depend on their number.
    encoder.thread_count, encoder.options = 1, X264
    packets: list[bytes] = []
    for at, frame in enumerate(frames):
        picture = VideoFrame.from_ndarray(_rgb_to_ycgco(frame), format="yuv444p")
        picture.pts = at
        packets += [bytes(packet) for packet in encoder.encode(picture)]
    packets += [bytes(packet) for packet in encoder.encode(None)]
    sizes = np.array([len(packet) for packet in packets], dtype=np.int64)
    return {"packets": np.frombuffer(b"".join(packets), np.uint8), "sizes": sizes}


def _decode_h264(tensors: dict[str, np.ndarray], size: tuple[int, int, int]) -> np.ndarray:
    """The frames (T, 3, H, W) uint8 of what `_encode_h264` returned, where they are (T, H, W) = `size`."""
    count, height, width = size
    decoder = CodecContext.create("h264", "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.thread_count = 1
    frames = np.empty((count, 3, height, width), np.uint8)
    stream, ends = tensors["packets"].tobytes(), np.cumsum(tensors["sizes"]).tolist()
    packets = [av.Packet(stream[start:end]) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    done = 0
    for packet in [*packets, None]:
        for picture in decoder.decode(packet):
            assert isinstance(picture, VideoFrame)
            if done == count or (picture.height, picture.width) != (height, width):
                raise UnreadableEntry(f"holds other frames than its {count} of {width}x{height}")
            planes = [np.frombuffer(memoryview(plane), np.uint8).reshape(height, -1) for plane in picture.planes]
            _ycgco_to_rgb(*(plane[:, :width] for plane in planes), out=frames[done])
            done += 1
    if done != count:
        raise UnreadableEntry(f"holds {done} of {count} frames")
    return frames


# The colours are stored as YCgCo, not as BT.601: to and fro it loses four times less (55 instead of 49.5 dB), and back
# is six additions, half of what swscale takes. Swscale's ways to convert also differ between versions.


def _rgb_to_ycgco(frame: np.ndarray) -> np.ndarray:
    """RGB (3, H, W) uint8 → Y, Cg, Co (3, H, W) uint8, the last two about 128."""
    red, green, blue = frame.astype(np.int16)
    both, twice = red + blue, 2 * green
    planes = np.stack([(twice + both + 2) >> 2, ((twice - both + 2) >> 2) + 128, ((red - blue + 1) >> 1) + 128])
    return np.minimum(planes, 255).astype(np.uint8)


def _ycgco_to_rgb(y: np.ndarray, cg: np.ndarray, co: np.ndarray, *, out: np.ndarray) -> None:
    """Y, Cg, Co, each (H, W) uint8 → RGB in `out` (3, H, W) uint8."""
    light, orange = y.astype(np.int16), co.astype(np.int16) - 128
    green = cg.astype(np.int16) - 128
    rest = light - green
    light += green
    out[1] = np.clip(light, 0, 255, out=light)
    np.add(rest, orange, out=light)
    out[0] = np.clip(light, 0, 255, out=light)
    rest -= orange
    out[2] = np.clip(rest, 0, 255, out=rest)
