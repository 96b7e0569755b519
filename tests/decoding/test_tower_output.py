"""What a frozen tower makes of a clip is kept on disk, and stands in for its pixels in whatever comes after."""

import copy
import logging
import multiprocessing
import os
import time
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.data.encoding import IGNORE_INDEX, Features, encode, frame_options
from vtg.data.packing import attention, pack, share
from vtg.data.padding import collate
from vtg.data.pixels import PIXELS
from vtg.data.seen_clip import TICKET, SeenClip
from vtg.data.tower_cache import TowerCache
from vtg.decoding.shared_prefix import accept_encoded_videos, encode_video
from vtg.decoding.tower_output import encoded_video
from vtg.errors import ConfigError
from vtg.models.families import family_of, known_types
from vtg.models.recurrence import is_recurrent
from vtg.models.tower_identity import check_frozen, tower_identity
from vtg.tasks.span_task import SpanTask
from vtg.video.provider import ClipProvider
from vtg.video.video_window import VideoWindow

TASK = SpanTask(TaskConfig())
VIDEO = VideoConfig(max_frames=6, min_pixels=4096, max_pixels=4096, total_pixels=65536, pad=True, min_frames=4)
FORK = multiprocessing.get_context("fork")


def provider_of(processor: Any, video: VideoConfig = VIDEO) -> ClipProvider:
    return ClipProvider(video, **frame_options(processor))


def rows_of(processor: Any, clips: list, *, answers: bool = True) -> list[Features]:
    """Two questions about the first clip, one about each other."""
    asked = [(0, "a man runs away"), (0, "a red circle"), *((at, "it") for at in range(1, len(clips)))]
    return [
        encode(
            processor,
            TASK.conversation(query, duration_s=9.0, spans=[(at, at + 2.5)] if answers else None),
            clips[which],
        )
        for at, (which, query) in enumerate(asked)
    ]


def loss_and_gradients(model: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    labels = batch.pop("labels")[:, 1:]
    language = [one for name, one in model.named_parameters() if family_of(model.config).part_of(name) == "language"]
    logits = model(**batch, use_cache=False).logits[:, :-1]
    loss = cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE_INDEX, reduction="sum")
    return loss.detach(), torch.cat([one.flatten() for one in torch.autograd.grad(loss, language)])


@pytest.fixture(params=known_types())
def family(request, tiny_vlm):
    vlm = tiny_vlm(request.param)
    accept_encoded_videos(vlm.model)
    return vlm


@pytest.fixture
def files(write_mp4) -> list[str]:
    """A clip, and one that is filled up with padding frames."""
    return [write_mp4(range(0, 3000, 500), seed=1), write_mp4([0, 500], seed=2)]


def test_a_clip_that_the_tower_has_seen_gives_the_same_inputs_loss_and_gradients(family, files, tmp_path):
    model, processor = family
    names = family_of(model.config).vision_inputs
    windows, provider = [VideoWindow(path) for path in files], provider_of(processor)
    cache = TowerCache(str(tmp_path), max_bytes=10**9, tower=tower_identity(model))
    plain = rows_of(processor, [provider.clip(window) for window in windows])
    new = rows_of(processor, [cache.clip(provider, window) for window in windows])
    for one in new:
        encoded_video(model, one, cache)
    fresh = provider_of(processor)
    clips = [cache.clip(fresh, window) for window in windows]
    assert all(isinstance(clip, SeenClip) and clip.inputs is not None for clip in clips)
    assert fresh.take_counts()["decoded"] == 0 and cache.take_counts()["seen"] >= 2
    seen = rows_of(processor, clips)
    for one, other in zip(plain, seen, strict=True):
        assert set(other) - set(one) == {TICKET}
        assert all(torch.equal(one[key], other[key]) for key in one if key != PIXELS)
        assert torch.equal(other[PIXELS], encode_video(model, one))
    assert names[0] == PIXELS
    said: dict[str, Any] = {
        "implementation": "sdpa",
        "dtype": torch.float32,
        "recurrent": is_recurrent(model),
        "both_ways": family_of(model.config).both_ways,
    }
    for batch in (
        lambda rows: dict(collate(rows, pad_token_id=0)),
        lambda rows: attention(pack(share(rows)), **said),
    ):
        (loss, gradients), (known, others) = (loss_and_gradients(model, batch(rows)) for rows in (plain, seen))
        # Clips seen one by one are other products of matrices than together, which some processors round otherwise.
        assert abs(loss - known) <= 1e-5 * loss
        assert (gradients - others).norm() <= 1e-4 * gradients.norm()


