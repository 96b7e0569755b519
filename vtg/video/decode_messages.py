"""What a loader and the process that decodes for it send each other (`vtg.video.isolation`, `vtg.video.decode_child`).

A message is four bytes of length and a msgpack body; after the body of an answer with a clip come its frames, as they
lie in memory. Not pickle: a crafted file that takes over the decoder must not get code run in the parent.
"""

import os
import struct
from typing import Any, Self

import msgspec
import numpy as np

from vtg.config.video_settings import VideoConfig
from vtg.errors import ConfigError, RunError, SampleError
from vtg.video.clip import DecodeError
from vtg.video.video_window import VideoWindow

# Exit code of a child that met an error that no file explains; its traceback is the last that it printed. Python itself
# exits with 1 and 2, shells with 126 and more; 70 is EX_SOFTWARE of sysexits.h.
BUG_EXIT = 70

# The first byte from a child: its imports are done, and the time limit of a clip may begin.
READY = b"R"
LENGTH = struct.Struct("<I")
# Fields of a Clip that are sent as bytes: msgpack has no arrays of numbers.
ARRAYS = ("frames", "timestamps_s")

# Errors that the parent raises again as they were raised. The first that fits names an error, so subclasses come first.
ERRORS: dict[str, type[Exception]] = {
    "DecodeError": DecodeError,
    "SampleError": SampleError,
    "ConfigError": ConfigError,
    "RunError": RunError,
    "ImportError": ImportError,
}


class DecodeRequest(msgspec.Struct):
    """What to load, `load_clip(window, config, **options)`; `folder`: the parent's working directory now.

    Path and folder as bytes: file names need not be valid UTF-8, which msgpack's texts have to be.
    """

    path: bytes
    times: dict[str, float | None]
    config: VideoConfig
    options: dict[str, Any]
    folder: bytes

    @classmethod
    def of(cls, window: VideoWindow, config: VideoConfig, options: dict[str, Any]) -> Self:
        """For a window whose path may be relative to the working directory."""
        times = {"start_s": window.start_s, "end_s": window.end_s, "duration_s": window.duration_s}
        return cls(os.fsencode(window.path), times, config, options, os.getcwdb())

    @property
    def window(self) -> VideoWindow:
        """As it was before it was sent."""
        return VideoWindow(os.fsdecode(self.path), **self.times)


class DecodeAnswer(msgspec.Struct):
    """An error, or a clip whose frames follow.

    Attributes:
        error, text: a key of ERRORS and the message; None if there is a clip.
        fields: the Clip's, without its arrays.
        shape: of the frames, which follow as uint8.
        timestamps_s: float64 bytes.
        log: (logger, level, message) of what was logged while decoding; the parent logs it.
        fallbacks: decoders that stood in (`vtg.video.clip_loading.take_fallbacks`).
    """

    error: str | None = None
    text: str = ""
    fields: dict[str, Any] = {}
    shape: tuple[int, ...] = (0,)
    timestamps_s: bytes = b""
    log: list[tuple[str, int, str]] = []
    fallbacks: dict[str, int] = {}


def pack_message(message: DecodeRequest | DecodeAnswer) -> bytes:
    """The message, preceded by its length."""
    body = msgspec.msgpack.encode(message, enc_hook=_plain)
    return LENGTH.pack(len(body)) + body


def _plain(value: Any) -> Any:
    # Times that come out of an array are NumPy scalars, which msgpack does not know.
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"{type(value).__name__} cannot be sent to the process that decodes")
