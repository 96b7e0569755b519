"""Decoders: the frames at given times of a file, by different libraries, all under one contract.

    decode(index, chosen, *, size, exact) -> frames

`index` is the file's FrameIndex, `chosen` (T,) int64 increasing indices into it, `size` (height, width). The result,
(T, 3, height, width) uint8 RGB upright, holds exactly the frames whose presentation times are `index.times_s[chosen]`;
a decoder that cannot give one of them, or sees other times in the file, raises DecodeError. Frames are resized as
stored (the pixel aspect ratio is ignored, as HF's processors do): with `picture.resized` where `exact`, else by
FFmpeg's scaler where the decoder has it.
"""

from typing import Protocol

import numpy as np

from vtg.video.container import probe
from vtg.video.decoders import decord_decoder, ffmpeg_decoder, pyav_decoder, torchcodec_decoder
from vtg.video.frame_index import FrameIndex

__all__ = ["DECODERS", "Decoder", "probe"]


class Decoder(Protocol):
    """The contract above, as a type."""

    def __call__(
        self, index: FrameIndex, chosen: np.ndarray, *, size: tuple[int, int], exact: bool = True
    ) -> np.ndarray: ...


# torchcodec and decord need the `video` extra, ffmpeg the command of that name.
DECODERS: dict[str, Decoder] = {
    "pyav": pyav_decoder.decode,
    "torchcodec": torchcodec_decoder.decode,
    "decord": decord_decoder.decode,
    "ffmpeg": ffmpeg_decoder.decode,
}
"""Name → decoder."""