def test_the_tower_sees_a_clip_once_whatever_is_asked_of_it(qwen3_vl, files, tmp_path):
    model, processor = qwen3_vl
    accept_encoded_videos(model)
    cache = TowerCache(str(tmp_path), max_bytes=10**9, tower=tower_identity(model))
    clips = [cache.clip(provider_of(processor), VideoWindow(path)) for path in files]
    rows, calls = rows_of(processor, clips), []
    hook = model.model.visual.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        made = [encoded_video(model, row, cache) for row in rows]
        assert len(calls) == 2  # of three rows, two are about one clip
        assert torch.equal(made[0], made[1])
    finally:
        hook.remove()
    # The shared clip of a new row and of one that is known is one clip.
    known = rows_of(processor, [cache.clip(provider_of(processor), VideoWindow(path)) for path in files])
    (both,) = share([known[0], rows[1]])
    assert both["branches"].max() == 2 and torch.equal(both[PIXELS], made[0]) and TICKET in both


def test_keys_tell_files_settings_and_towers_apart(qwen3_vl, files, tmp_path):
    model, processor = copy.deepcopy(qwen3_vl.model), qwen3_vl.processor
    window = VideoWindow(files[0])

    def key(video: VideoConfig = VIDEO, window: VideoWindow = window) -> str:
        cache = TowerCache(str(tmp_path / "towers"), max_bytes=10**9, tower=tower_identity(model))
        clip = cache.clip(provider_of(processor, video), window)
        assert isinstance(clip, SeenClip)
        return clip.key

    first = key()
    keys = [
        key(replace(VIDEO, max_frames=4)),
        key(window=VideoWindow(files[1])),
        key(window=replace(window, end_s=1.0)),
    ]
    keys.append(key(replace(VIDEO, cache_dir=str(tmp_path / "clips"))))  # which keeps other pixels
    with torch.no_grad():
        model.model.language_model.layers[0].mlp.up_proj.weight[0, 0] += 1
        assert key() == first
        for part in (model.model.visual.blocks[-1].mlp.linear_fc1.weight, model.model.visual.merger.linear_fc2.weight):
            part[0, 0] += 1e-3
            keys.append(key())
    model.bfloat16()
    keys.append(key())
    assert len({first, *keys}) == 1 + len(keys)


def test_the_folder_stays_within_its_bound_and_keeps_what_the_run_uses(qwen3_vl, write_mp4, tmp_path, caplog):
    model, processor = qwen3_vl
    provider = provider_of(processor)
    windows = [VideoWindow(write_mp4(range(0, 3000, 500), seed=seed)) for seed in range(5)]

    def fill(cache: TowerCache) -> list[bool]:
        """Goes over all clips; which of them were there."""
        there = []
        for window in windows:
            clip = cache.clip(provider, window)
            assert isinstance(clip, SeenClip)
            there.append(clip.inputs is not None)
            encoded_video(model, encode(processor, TASK.conversation("it", duration_s=3.0), clip), cache)
        return there

    probe = TowerCache(str(tmp_path / "one"), max_bytes=10**9, tower="a tower")
    fill(probe)
    sizes = [path.stat().st_size for path in (tmp_path / "one").glob("??/*")]
    assert len(sizes) == 5
    bound = int(3.5 * max(sizes))
    caplog.set_level(logging.WARNING)
    cache = TowerCache(str(tmp_path / "two"), max_bytes=bound, tower="a tower")
    assert fill(cache) == [False] * 5
    # Of a set that does not fit the same clips are found every epoch.
    assert fill(cache) == fill(cache) == [True, True, True, False, False]
    assert sum(path.stat().st_size for path in (tmp_path / "two").glob("??/*")) <= bound
    # Of warnings alone: what another test has set lets notices come through as well.
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    (told,) = [record.getMessage() for record in warnings if record.name == "vtg.data.tensor_folder"]
    assert "it is full; raise video.tower_cache_gb to keep more" in told
    # What only an earlier run has used goes.
    for path in (tmp_path / "two").glob("??/*"):
        os.utime(path, (0, time.time() - 60))
    later = TowerCache(str(tmp_path / "two"), max_bytes=bound, tower="another tower")
    assert fill(later) == [False] * 5 and fill(later)[:3] == [True] * 3


