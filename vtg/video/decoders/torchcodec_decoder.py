"""torchcodec: needs the FFmpeg libraries of the system. Frames are taken by index and checked against their times."""

import numpy as np

from vtg.video.clip import DecodeError
from vtg.video.decoders.picture import resized
from vtg.video.files.video_files import ffmpeg_name
from vtg.video.frame_index import FrameIndex

# Frames held at full size at a time: 100 MB of 1080p.
BATCH = 16


def decode(index: FrameIndex, chosen: np.ndarray, *, size: tuple[int, int], exact: bool = True) -> np.ndarray:
    """The frames (T, 3, height, width) uint8 of `index` at `chosen`.

    Raises:
        DecodeError: torchcodec cannot read the file, or sees other frames or times in it than the container states.
        ImportError: torchcodec is not installed, or finds no FFmpeg libraries.
    """
    path = index.info.path
    try:
        from torchcodec.decoders import VideoDecoder  # pyright: ignore
    # Without FFmpeg's libraries, or with those of another version, it raises a RuntimeError or OSError on import.
    except (ImportError, RuntimeError, OSError) as error:
        raise ImportError(
            "video.decoder = torchcodec: cannot be imported; pip install 'vtg[video]' and install FFmpeg's shared "
            f"libraries ({str(error).strip().splitlines()[0]})"
        ) from error
    if index.format == "mpegts":
        raise DecodeError(f"{path}: torchcodec gives other frames than asked for in MPEG-TS; use video.decoder = pyav")
    # It gives times as floats, while neighbours in a stream are at least one tick apart.
    tolerance_s = max(float(index.time_base) / 2, 1e-6)
    frames = np.empty((len(chosen), 3, *size), dtype=np.uint8)
    try:
        # Opened for each call: it is not thread-safe, and does not survive a fork. One thread: workers fill the cores.
        decoder = VideoDecoder(
            ffmpeg_name(path), stream_index=index.stream_index, dimension_order="NHWC", num_ffmpeg_threads=1
        )
        if decoder.metadata.num_frames != len(index.pts):
            raise DecodeError(
                f"{path}: torchcodec sees {decoder.metadata.num_frames} frames, the container shows {len(index.pts)}; "
                "use video.decoder = pyav"
            )
        for at in range(0, len(chosen), BATCH):
            part = chosen[at : at + BATCH]
            batch = decoder.get_frames_at(part.tolist())
            wrong_s = np.abs(batch.pts_seconds.numpy() - index.info.start_s - index.times_s[part])
            if wrong_s.max() > tolerance_s:
                worst = int(wrong_s.argmax())
                raise DecodeError(
                    f"{path}: torchcodec gives a frame {wrong_s[worst]:.3f} s away from the wanted "
                    f"{index.times_s[part[worst]]:.3f} s; use video.decoder = pyav"
                )
            frames[at : at + BATCH] = resized(batch.data.numpy(), size)
    except DecodeError:
        raise
    except UnicodeEncodeError:
        raise DecodeError(
            f"{path}: torchcodec opens no file whose name is not UTF-8; use video.decoder = pyav"
        ) from None
    except (RuntimeError, ValueError, IndexError) as error:
        raise DecodeError(f"{path}: torchcodec cannot decode it ({str(error).strip().splitlines()[0]})") from error
    return frames
