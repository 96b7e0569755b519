"""Real models, real videos and real data, small enough for every test to use them."""

import atexit
import ctypes
import gc
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pytest
from hypothesis import settings

from vtg.config.data_settings import DemoConfig
from vtg.demo.demo_dataset import ensure_demo
from vtg.video.clip import Clip
from vtg.video.files import address
from vtg.video.video_window import VideoWindow

# An object store that is there on every machine; a row or a checkpoint has no way to open it.
address.MORE.add("memory")

# Two processes test at once, and many tests start more: a thread each is what small models need.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell's background job ignores Ctrl-C, and so would every program that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples every time, so that a red run is the change's doing; --hypothesis-profile=search looks for new ones.
settings.register_profile("search", max_examples=1000, deadline=None)
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# A page may take its time where every core is busy: what is waited for is told by the page, never by a clock.
EXPECT_MS = 60_000


def pytest_collection(session: pytest.Session) -> None:
    """Modules that tests import stay: no collection of garbage goes through their objects, now or while tests run."""
    gc.disable()
    atexit.register(gc.unfreeze)  # bindings complain at the end of what was never freed


def pytest_collection_finish(session: pytest.Session) -> None:
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the most slow tests come first: what is left for the end are short ones, which two processes share."""
    slow = Counter(
        item.path for item in items if item.get_closest_marker("slow") and not item.get_closest_marker("soak")
    )
    items.sort(key=lambda item: -slow[item.path])


class VLM(NamedTuple):
    """A model of the ordinary class, in float32 and evaluation mode, and its processor. Shared: leave it as it is."""

    model: Any
    processor: Any


def load_plainly(folder: Path) -> VLM:
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    return VLM(model.eval(), AutoProcessor.from_pretrained(folder))


@pytest.fixture
def bound_by_rights() -> Iterator[None]:
    """Root, too, is bound by the rights of files and folders: without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""
    if os.geteuid():
        yield
        return
    libc = ctypes.CDLL(None)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this thread
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, of capabilities 0 to 31 and the others
    assert libc.capget(header, sets) == 0
    effective = sets[0]
    sets[0] &= ~0b110
    assert libc.capset(header, sets) == 0
    yield
    sets[0] = effective
    assert libc.capset(header, sets) == 0


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model of each family, by `model_type`. Shared: leave it as it is."""
    from tiny_models import save_tiny

    from vtg.demo.tiny_model import TINY_QWEN3_VL
    from vtg.models.families import FAMILIES

    folders = {"qwen3_vl": TINY_QWEN3_VL}

    def saved(model_type: str) -> Path:
        if model_type not in folders:
            needed = next(one for one in FAMILIES.values() if model_type in one.model_types).transformers
            if needed is not None and tuple(map(int, version("transformers").split(".")[:2])) < needed:
                pytest.skip("{} needs transformers {}.{}".format(model_type, *needed))
            folder = tmp_path_factory.mktemp("models") / f"tiny_{model_type}"
            save_tiny(model_type, folder)
            folders[model_type] = folder
        return folders[model_type]

    return saved


@pytest.fixture(scope="session")
def tiny_vlm(tiny_dir: Callable[[str], Path]) -> Callable[[str], VLM]:
    """A tiny model of each family, by `model_type`."""
    from vtg.models.recurrence import part_sequences

    @cache
    def load(model_type: str) -> VLM:
        vlm = load_plainly(tiny_dir(model_type))
        part_sequences(vlm.model)
        return vlm

    return load


@pytest.fixture(scope="session")
def qwen3_vl(tiny_vlm: Callable[[str], VLM]) -> VLM:
    """The tiny Qwen3-VL that ships with the package."""
    return tiny_vlm("qwen3_vl")


@pytest.fixture(scope="session")
def qwen2_5_vl_dir(tiny_dir: Callable[[str], Path]) -> Path:
    return tiny_dir("qwen2_5_vl")


@pytest.fixture(scope="session")
def qwen2_5_vl(tiny_vlm: Callable[[str], VLM]) -> VLM:
    return tiny_vlm("qwen2_5_vl")


@pytest.fixture(scope="session")
def qwen3_5_dir(tiny_dir: Callable[[str], Path]) -> Path:
    return tiny_dir("qwen3_5")


@pytest.fixture(scope="session")
def qwen3_5(tiny_vlm: Callable[[str], VLM]) -> VLM:
    return tiny_vlm("qwen3_5")


@pytest.fixture(scope="session", params=["qwen3_vl", "qwen2_5_vl", "qwen3_5"])
def vlm(request: pytest.FixtureRequest) -> VLM:
    """The families in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def write_mp4(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Writes a video with a frame at each of `times_ms`, any rate; frame k is a flat grey of level 20 + 4 k.

    With `seed` frame k is noise of its own instead.
    """
    folder = tmp_path_factory.mktemp("videos")

    def write(times_ms: Sequence[int], *, size: tuple[int, int] = (64, 64), seed: int | None = None) -> str:
        path = folder / f"{len(list(folder.iterdir()))}.mp4"
        rng = np.random.default_rng(seed)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=1000, options={"crf": "8", "g": "8"})
            stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
            stream.codec_context.time_base = Fraction(1, 1000)
            for at, time_ms in enumerate(times_ms):
                if seed is None:
                    picture = np.full((*size, 3), 20 + 4 * at, dtype=np.uint8)
                else:
                    coarse = rng.integers(0, 256, (size[0] // 16, size[1] // 16, 3), dtype=np.uint8)
                    picture = coarse.repeat(16, axis=0).repeat(16, axis=1)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return str(path)

    return write


@pytest.fixture(scope="session")
def make_clip() -> Callable[..., Clip]:
    """A Clip of random pictures at the given times, made in memory."""

    def make(
        times_s: Sequence[float], *, size: tuple[int, int] = (64, 64), seed: int = 0, duration_s: float | None = None
    ) -> Clip:
        rng = np.random.default_rng(seed)
        end_s = times_s[-1] + 0.5 if duration_s is None else duration_s
        return Clip(
            frames=rng.integers(0, 256, (len(times_s), 3, *size), dtype=np.uint8),
            timestamps_s=np.array(times_s, dtype=np.float64),
            duration_s=end_s,
            path=f"random {seed}",
            start_s=0.0,
            end_s=end_s,
        )

    return make


DEMO = DemoConfig(train_videos=3, val_videos=1, test_videos=2, seed=7)


@pytest.fixture(scope="session")
def demo_config() -> DemoConfig:
    """The settings of `demo_dir`."""
    return DEMO


@pytest.fixture(scope="session")
def demo_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A very small demo data set: train.jsonl, val.jsonl, test.jsonl and their videos. Shared: leave it as it is."""
    return ensure_demo(tmp_path_factory.mktemp("demo") / "data", DEMO)


@pytest.fixture
def at_decoding(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], None]], None]:
    """Has something done before each clip is decoded, in this process and in its data workers."""
    from vtg.video import clip_loading

    decode = clip_loading.load_clip

    def install(act: Callable[[str], None]) -> None:
        def load_clip(window: VideoWindow, *args: Any, **kwargs: Any) -> Clip:
            act(window.path)
            return decode(window, *args, **kwargs)

        monkeypatch.setattr(clip_loading, "load_clip", load_clip)

    return install


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium, driven by Playwright."""
    if CHROMIUM is None:
        pytest.skip("needs a browser: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install -e '.[test]'")
    playwright.expect.set_options(timeout=EXPECT_MS)
    with playwright.sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
