"""decord: unmaintained, but many scripts name it. Files whose times it gets wrong, or could hang on, are refused."""

import os

import numpy as np

from vtg.video.clip import DecodeError
from vtg.video.decoders.picture import resized
from vtg.video.files.video_files import ffmpeg_name
from vtg.video.frame_index import FrameIndex

# decord keeps times as 32-bit floats: over an hour they are exact to a few tenths of a millisecond only.
TOLERANCE_S = 2e-3

# decord asks its decoding thread for the last frames in a loop without pauses, and gives up after 10,240 rounds: too
# few on a busy machine. Files that would keep it in the loop are refused before it opens them.
EOF_ATTEMPTS = "100000"

# Frames held at full size at a time: 100 MB of 1080p.
BATCH = 16


def decode(index: FrameIndex, chosen: np.ndarray, *, size: tuple[int, int], exact: bool = True) -> np.ndarray:
    """The frames (T, 3, height, width) uint8 of `index` at `chosen`.

    Raises:
        DecodeError: decord cannot read the file, or sees other frames or times in it than the container states.
        ImportError: decord is not installed.
    """
    path = index.info.path
    os.environ.setdefault("DECORD_EOF_RETRY_MAX", EOF_ATTEMPTS)
    try:
        import decord  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError("video.decoder = decord: is not installed; pip install 'vtg[video]'") from error
    decord.logging.set_level(decord.logging.QUIET)
    if index.info.frames not in (None, len(index.pts)):
        # It may wait for ever for the frames that the header promises.
        raise DecodeError(
            f"{path}: the header counts {index.info.frames} frames, but {len(index.pts)} are shown, which decord gets "
            "wrong; use video.decoder = pyav"
        )
    if index.format == "mpegts":
        raise DecodeError(f"{path}: decord gives other frames than asked for in MPEG-TS; use video.decoder = pyav")
    try:
        reader = decord.VideoReader(ffmpeg_name(path), ctx=decord.cpu(0), num_threads=1)
        _check_times(index, reader)
        frames = np.empty((len(chosen), 3, *size), dtype=np.uint8)
        for at in range(0, len(chosen), BATCH):
            batch = reader.get_batch(chosen[at : at + BATCH].tolist()).asnumpy()
            frames[at : at + BATCH] = resized(batch, size)
    except UnicodeEncodeError:
        raise DecodeError(f"{path}: decord opens no file whose name is not UTF-8; use video.decoder = pyav") from None
    except (decord.DECORDError, RuntimeError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise DecodeError(f"{path}: decord cannot decode it ({lines[0] if lines else 'no reason given'})") from error
    return frames


def _check_times(index: FrameIndex, reader) -> None:
    if len(reader) != len(index.pts):
        raise DecodeError(
            f"{index.info.path}: decord sees {len(reader)} frames, the container shows {len(index.pts)}; "
            "use video.decoder = pyav"
        )
    # decord counts times from its first frame, whatever time that has.
    seen_s = reader.get_frame_timestamp(range(len(reader)))[:, 0].astype(np.float64)
    wrong_s = np.abs((seen_s - seen_s[0]) - (index.times_s - index.times_s[0]))
    if wrong_s.max() > TOLERANCE_S:
        worst = int(wrong_s.argmax())
        raise DecodeError(
            f"{index.info.path}: decord puts the frame of {index.times_s[worst]:.3f} s {wrong_s[worst]:.3f} s away; "
            "use video.decoder = pyav"
        )
