"""How fast, in how much memory and how exactly do video files become frames? `python benchmarks/decode.py [--quick]`.

Every contender gives the same number of frames of 480x256 pixels (torchcodec alone: full size) on one core. CPU seconds
are the main figure. The process is pinned to one core, so that thread counts which cannot be set (decord in
fetch_video, FFmpeg in load_video) are one too. Contenders take turns, in an order that rotates; figures are medians,
ratios are to the better fetch_video (qwen-vl-utils) that gives the right frames. Differences, in grey levels, are to
torchcodec's frames of the contender's own indices, resized as in fetch_video (torchvision, bicubic, antialias).
Indices differ: vtg takes the frames nearest to 0, 0.5, 1 s ..., fetch_video spreads as many over all indices
(`off_grid_s` is the largest distance from vtg's grid). Files are in the page cache.

Cases: dense/FILE (2 frames a second), sparse/FILE (8 frames), trim/FILE (10 s, 2 a second), memory, annotations,
imports. The full run takes over an hour; `--only` picks cases, and `--table FILE` makes the tables of saved lines.
"""

import argparse
import bisect
import contextlib
import functools
import gc
import importlib
import importlib.metadata
import importlib.util
import io
import itertools
import json
import os
import platform
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import decode_files

FACTOR = 32
PIXELS = 128 * FACTOR**2
SIZE = (256, 480)
"""(height, width) that both vtg and smart_resize make of a 16:9 picture under `PIXELS`."""

FPS = 2.0
TRIM_S = (23.3, 33.3)
FILES = ("h264_360p", "h264_720p", "h264_720p_nob", "hevc_720p", "av1_720p", "vp9_720p", "h264_360p_vfr")
BEST = ("fetch_video torchcodec", "fetch_video decord")
RIGHT_MEAN = 3.0
"""Frames whose mean difference is larger are other frames, not other roundings."""


@dataclass(frozen=True)
class Job:
    """A file, and the frames wanted of it: `count` of them between `start_s` and `end_s`, at `FPS` or spread evenly."""

    path: str
    task: str
    count: int
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True)
class Packets:
    """Times (s, 0 = the first frame) and pts of the shown frames, and which of them are keyframes."""

    times_s: list[float]
    pts: list[int]
    keys: list[int]


@dataclass(frozen=True)
class Contender:
    """`run(job)` gives the frames (T, 3, H, W), or None, and their indices in the file, or None.

    `cache` is the folder it keeps between runs: the first run only fills it.
    """

    run: Callable[[Job], tuple[Any, list[int] | None]]
    modules: tuple[str, ...]
    tasks: tuple[str, ...] = ("dense", "sparse", "trim")
    resizes: bool = True
    cache: str | None = None


@functools.cache
def scan(path: str) -> Packets:
    import av

    with av.open(path) as container:
        stream = container.streams.video[0]
        shown = sorted((p.pts, p.is_keyframe) for p in container.demux(stream) if p.size and not p.is_discard)
        first, tick = shown[0][0], float(stream.time_base)
    times_s = [(pts - first) * tick for pts, _ in shown]
    return Packets(times_s, [pts for pts, _ in shown], [at for at, (_, is_key) in enumerate(shown) if is_key])


def grid(job: Job) -> list[int]:
    """The indices of the frames that `job` is about: nearest to a grid in time."""
    times_s = scan(job.path).times_s
    if job.task == "sparse":
        wanted = [times_s[0] + (times_s[-1] - times_s[0]) * k / (job.count - 1) for k in range(job.count)]
    else:
        wanted = [(job.start_s or 0.0) + k / FPS for k in range(job.count)]
    return [nearest(times_s, t) for t in wanted]


def nearest(times_s: list[float], wanted_s: float) -> int:
    after = min(bisect.bisect_left(times_s, wanted_s), len(times_s) - 1)
    return after - 1 if after and wanted_s - times_s[after - 1] <= times_s[after] - wanted_s else after


