"""The videos of `benchmarks/decode.py`, made once with PyAV: `python benchmarks/decode_files.py FOLDER`.

Real footage (../shared/data/videos, where it is there; else a moving pattern), scaled, with a little grain as cameras
have it. 20 s are encoded, with closed groups of pictures and the B-frames that the encoders make by default; longer
files repeat their packets with later times, so nothing is encoded twice.
"""

import fractions
import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

FOOTAGE = Path(__file__).resolve().parents[2] / "shared" / "data" / "videos"
SCENES = (
    ("moviepy__big_buck_bunny_0_30.webm", 240),
    ("mediabunny__edts.mp4", 0),
    ("timesuite__yoga.mp4", 30),
    ("videollama2__sample_demo_1.mp4", 0),
)
"""Footage and its first frame used; each source gives the same number of consecutive frames, without duplicates."""

FPS = 30
UNIT_S = 20
X264 = "keyint=250:min-keyint=25:b-pyramid=normal:open-gop=0"
SVT = "scd=0:keyint=249:irefresh-type=2"


@dataclass(frozen=True)
class Recipe:
    """How a file is encoded; `loops` of `unit_s` seconds make it as long as it is."""

    codec: str
    height: int
    options: dict[str, str]
    suffix: str = ".mp4"
    unit_s: int = UNIT_S
    scene: int = 0


RECIPES = {
    "h264_360p": Recipe("libx264", 360, {"preset": "fast", "x264-params": f"{X264}:bframes=3"}),
    "h264_720p": Recipe("libx264", 720, {"preset": "fast", "x264-params": f"{X264}:bframes=3"}),
    "h264_720p_nob": Recipe("libx264", 720, {"preset": "fast", "x264-params": f"{X264}:bframes=0"}),
    "hevc_720p": Recipe("libx265", 720, {"preset": "superfast", "x265-params": "keyint=250:open-gop=0:log-level=1"}),
    "av1_720p": Recipe("libsvtav1", 720, {"preset": "9", "crf": "35", "svtav1-params": SVT}),
    "vp9_720p": Recipe(
        "libvpx-vp9",
        720,
        {"deadline": "good", "cpu-used": "5", "crf": "35", "b": "0", "auto-alt-ref": "1", "lag-in-frames": "25"},
        suffix=".webm",
    ),
}
"""Encodes of `UNIT_S` seconds. Names with `vfr` or a length of their own are made from them by `make`."""


