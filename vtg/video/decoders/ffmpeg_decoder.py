"""The `ffmpeg` command: a process of its own for each call, so that what crashes or hangs in it does no harm here.

It decodes in one pass, from the start of the file or from a keyframe well before the first wanted frame, and passes on
the frames with the wanted presentation timestamps (pts). It writes down the pts of each, which must be the wanted ones.
"""

import os
import re
import selectors
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import closing
from functools import lru_cache
from typing import IO

import numpy as np

from vtg.video.clip import DecodeError
from vtg.video.container import SEEKABLE
from vtg.video.decoders.picture import resized
from vtg.video.files.video_files import ffmpeg_name
from vtg.video.frame_index import FrameIndex

TIMEOUT_S = 120.0

# A seek saves decoding all that lies before it; for less than this it is not worth the risk of a wrong table.
SEEK_S = 10.0

# Frames held at full size at a time; at least one.
BATCH_BYTES = 32 * 2**20

# Frames asked of one process: Linux takes no argument longer than 128 KiB, and each frame's time stands in one.
MOST = 2000

# Degrees clockwise → filters. FFmpeg's own rotation is off (-noautorotate): all decoders turn by the index.
TURNS = {0: "", 90: ",transpose=clock", 180: ",hflip,vflip", 270: ",transpose=cclock"}


def decode(
    index: FrameIndex, chosen: np.ndarray, *, size: tuple[int, int], exact: bool = True, timeout_s: float = TIMEOUT_S
) -> np.ndarray:
    """The frames (T, 3, height, width) uint8 of `index` at `chosen`.

    Raises:
        DecodeError: ffmpeg cannot read the file, sees other times in it than the container states, or takes longer
            than `timeout_s`.
        ImportError: there is no ffmpeg command.
    """
    path = index.info.path
    command = shutil.which("ffmpeg")
    if command is None:
        raise ImportError("video.decoder = ffmpeg: no ffmpeg command; install ffmpeg (apt-get install ffmpeg)")
    if index.format == "avi":
        raise DecodeError(
            f"{path}: AVI stores no presentation times, and the ffmpeg command makes up other ones; use "
            "video.decoder = pyav"
        )
    frames = np.empty((len(chosen), 3, *size), dtype=np.uint8)
    deadline = time.monotonic() + timeout_s
    try:
        for at in range(0, len(chosen), MOST):
            part = chosen[at : at + MOST]
            seek_s = _seek_s(index, int(part[0]))
            try:
                _fill(frames[at : at + MOST], command, index, part, exact=exact, seek_s=seek_s, deadline=deadline)
            except DecodeError:
                if seek_s is None:
                    raise
                # The table of keyframes may be wrong, or a marked frame no real keyframe: decode from the start.
                _fill(frames[at : at + MOST], command, index, part, exact=exact, seek_s=None, deadline=deadline)
    except TimeoutError:
        raise DecodeError(
            f"{path}: ffmpeg took longer than {timeout_s:.10g} s; the file may be damaged so that its decoder "
            "hangs: check it, or drop its rows"
        ) from None
    return frames


def selection(pts: np.ndarray, stored_pts: np.ndarray) -> str:
    """An expression of ffmpeg's, true for the frames with these pts, at a cost of log T for each frame.

    Args:
        pts: (T,) int64 increasing, wanted.
        stored_pts: (N,) int64 increasing, of all frames. Runs of it are taken as one.
    """
    ranks = np.searchsorted(stored_pts, pts)
    starts = np.flatnonzero(np.diff(ranks, prepend=-2) != 1)
    runs = [(int(run[0]), int(run[-1])) for run in np.split(pts, starts[1:])]

    def tree(low: int, high: int) -> str:
        if high - low == 1:
            first, last = runs[low]
            return f"eq(pts,{first})" if first == last else f"between(pts,{first},{last})"
        middle = (low + high) // 2
        return f"if(lt(pts,{runs[middle][0]}),{tree(low, middle)},{tree(middle, high)})"

    return tree(0, len(runs))


def _seek_s(index: FrameIndex, first: int) -> float | None:
    """The time of the keyframe to begin at for the frame at `first`; None for the file's start."""
    if not any(name in SEEKABLE for name in index.format.split(",")):
        return None
    # The last keyframe but one: in open groups of pictures frames that follow a keyframe refer to what is before it.
    keys = np.flatnonzero(index.is_key[: first + 1])
    seek_s = float(index.times_s[keys[-2] if len(keys) > 1 else 0])
    return seek_s if seek_s > SEEK_S else None