def config_of(job: Job, **settings: Any) -> Any:
    from vtg.config.video_settings import VideoConfig

    sampling = "uniform" if job.task == "sparse" else "fps"
    return VideoConfig(
        **{"sampling": sampling, "fps": FPS, "max_frames": job.count, "total_pixels": 2**31} | settings,
        min_pixels=PIXELS,
        max_pixels=PIXELS,
    )


def placed(clip: Any, job: Job) -> tuple[Any, list[int]]:
    times_s = scan(job.path).times_s
    indices = [nearest(times_s, t + clip.start_s) for t in clip.timestamps_s.tolist()]
    off_s = max(abs(times_s[i] - t - clip.start_s) for i, t in zip(indices, clip.timestamps_s.tolist(), strict=True))
    assert off_s < 2e-3, f"{job.path}: vtg's times are {off_s} s off"
    return clip.frames, indices


def vtg_load(job: Job, **settings: Any) -> tuple[Any, None]:
    from vtg.video.clip_loading import load_clip
    from vtg.video.video_window import VideoWindow

    config = config_of(job, **settings)
    return load_clip(VideoWindow(job.path, start_s=job.start_s, end_s=job.end_s), config, factor=FACTOR), None


def vtg_cached(job: Job, *, cache_format: str, cache_dir: str) -> tuple[Any, None]:
    """A fresh provider, so nothing is in memory; the untimed first run fills the cache."""
    from vtg.video.provider import ClipProvider
    from vtg.video.video_window import VideoWindow

    config = config_of(job, cache_dir=cache_dir, cache_format=cache_format)
    provider = ClipProvider(config, factor=FACTOR)
    return provider.clip(VideoWindow(job.path, start_s=job.start_s, end_s=job.end_s)), None