def test_a_damaged_entry_is_seen_again(qwen3_vl, files, tmp_path):
    model, processor = qwen3_vl
    cache, provider = TowerCache(str(tmp_path), max_bytes=10**9, tower="a tower"), provider_of(processor)
    rows = rows_of(processor, [cache.clip(provider, VideoWindow(path)) for path in files])
    made = [encoded_video(model, row, cache) for row in rows]
    for path in tmp_path.glob("??/*"):
        content = path.read_bytes()
        path.write_bytes(content[:-99] + bytes([content[-99] ^ 1]) + content[-98:])
    clips = [cache.clip(provider, VideoWindow(path)) for path in files]
    assert all(isinstance(clip, SeenClip) and clip.inputs is None for clip in clips)
    again = [encoded_video(model, row, cache) for row in rows_of(processor, clips)]
    assert all(torch.equal(one, other) for one, other in zip(made, again, strict=True))


def _see(cache: TowerCache, vlm: Any, files: list[str], queue: Any) -> None:
    torch.set_num_threads(1)
    provider = provider_of(vlm.processor)
    rows = rows_of(vlm.processor, [cache.clip(provider, VideoWindow(path)) for path in files])
    queue.put([encoded_video(vlm.model, row, cache).double().sum().item() for row in rows])


def test_processes_share_the_folder(qwen3_vl, files, tmp_path):
    accept_encoded_videos(qwen3_vl.model)
    cache = TowerCache(str(tmp_path), max_bytes=10**9, tower=tower_identity(qwen3_vl.model))
    queue = FORK.SimpleQueue()
    both = [FORK.Process(target=_see, args=(cache, qwen3_vl, files, queue)) for _ in range(2)]
    for process in both:
        process.start()
    sums = [queue.get() for _ in both]
    for process in both:
        process.join()
        assert process.exitcode == 0
    assert sums[0] == sums[1]
    assert len(list(tmp_path.glob("??/*.safetensors"))) == 2 and not list(tmp_path.glob("??/.*"))
    fresh = provider_of(qwen3_vl.processor)
    assert all(cache.clip(fresh, VideoWindow(path)).inputs for path in files)  # type: ignore[attr-defined]
    assert not fresh.take_counts()["decoded"]


def test_a_tower_that_is_trained_is_refused(qwen3_vl):
    model = copy.deepcopy(qwen3_vl.model).requires_grad_(False)
    check_frozen(model)
    model.model.visual.merger.linear_fc2.weight.requires_grad_(True)
    with pytest.raises(ConfigError, match=r"tower_cache_dir is set, but 1 weights .*merger.linear_fc2.*parts.vision"):
        check_frozen(model)


def test_a_folder_that_cannot_be_is_a_wrong_setting(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ConfigError, match=r"video.tower_cache_dir = .*name a folder of yours on a disk"):
        TowerCache(str(tmp_path / "file" / "towers"), max_bytes=10**9, tower="a tower")
    with pytest.raises(ConfigError, match=r"video.tower_cache_gb: 0 bytes hold nothing"):
        TowerCache(str(tmp_path), max_bytes=0, tower="a tower")