def _fill(
    frames: np.ndarray,
    command: str,
    index: FrameIndex,
    chosen: np.ndarray,
    *,
    exact: bool,
    seek_s: float | None,
    deadline: float,
) -> None:
    """Decodes into `frames` (T, 3, height, width) by one process.

    Raises:
        DecodeError: not these frames. TimeoutError: not until `deadline`.
    """
    path, wanted = index.info.path, index.pts[chosen]
    height, width = (index.info.height, index.info.width) if exact else frames.shape[2:]
    done = 0
    # Files, not pipes: nobody reads times and messages while frames are awaited, and a full pipe would stop ffmpeg.
    with tempfile.TemporaryFile() as times, tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(
            _command_line(command, index, chosen, (height, width), exact=exact, seek_s=seek_s, times=times.fileno()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=messages,
            bufsize=0,
            pass_fds=(times.fileno(),),
        )
        try:
            with closing(_batches(process, (height, width), len(wanted), deadline)) as batches:
                for pictures in batches:
                    frames[done : done + len(pictures)] = resized(pictures, frames.shape[2:])
                    done += len(pictures)
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        finally:
            # Ctrl-C too must leave no process behind.
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        times.seek(0)
        seen = np.array(
            [int(pts) for pts in re.findall(rb"^frame:.*\bpts:(-?\d+)", times.read(), re.M)], dtype=np.int64
        )
        messages.seek(0)
        reason = _last_message(messages.read().decode(errors="replace"), path)
    if len(seen) < done:
        raise DecodeError(f"{path}: ffmpeg gives {done} frames, but times of {len(seen)}; use video.decoder = pyav")
    wrong = np.flatnonzero(seen[:done] != wanted[:done])
    if len(wrong):
        at_s, seen_s = (float(int(each[wrong[0]]) * index.time_base) - index.info.start_s for each in (wanted, seen))
        raise DecodeError(
            f"{path}: ffmpeg gives the frame of {seen_s:.3f} s instead of the wanted one of {at_s:.3f} s; "
            "use video.decoder = pyav"
        )
    if done < len(wanted):
        raise DecodeError(
            f"{path}: ffmpeg gives {done} of {len(wanted)} frames, not the one at {index.times_s[chosen[done]]:.3f} s "
            f"({reason or 'it gives no reason'}); check the file"
        )


def _command_line(
    command: str,
    index: FrameIndex,
    chosen: np.ndarray,
    size: tuple[int, int],
    *,
    exact: bool,
    seek_s: float | None,
    times: int,
) -> list[str]:
    """What writes the upright pictures of this (height, width) on stdout and their pts into the open file `times`."""
    upright = size if index.info.rotation % 180 == 0 else size[::-1]
    height, width = upright
    if exact:
        # A picture of another size than the first one's is refused: resizing it twice is not exact.
        convert = f"scale=flags=bicubic,format=rgb24,crop=w='if(eq(iw,{width})*eq(ih,{height}),{width},-1)':h={height}"
    else:
        convert = f"scale=w={width}:h={height}:flags=bicubic,format=rgb24"
    tick = f"{index.time_base.numerator}/{index.time_base.denominator}"
    graph = (
        f"settb=expr={tick},select='{selection(index.pts[chosen], index.pts)}',"
        rf"metadata=mode=add:key=vtg:value=1,metadata=mode=print:file=pipe\\:{times},"
        f"{convert}{TURNS[index.info.rotation]}"
    )
    source = ffmpeg_name(index.info.path)
    address = source if source.startswith("subfile,,") else f"file:{source}"
    # The format and the protocol are stated so that no text can pass for a playlist of addresses to fetch.
    # -xerror: damage is an error, not a picture that hides it. -copyts: else ffmpeg shifts times, and no pts match.
    return [
        command,
        *("-nostdin", "-hide_banner", "-nostats", "-v", "error", "-xerror", "-filter_threads", "1"),
        *("-protocol_whitelist", "file,subfile", "-f", index.format.split(",")[0], "-threads", "1", "-noautorotate"),
        *("-copyts", *(() if seek_s is None else ("-noaccurate_seek", "-ss", f"{seek_s:.6f}"))),
        *("-i", address, "-map", f"0:{index.stream_index}", "-vf", graph, *_passthrough(command)),
        *("-frames:v", str(len(chosen)), "-f", "rawvideo", "-c:v", "rawvideo", "pipe:1"),
    ]


@lru_cache(maxsize=8)
def _passthrough(command: str) -> tuple[str, str]:
    """The option by which this ffmpeg neither drops nor repeats frames."""
    banner = subprocess.run([command, "-version"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"ffmpeg version n?(\d+)\.(\d+)", banner)
    # -fps_mode came with 5.1, which deprecated -vsync. Builds from git state no such number; they count as newer.
    is_old = version is not None and (int(version[1]), int(version[2])) < (5, 1)
    return ("-vsync", "passthrough") if is_old else ("-fps_mode", "passthrough")


def _batches(process: subprocess.Popen, size: tuple[int, int], count: int, deadline: float) -> Generator[np.ndarray]:
    """The pictures (n, height, width, 3) uint8 that it writes, as far as they are whole. The array is used again."""
    picture_bytes = 3 * size[0] * size[1]
    buffer = np.empty((min(count, max(1, BATCH_BYTES // picture_bytes)), *size, 3), dtype=np.uint8)
    while count:
        whole = _read(process.stdout, buffer[:count].reshape(-1).data, deadline) // picture_bytes
        if whole:
            yield buffer[:whole]
        if whole < min(count, len(buffer)):
            return
        count -= whole


def _read(pipe: IO[bytes] | None, rest: memoryview, deadline: float) -> int:
    """Reads until `rest` is full or the pipe ends; the number of bytes."""
    assert pipe is not None
    done = 0
    with selectors.PollSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while done < len(rest):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            size = os.readv(pipe.fileno(), [rest[done:]])
            if not size:
                break
            done += size
    return done


def _last_message(text: str, path: str) -> str:
    """The last line that ffmpeg wrote, without the path in it and the names of ffmpeg's components before it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r"^(\[[^]]*\] )+", "", lines[-1].replace(f"file:{path}: ", "")) if lines else ""