def fetch_video(job: Job, *, backend: str) -> tuple[Any, list[int]]:
    from qwen_vl_utils import vision_process

    # The backend is read once, from an environment variable, at import: this is what that sets.
    vision_process.FORCE_QWENVL_VIDEO_READER = backend
    vision_process.get_video_reader_backend.cache_clear()
    element = {"video": job.path, "nframes": job.count, "min_pixels": PIXELS, "max_pixels": PIXELS}
    if job.end_s is not None:
        element |= {"video_start": job.start_s, "video_end": job.end_s}
    with contextlib.redirect_stderr(io.StringIO()):
        video, facts = vision_process.fetch_video(element, image_patch_size=FACTOR // 2, return_video_metadata=True)
    assert facts["video_backend"] == backend
    return video, [int(i) for i in facts["frames_indices"]]


def load_video(job: Job, *, backend: str) -> tuple[Any, list[int]]:
    import torch
    from torchvision.transforms.v2 import functional
    from transformers.video_utils import load_video

    def indices(metadata: Any, **_: Any) -> Any:
        import numpy as np

        start = (job.start_s or 0.0) * metadata.fps
        total = metadata.total_num_frames if job.end_s is None else (job.end_s - job.start_s) * metadata.fps
        return (start + np.arange(job.count) * total / job.count + 1e-6).astype(int)

    video, metadata = load_video(job.path, backend=backend, sample_indices_fn=indices)
    video = torch.as_tensor(video)
    video = video if video.shape[1] == 3 else video.permute(0, 3, 1, 2)
    # As the video processors do: v2 resizes uint8 as it is; the older functions, in fetch_video, go by way of float.
    interpolation = functional.InterpolationMode.BICUBIC
    video = functional.resize(video, list(SIZE), interpolation=interpolation, antialias=True)
    return video, [int(i) for i in metadata.frames_indices]


def torchcodec_raw(job: Job, *, resizes: bool) -> tuple[Any, list[int]]:
    from torchcodec import transforms
    from torchcodec.decoders import VideoDecoder

    steps = [transforms.Resize(SIZE)] if resizes else None
    indices = grid(job)
    return VideoDecoder(job.path, num_ffmpeg_threads=1, transforms=steps).get_frames_at(indices).data, indices


def pyav_all(job: Job) -> tuple[Any, list[int]]:
    """Every frame is decoded, from the keyframe before a trim, and the wanted ones scaled by swscale."""
    import numpy as np

    indices = grid(job)
    frames = pyav_frames(job.path, [indices], skip=False, convert=True)
    return np.stack(frames).transpose(0, 3, 1, 2), indices


def pyav_floor(job: Job) -> tuple[None, list[int]]:
    """What has to be decoded at least: wanted frames and references before them, in the groups that hold any."""
    keys, indices = scan(job.path).keys, grid(job)
    groups = itertools.groupby(indices, key=lambda index: bisect.bisect_right(keys, index))
    found = pyav_frames(job.path, [list(group) for _, group in groups], skip=True, convert=False)
    assert len(found) == len(set(indices)), f"{job.path}: {len(found)} of {len(indices)} frames"
    return None, indices


def pyav_frames(path: str, runs: list[list[int]], *, skip: bool, convert: bool) -> list[Any]:
    import av
    from av.video.reformatter import VideoReformatter

    packets, found, reformatter = scan(path), [], VideoReformatter()
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "SLICE", 1
        for run in runs:
            wanted = {packets.pts[index] for index in run}
            if key := packets.keys[bisect.bisect_right(packets.keys, run[0]) - 1]:
                container.seek(packets.pts[key], stream=stream)
            for frame in wanted_frames(container, stream, wanted, skip=skip):
                height, width = SIZE
                scaled = {"width": width, "height": height, "format": "rgb24", "interpolation": "BICUBIC"}
                found.append(reformatter.reformat(frame, **scaled).to_ndarray() if convert else None)
                if frame.pts == packets.pts[run[-1]]:
                    break
    return found


def wanted_frames(container: Any, stream: Any, wanted: set[int], *, skip: bool) -> Iterator[Any]:
    for packet in container.demux(stream):
        if skip and packet.pts is not None:
            stream.codec_context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        for frame in stream.codec_context.decode(packet):
            if frame.pts in wanted:
                yield frame


def ffmpeg_floor(job: Job) -> tuple[None, None]:
    """FFmpeg's own command, decoding reference frames only (all frames where the codec knows no others)."""
    cut = ["-ss", str(job.start_s), "-t", str(job.end_s - job.start_s)] if job.end_s is not None else []
    command = ["ffmpeg", "-v", "error", "-skip_frame", "noref", "-threads", "1", *cut, "-i", job.path]
    subprocess.run(
        [*command, "-an", "-fps_mode", "passthrough", "-f", "null", "-"], check=True, stdin=subprocess.DEVNULL
    )
    return None, None


def contenders(folder: str) -> dict[str, Contender]:
    partial, torchcodec = functools.partial, "torchcodec.decoders"
    loads = ("vtg.video.clip_loading",)

    def cached(form: str, cache: str) -> Contender:
        run = partial(vtg_cached, cache_format=form, cache_dir=cache)
        return Contender(run, ("vtg.video.provider",), cache=cache)

    qwen, hugging = "qwen_vl_utils", ("transformers.video_utils", "torchvision")
    return {
        "vtg exact": Contender(partial(vtg_load, resize="exact"), loads),
        "vtg fast": Contender(partial(vtg_load, resize="fast"), loads),
        **{f"vtg warm cache, {form}": cached(form, f"{folder}/{form}") for form in ("compact", "raw")},
        "fetch_video torchcodec": Contender(partial(fetch_video, backend="torchcodec"), (qwen, torchcodec)),
        "fetch_video decord": Contender(partial(fetch_video, backend="decord"), (qwen, "decord")),
        "load_video torchcodec": Contender(partial(load_video, backend="torchcodec"), (*hugging, torchcodec)),
        "load_video pyav": Contender(partial(load_video, backend="pyav"), (*hugging, "av")),
        "torchcodec alone, full size": Contender(partial(torchcodec_raw, resizes=False), (torchcodec,), resizes=False),
        "torchcodec Resize": Contender(partial(torchcodec_raw, resizes=True), (torchcodec,)),
        "PyAV, all frames, swscale": Contender(pyav_all, ("av",), tasks=("dense", "trim")),
        "decode only: PyAV": Contender(pyav_floor, ("av",)),
        "decode only: ffmpeg noref": Contender(ffmpeg_floor, (), tasks=("dense", "trim")),
    }


def installed(all_contenders: dict[str, Contender]) -> dict[str, Contender]:
    """Those whose packages are there; the others are named."""
    found = {}
    for name, contender in all_contenders.items():
        missing = [module for module in contender.modules if not importlib.util.find_spec(module.partition(".")[0])]
        if name.endswith("noref") and not shutil.which("ffmpeg"):
            print(f"{name}: left out, the command ffmpeg is missing; apt-get install ffmpeg", file=sys.stderr)
        elif missing:
            package = missing[0].partition(".")[0].replace("_", "-")
            print(f"{name}: left out, {package} is not installed; pip install 'vtg[bench]'", file=sys.stderr)
        else:
            found[name] = contender
    return found


def cpu_s() -> float:
    """CPU seconds of this process and of those it waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


class Reference:
    """torchcodec's frames of one file, resized by torchvision as in fetch_video: what others are compared with."""

    def __init__(self, path: str) -> None:
        self.path, self._known = path, {}

    def frames(self, indices: list[int]) -> dict[str, Any]:
        import torch
        from torchcodec.decoders import VideoDecoder
        from torchvision.transforms import InterpolationMode, functional, v2

        key, bicubic = tuple(indices), InterpolationMode.BICUBIC
        if key not in self._known:
            decoder, parts = VideoDecoder(self.path, num_ffmpeg_threads=1), defaultdict(list)
            for at in range(0, len(indices), 16):
                full = decoder.get_frames_at(indices[at : at + 16]).data
                for name, resize in (("", functional.resize), ("_v2", v2.functional.resize)):
                    parts[name].append(resize(full, list(SIZE), interpolation=bicubic, antialias=True))
            self._known[key] = {name: torch.cat(part).numpy() for name, part in parts.items()}
        return self._known[key]

    def compare(self, frames: Any, indices: list[int]) -> dict[str, float]:
        """Largest and mean difference; `_v2` from the resize of the Hugging Face processors, fixed-point on uint8."""
        import numpy as np

        facts, got = {}, np.asarray(frames)
        for name, wanted in self.frames(indices).items():
            diffs = [np.abs(a.astype(np.int16) - b.astype(np.int16)) for a, b in zip(got, wanted, strict=True)]
            facts[f"max_diff{name}"] = int(max(diff.max() for diff in diffs))
            facts[f"mean_diff{name}"] = round(float(np.mean([diff.mean() for diff in diffs])), 4)
        return facts


def finish(job: Job, result: tuple[Any, list[int] | None]) -> tuple[Any, list[int] | None]:
    return placed(result[0], job) if hasattr(result[0], "timestamps_s") else result


def trial(job: Job, contender: Contender, reference: Reference | None) -> dict[str, Any]:
    """The untimed first run: does it work, how many frames, how different, how far from the grid in time?"""
    try:
        if contender.cache:
            contender.run(job)
        frames, indices = finish(job, contender.run(job))
    except Exception as error:  # peers raise what they like; a contender that fails is a finding
        return {"fails": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"[:200]}
    facts: dict[str, Any] = {}
    if contender.cache:
        facts["cache_mb"] = round(sum(path.stat().st_size for path in files_in(contender.cache)) / 1e6, 1)
    if indices is not None:
        times_s, wanted = scan(job.path).times_s, grid(job)
        facts["frames"] = len(indices)
        if len(indices) == len(wanted):
            apart = (abs(times_s[a] - times_s[b]) for a, b in zip(indices, wanted, strict=True))
            facts["off_grid_s"] = round(max(apart), 3)
    if frames is not None:
        facts["shape"] = list(frames.shape)
        if contender.resizes:
            expected = (job.count, 3, *SIZE)
            if tuple(frames.shape) != expected:
                return {"fails": f"{tuple(frames.shape)} frames, not {expected}"}
            if reference is not None:
                facts |= reference.compare(frames, indices)
    return facts


def measure(job: Job, found: dict[str, Contender], *, case: str, repeats: int) -> list[dict[str, Any]]:
    found = {name: contender for name, contender in found.items() if job.task in contender.tasks}
    reference = Reference(job.path) if importlib.util.find_spec("torchcodec") else None
    facts = {name: trial(job, contender, reference) for name, contender in found.items()}
    del reference
    names, figures = [name for name in found if "fails" not in facts[name]], defaultdict(list)
    for repeat in range(repeats):
        turn = repeat * max(1, len(names) // repeats) % len(names)
        for name in names[turn:] + names[:turn]:
            gc.collect()
            cpu, wall = cpu_s(), time.perf_counter()
            result = found[name].run(job)
            figures[name].append((cpu_s() - cpu, time.perf_counter() - wall))
            del result
    rows = []
    for name in found:
        row = {"benchmark": "decode", "case": case, "contender": name, "repeats": repeats}
        if figures[name]:
            cpus, walls = zip(*figures[name], strict=True)
            row |= {"cpu_s": round(statistics.median(cpus), 4), "wall_s": round(statistics.median(walls), 4)}
            row |= {"cpu_s_range": [round(min(cpus), 4), round(max(cpus), 4)]}
        rows.append(row | facts[name])
        print(json.dumps(rows[-1]), flush=True)
    return rows


def files_in(folder: str) -> list[Path]:
    return [path for path in Path(folder).rglob("*") if path.is_file()]


def cache_works(folder: str, job: Job) -> bool:
    """Whether this vtg writes a disk cache at all."""
    vtg_cached(job, cache_format="raw", cache_dir=f"{folder}/probe")
    return bool(files_in(f"{folder}/probe"))


def peak_of_one(name: str, path: str, count: int) -> None:
    """In a fresh process: the peak of resident memory over what the imports left, in bytes, on stdout."""
    with tempfile.TemporaryDirectory() as folder:
        ways, job = contenders(folder), Job(path, "dense", count)
        # Of all, in every process: who imports torch only when it resizes shall not be charged for that as frames.
        for module in {module for way in installed(ways).values() for module in way.modules}:
            importlib.import_module(module)
        limit_threads()
        scan(path)
        if ways[name].cache:  # filled by another process, so that its decoding does not count
            code = FILL.format(folder_here=str(Path(__file__).parent), name=name, folder=folder, job=job)
            subprocess.run([sys.executable, "-c", code], check=True)
        # ru_maxrss survives exec and holds what the imports peaked at; this mark of the kernel can be reset.
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")
        before = status_kb("VmRSS")
        result = ways[name].run(job)
        print(json.dumps({"peak": (status_kb("VmHWM") - before) * 1024, "before": before * 1024}), flush=True)
        del result


FILL = """
import sys
sys.path.insert(0, {folder_here!r})
import decode
from decode import Job
decode.limit_threads()
decode.contenders({folder!r})[{name!r}].run({job!r})
"""


def status_kb(key: str) -> int:
    return int(re.search(rf"{key}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def measure_memory(job: Job, found: dict[str, Contender], *, case: str, repeats: int) -> list[dict[str, Any]]:
    rows = []
    for name in (name for name, contender in found.items() if not name.startswith("decode only")):
        command = [sys.executable, os.path.abspath(__file__), "--peak-of", name, job.path, str(job.count)]
        peaks, fault = [], ""
        for _ in range(repeats):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                fault = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}"
                break
            peaks.append(json.loads(done.stdout.splitlines()[-1])["peak"])
        row = {"benchmark": "decode", "case": case, "contender": name, "repeats": len(peaks)}
        row |= {"fails": fault[:200]} if fault else {"peak_mb": round(statistics.median(peaks) / 1e6, 1)}
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def annotation_ways(
    job_of: Callable[[str], Job], folder: str, names: set[str]
) -> dict[str, Callable[[list[str]], None]]:
    def through_provider(paths: list[str], *, cache_dir: str | None, keeps: bool) -> None:
        from vtg.video.provider import ClipProvider
        from vtg.video.video_window import VideoWindow

        config = config_of(job_of(paths[0]), cache_dir=cache_dir)
        provider = ClipProvider(config, factor=FACTOR)
        for path in paths:
            if not keeps:
                provider = ClipProvider(config, factor=FACTOR)
            provider.clip(VideoWindow(path))

    def fetch(paths: list[str], backend: str) -> None:
        for path in paths:
            fetch_video(job_of(path), backend=backend)

    def first(paths: list[str]) -> None:
        shutil.rmtree(f"{folder}/first", ignore_errors=True)
        through_provider(paths, cache_dir=f"{folder}/first", keeps=True)

    ways: dict[str, Callable[[list[str]], None]] = {
        name: functools.partial(fetch, backend=name.rpartition(" ")[2]) for name in BEST if name in names
    }
    partial = functools.partial
    return ways | {
        "vtg, no cache": partial(through_provider, cache_dir=None, keeps=False),
        "vtg, memory only, all fits": partial(through_provider, cache_dir=None, keeps=True),
        "vtg, first epoch: memory and disk, empty": first,
        "vtg, later epochs: disk only": partial(through_provider, cache_dir=f"{folder}/later", keeps=False),
    }


def measure_annotations(
    paths: list[str], queries: float, found: dict[str, Contender], *, case: str, seconds: int, repeats: int
) -> list[dict[str, Any]]:
    """All annotations of the videos in a shuffled order; disk only is how a set far larger than memory is read."""
    order = [path for at, path in enumerate(paths) for _ in range(round(queries * (at + 1)) - round(queries * at))]
    random.Random(0).shuffle(order)
    with tempfile.TemporaryDirectory() as folder:
        ways = annotation_ways(lambda path: Job(path, "dense", int(seconds * FPS)), folder, set(found))
        ways["vtg, later epochs: disk only"](sorted(set(paths)))  # fills that cache
        if not files_in(folder):
            print("annotations: video.cache_dir does nothing in this vtg", file=sys.stderr)
            ways = {name: way for name, way in ways.items() if "disk" not in name}
        figures = defaultdict(list)
        for repeat in range(repeats):
            turn = repeat % len(ways)
            for name in [*ways][turn:] + [*ways][:turn]:
                gc.collect()
                cpu, wall = cpu_s(), time.perf_counter()
                ways[name](order)
                figures[name].append(((cpu_s() - cpu) / len(order), (time.perf_counter() - wall) / len(order)))
    rows = []
    for name in ways:
        cpus, walls = zip(*figures[name], strict=True)
        row = {"benchmark": "decode", "case": case, "contender": name, "repeats": repeats, "annotations": len(order)}
        row |= {"cpu_s": round(statistics.median(cpus), 5), "wall_s": round(statistics.median(walls), 5)}
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def measure_imports(job: Job, found: dict[str, Contender], *, case: str, repeats: int) -> list[dict[str, Any]]:
    codes = {
        "python alone": "pass",
        "numpy, av": "import numpy, av",
        "vtg.video.clip_loading": "import vtg.video.clip_loading",
    }
    codes["vtg.video.provider"] = "import vtg.video.provider"
    peers = {"qwen_vl_utils": "qwen_vl_utils", "torchcodec": "torchcodec.decoders"}
    codes |= {name: f"import {module}" for name, module in peers.items() if importlib.util.find_spec(name)}
    # What is imported only when frames are made counts here.
    first = "import sys; sys.path.insert(0, {here!r}); from decode import Job, contenders; contenders('')[{name!r}]"
    for name in ("vtg exact", "vtg fast", "fetch_video torchcodec", "load_video torchcodec"):
        if name in found:
            here = str(Path(__file__).parent)
            codes[f"a first clip, sparse: {name}"] = f"{first.format(here=here, name=name)}.run({job!r})"
    figures = defaultdict(list)
    for _ in range(max(repeats, 1)):
        for name, code in codes.items():
            cpu, wall = cpu_s(), time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.DEVNULL)
            figures[name].append((cpu_s() - cpu, time.perf_counter() - wall))
    rows = []
    for name in codes:
        cpus, walls = zip(*figures[name], strict=True)
        row = {"benchmark": "decode", "case": case, "contender": name, "repeats": repeats}
        rows.append(row | {"cpu_s": round(statistics.median(cpus), 3), "wall_s": round(statistics.median(walls), 3)})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def limit_threads() -> None:
    """One thread each: settings where there are any, and one core for those that count the cores."""
    os.environ |= {"OMP_NUM_THREADS": "1", "TORCHCODEC_NUM_THREADS": "1"}
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with contextlib.suppress(ImportError):
        import torch

        torch.set_num_threads(1)


def all_cases(seconds: int) -> list[str]:
    tasks = [f"{task}/{name}" for task, name in itertools.product(("dense", "sparse"), FILES)]
    return [*tasks, "trim/h264_360p_1min", "trim/h264_360p_20min", "memory", "annotations/charades",
            "annotations/activitynet", "imports"]  # fmt: skip


def run_case(case: str, found: dict[str, Contender], options: argparse.Namespace, folder: str) -> list[dict[str, Any]]:
    task, _, name = case.partition("/")
    repeats, paths = options.repeats, files_of(case, options)
    dense = int(options.seconds * FPS)
    if task == "imports":
        return measure_imports(Job(paths[0], "sparse", 8), found, case=case, repeats=repeats)
    if task == "memory":
        return measure_memory(Job(paths[0], "dense", dense), found, case=case, repeats=min(repeats, 3))
    if task == "annotations":
        seconds, queries = (30, 6.0) if name == "charades" else (options.seconds, 3.6)
        return measure_annotations(paths, queries, found, case=case, seconds=seconds, repeats=repeats)
    job = Job(paths[0], task, 8 if task == "sparse" else dense)
    if task == "trim":
        start_s, end_s = (at + 600 * name.endswith("20min") for at in TRIM_S)
        job = Job(paths[0], task, round((end_s - start_s) * FPS), start_s, end_s)
    rows = measure(job, found, case=case, repeats=repeats)
    for contender in found.values():
        if contender.cache:
            shutil.rmtree(contender.cache, ignore_errors=True)
    return rows


def files_of(case: str, options: argparse.Namespace) -> list[str]:
    """The videos of a case, made if they are not there."""
    task, _, name = case.partition("/")
    make = functools.partial(decode_files.make, Path(options.folder))
    if task == "imports":
        return [str(make("h264_360p", 20))]
    if name == "charades":
        return [str(make(f"charades_{at}", 30)) for at in range(2 if options.quick else 8)]
    if name == "activitynet":
        return activitynet(make("h264_360p", options.seconds), 2 if options.quick else 5)
    if task == "trim":
        return [str(make("h264_360p", 1200 if name.endswith("20min") else 60))]
    return [str(make(name or "h264_720p", options.seconds))]


def activitynet(source: Path, number: int) -> list[str]:
    """One content under several names: it costs what different ones would."""
    paths = [source.with_stem(f"activitynet_{at}_{source.stem}") for at in range(number)]
    for path in paths:
        if not path.exists():
            shutil.copyfile(source, path)
    return [str(path) for path in paths]


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a table for each task, a row for each contender, a column for each file; ratios in brackets."""
    tasks: dict[str, list[str]] = defaultdict(list)
    for case in dict.fromkeys(row["case"] for row in rows):
        tasks[case.partition("/")[0]].append(case)
    by_name = {(row["case"], row["contender"]): row for row in rows}
    best = {case: best_of(case, rows) for case in dict.fromkeys(row["case"] for row in rows)}
    parts = []
    for task, cases in tasks.items():
        unit = {"memory": "peak MB", "annotations": "CPU ms a row", "imports": "wall s"}.get(task, "CPU s")
        compared = any("max_diff" in row for row in rows if row["case"] in cases)
        heads = [case.partition("/")[2] or case for case in cases] + ["diff: mean, max"] * compared
        lines = [f"| {task}: {unit} | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
        for name in dict.fromkeys(row["contender"] for row in rows if row["case"] in cases):
            found = [by_name.get((case, name)) for case in cases]
            cells = [cell(row, best[case], task) for row, case in zip(found, cases, strict=True)]
            diffs = [(row["mean_diff"], row["max_diff"]) for row in found if row and "max_diff" in row]
            if compared:
                cells.append(f"{max(d[0] for d in diffs):.2f}, {max(d[1] for d in diffs)}" if diffs else "")
            lines.append(f"| {name} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def figure(row: dict[str, Any]) -> float:
    return row["peak_mb"] if "peak_mb" in row else row["wall_s" if row["case"] == "imports" else "cpu_s"]


def best_of(case: str, rows: list[dict[str, Any]]) -> float | None:
    """The best figure of a fetch_video backend that gave the right frames."""
    good = [row for row in rows if row["case"] == case and row["contender"] in BEST and "fails" not in row]
    return min((figure(row) for row in good if row.get("mean_diff", 0) <= RIGHT_MEAN), default=None)


def cell(row: dict[str, Any] | None, best: float | None, task: str) -> str:
    if row is None:
        return ""
    if "fails" in row:
        return "fails"
    value = figure(row) * (1000 if task == "annotations" else 1)
    text = f"{value:.0f}" if value >= 100 else f"{value:.3g}"
    if best:
        text += f" ({figure(row) / best:.2g})" if figure(row) / best < 10 else f" ({figure(row) / best:.0f})"
    if row.get("mean_diff", 0) > RIGHT_MEAN:
        text += " wrong"
    return text


def machine() -> dict[str, Any]:
    versions = {}
    for package in ("av", "torch", "torchvision", "torchcodec", "decord", "qwen-vl-utils", "transformers", "vtg"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    cpu = platform.processor()
    with contextlib.suppress(OSError):
        cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[1]
    load = round(os.getloadavg()[0], 1)
    return {"cpu": cpu, "cores": os.cpu_count(), "load": load, "python": platform.python_version(), **versions}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="PATTERN", help="cases to run: a regular expression")
    parser.add_argument("--contenders", default="", metavar="PATTERN", help="contenders to run: a regular expression")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--seconds", type=int, default=120, help="length of the dense and sparse files, a multiple of 20"
    )
    parser.add_argument(
        "--folder", default=f"{tempfile.gettempdir()}/vtg-bench-decode", help="where the videos are kept"
    )
    parser.add_argument("--quick", action="store_true", help="one repeat, files of 20 s")
    parser.add_argument("--list", action="store_true", help="cases and contenders")
    parser.add_argument("--table", metavar="FILE", help="no run: the tables of the JSON lines in FILE, of earlier runs")
    parser.add_argument("--peak-of", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        return peak_of_one(options.peak_of[0], options.peak_of[1], int(options.peak_of[2]))
    if options.table:
        lines = Path(options.table).read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line.startswith("{")]
        return print(table([row for row in rows if "contender" in row]))
    if options.quick:
        options.repeats, options.seconds = 1, 20
    cases = [case for case in all_cases(options.seconds) if re.search(options.only, case)]
    if options.list:
        return print("\n".join([*cases, "", *contenders("")]))
    if not cases:
        sys.exit(f"--only {options.only}: no such case; they are {', '.join(all_cases(options.seconds))}")
    with tempfile.TemporaryDirectory(prefix="vtg-bench-") as folder:
        found = {
            name: way for name, way in installed(contenders(folder)).items() if re.search(options.contenders, name)
        }
        probe = decode_files.make(Path(options.folder), "h264_360p", 20)
        if any("warm" in name for name in found) and not cache_works(folder, Job(str(probe), "dense", 40)):
            print("warm cache: left out, video.cache_dir does nothing in this vtg", file=sys.stderr)
            found = {name: way for name, way in found.items() if "warm" not in name}
        for case in cases:  # all encoding before any measuring, and on all cores
            files_of(case, options)
        limit_threads()
        print(json.dumps({"benchmark": "decode", "machine": machine(), "seconds": options.seconds}), flush=True)
        rows = [row for case in cases for row in run_case(case, found, options, folder)]
    print(f"\n{table(rows)}")


if __name__ == "__main__":
    main()