def footage(count: int, height: int, *, scene: int = 0, seed: int = 0) -> Iterator[np.ndarray]:
    """`count` RGB frames (H, W, 3) of 16:9, equal parts of each source, with grain."""
    width, rng = height * 16 // 9, np.random.default_rng(seed)
    # Sums of frames of noise would be slow; a shifted view of one large field is a new grain every frame.
    grain = rng.normal(0, 2.5, (height * 2, width * 2, 1)).round().astype(np.int16)
    order = SCENES[scene % len(SCENES) :] + SCENES[: scene % len(SCENES)]
    part = -(-count // (len(order) - 1))
    sources: list[Iterator[np.ndarray]] = [_real(FOOTAGE / name, first, height) for name, first in order]
    if not FOOTAGE.is_dir():
        sources = [_pattern(height, seed=seed + at) for at in range(len(order))]
    frames = itertools.chain.from_iterable(itertools.islice(source, part) for source in sources)
    for frame in itertools.islice(frames, count):
        y, x = rng.integers(height), rng.integers(width)
        yield (frame + grain[y : y + height, x : x + width]).clip(0, 255).astype(np.uint8)


def _real(path: Path, first: int, height: int) -> Iterator[np.ndarray]:
    """Frames of a file from the `first` on, over and over, scaled to fill 16:9."""
    width, skip = height * 16 // 9, first
    while True:
        with av.open(str(path)) as container:
            for frame in itertools.islice(container.decode(video=0), skip, None):
                yield frame.reformat(width=width, height=height, format="rgb24", interpolation="BICUBIC").to_ndarray()
        skip = 0


def _pattern(height: int, *, seed: int) -> Iterator[np.ndarray]:
    """Without footage: a textured ground that pans, and objects that move over it."""
    width, rng = height * 16 // 9, np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 64, width // 8 + 64, 3)).astype(np.uint8)
    ground = np.kron(coarse, np.ones((8, 8, 1), dtype=np.uint8))
    for at in itertools.count():
        y, x = (int(256 + 250 * f(at / 60)) for f in (np.sin, np.cos))
        frame = ground[y // 2 : y // 2 + height, x // 2 : x // 2 + width].copy()
        for size in (height // 4, height // 6, height // 9):
            top = int((height - size) * (0.5 + 0.5 * np.sin(at / 40 + size)))
            left = int((width - size) * (0.5 + 0.5 * np.cos(at / 25 + size)))
            frame[top : top + size, left : left + size] = (size, 255 - size, at % 256)
        yield frame


def encode(path: Path, recipe: Recipe) -> None:
    """One file of `recipe.unit_s` seconds at a constant `FPS`."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(recipe.codec, rate=FPS, options=recipe.options)
        stream.width, stream.height = recipe.height * 16 // 9, recipe.height
        stream.pix_fmt, stream.codec_context.gop_size = "yuv420p", 250
        stream.codec_context.time_base = fractions.Fraction(1, FPS)
        if recipe.codec == "libvpx-vp9":
            stream.codec_context.bit_rate = 0  # constant quality
        count = recipe.unit_s * FPS
        for at, picture in enumerate(footage(count, recipe.height, scene=recipe.scene)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = at, fractions.Fraction(1, FPS)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())


def repeat(unit: Path, path: Path, *, loops: int, time_of: Callable[[int], int], ticks: int) -> None:
    """The packets of `unit`, `loops` times over; frame n is shown at time_of(n), an increasing function, / `ticks`."""
    with av.open(str(unit)) as source:
        stream = source.streams.video[0]
        step = float(stream.time_base * FPS)
        stored = [packet for packet in source.demux(stream) if packet.size]
        packets = [(round(p.pts * step), round(p.dts * step), p.is_keyframe, bytes(p)) for p in stored]
        with av.open(str(path), "w") as output:
            copy = output.add_stream_from_template(stream, opaque=True)
            copy.time_base = fractions.Fraction(1, ticks)
            for loop, (pts, dts, is_key, data) in itertools.product(range(loops), packets):
                packet, first = av.Packet(data), loop * len(packets)
                packet.time_base, packet.stream = fractions.Fraction(1, ticks), copy
                packet.pts, packet.dts = time_of(pts + first), time_of(dts + first)
                packet.duration, packet.is_keyframe = time_of(pts + first + 1) - packet.pts, is_key
                output.mux(packet)


def constant(at: int) -> int:
    return at * 512


def variable(at: int) -> int:
    """Times in 15,360ths: parts of 20 s at 30 per second and of 40 s at 15, frames up to 40 % early or late."""
    unit = UNIT_S * FPS
    whole, rest = divmod(at, 2 * unit)
    spacings = whole * 3 * unit + rest + max(0, rest - unit)
    # Not at the ends, so that the length stays a whole number of seconds.
    return spacings * 512 + (at * 7919 % 409 - 204 if 8 <= at % unit < unit - 8 else 0)


def make(folder: Path, name: str, seconds: int) -> Path:
    """The file `name` (of `RECIPES`, `h264_360p_vfr` or `charades_K`) of a length, made if it is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    if name.startswith("charades_"):
        recipe = Recipe("libx264", 360, {"preset": "veryfast", "x264-params": f"{X264}:bframes=3"}, unit_s=30)
        recipe = Recipe(**{**vars(recipe), "scene": int(name.removeprefix("charades_"))})
    else:
        recipe = RECIPES[name.removesuffix("_vfr")]
    path = folder / f"{name}_{seconds}s{recipe.suffix}"
    if path.exists():
        return path
    unit = folder / f"unit_{name.removesuffix('_vfr')}{recipe.suffix}"
    if not unit.exists():
        print(f"encoding {unit} ({recipe.codec})", file=sys.stderr)
        partial = unit.with_stem(f"partial_{unit.stem}")
        encode(partial, recipe)
        partial.rename(unit)
    partial = path.with_stem(f"partial_{path.stem}")
    if name.endswith("_vfr"):
        loops = max(1, round(seconds / UNIT_S / 1.5))
        repeat(unit, partial, loops=loops, time_of=variable, ticks=FPS * 512)
    else:
        repeat(unit, partial, loops=max(1, seconds // recipe.unit_s), time_of=constant, ticks=FPS * 512)
    partial.rename(path)
    return path


def non_reference_share(folder: Path, name: str) -> float:
    """The share of the pictures that no other needs, by which a decoder can save work: of the encoded 20 s."""
    recipe = RECIPES[name.removesuffix("_vfr")]
    with av.open(str(folder / f"unit_{name.removesuffix('_vfr')}{recipe.suffix}")) as container:
        container.streams.video[0].codec_context.skip_frame = "NONREF"
        return round(1 - sum(1 for _ in container.decode(video=0)) / (recipe.unit_s * FPS), 2)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    for name in (*RECIPES, "h264_360p_vfr"):
        path = make(Path(sys.argv[1]), name, 120)
        share = non_reference_share(Path(sys.argv[1]), name)
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, {share:.0%} of the frames are no reference")
