"""Real videos whose every frame says which one it is: frame k is a flat grey of level 20 + 4 k."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "videos"


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., str]:
    def make(
        times_ms: Sequence[int],
        *,
        name: str = "video.mp4",
        codec: str = "libx264",
        size: tuple[int, int] = (48, 64),
        rate: int = 1000,
        rotation: float = 0,
        options: dict[str, str] | None = None,
        pictures: Sequence[np.ndarray] | None = None,
    ) -> str:
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=rate)
            stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
            stream.codec_context.time_base = Fraction(1, rate)
            defaults = {"crf": "8", "bf": "2", "g": "8"} if codec == "libx264" else {}
            stream.options = defaults | (options or {})
            if rotation:
                stream.set_display_rotation(rotation)
            ends_ms = [*times_ms[1:], 2 * times_ms[-1] - (times_ms[-2] if len(times_ms) > 1 else 0)]
            ticks = [time_ms * rate // 1000 for time_ms in times_ms]
            durations = {tick: end_ms * rate // 1000 - tick for tick, end_ms in zip(ticks, ends_ms, strict=True)}

            def write(packets: Sequence[av.Packet]) -> None:
                for packet in packets:
                    packet.duration = durations.get(packet.pts, packet.duration)
                    container.mux(packet)

            for at, tick in enumerate(ticks):
                picture = np.full((*size, 3), 20 + 4 * at, dtype=np.uint8) if pictures is None else pictures[at]
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = tick, Fraction(1, rate)
                write(stream.encode(frame))
            write(stream.encode(None))
        return str(path)

    return make


@pytest.fixture
def frame_numbers() -> Callable[[np.ndarray], list[int]]:
    """Which frames these are, by their grey levels."""
    return lambda frames: [round((float(frame.mean()) - 20) / 4) for frame in frames]


@pytest.fixture(scope="session")
def shared_videos() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent")
    return SHARED
