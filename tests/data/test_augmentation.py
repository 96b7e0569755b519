"""Random changes of training clips: frames, times and moments stay together, and nothing grows."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtg.annotations.sample import Sample, read_samples
from vtg.annotations.sample_table import SampleTable
from vtg.annotations.target import NoMoment, Spans
from vtg.batching.cost import sample_costs, video_facts
from vtg.config.data_settings import AugmentationConfig
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.data.augmentation import Augmentation
from vtg.data.grounding_dataset import GroundingDataset, make_provider
from vtg.models.families import family_of
from vtg.tasks.span_task import SpanTask
from vtg.video.clip import Clip

ALL = AugmentationConfig(crop=0.7, crop_min_share=0.3, shift=0.7, speed=1.5, color=0.3)


def numbered(times_s: list[float], duration_s: float, *, pad: int = 0) -> Clip:
    """A clip whose frames say which one they are."""
    frames = np.broadcast_to(np.arange(len(times_s), dtype=np.uint8)[:, None, None, None], (len(times_s), 3, 4, 4))
    return Clip(frames.copy(), np.array(times_s), duration_s, "a.mp4", 0.0, duration_s, pad)


def sample_of(duration_s: float, *spans: tuple[float, float], qid: str = "q") -> Sample:
    return Sample("a.mp4", duration_s, Spans(spans) if spans else NoMoment(), "a dog", qid)


def augmentation(config: AugmentationConfig, *, pads: bool = False, seed: int = 0) -> Augmentation:
    return Augmentation(config, pads=pads, temporal_patch=2, seed=seed)


def inside(sample: Sample, clip: Clip) -> dict[int, int]:
    """Number of each frame → which of the sample's moments it shows, -1 for none; sorted moments count from 0."""
    found = {}
    for frame, time_s in zip(clip.frames[:, 0, 0, 0].tolist(), clip.timestamps_s.tolist(), strict=True):
        at = [at for at, (start, end) in enumerate(sample.spans) if start <= time_s < end]
        found[frame] = at[0] if at else -1
    return found


@st.composite
def rows(draw) -> tuple[Sample, Clip]:
    count = draw(st.integers(2, 40))
    steps = draw(st.lists(st.floats(0.05, 2.0), min_size=count, max_size=count))
    times = np.cumsum(steps) - steps[0]
    duration_s = float(times[-1]) + draw(st.floats(0.01, 2.0))
    edges = sorted(draw(st.lists(st.floats(0, duration_s), min_size=2, max_size=6, unique=True)))
    spans = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=False) if b - a > 1e-3]
    return sample_of(duration_s, *spans, qid=str(draw(st.integers(0, 99)))), numbered(times.tolist(), duration_s)


@settings(max_examples=300, deadline=None)
@given(rows(), st.integers(0, 5))
def test_a_moment_shows_the_frames_it_showed_and_no_other(row, epoch):
    sample, clip = row
    changed, shown = augmentation(replace(ALL, color=0.0))(sample, clip, epoch=epoch)
    assert changed.duration_s == shown.duration_s
    assert len(changed.spans) == len(sample.spans) and type(changed.target) is type(sample.target)
    before, after = inside(sample, clip), inside(changed, shown)
    assert after.keys() <= before.keys()
    # The order of moments may change by a shift; which frames lie in one moment together does not. A frame within
    # rounding of a moment's edge may fall on either side of it.
    edges = [edge for span in sample.spans for edge in span]
    clear = [frame for frame in after if all(abs(clip.timestamps_s[frame] - edge) > 1e-6 for edge in edges)]
    moments = {(before[frame], after[frame]) for frame in clear}
    assert len({one for one, _ in moments}) == len({other for _, other in moments}) == len(moments)
    assert all((one == -1) == (other == -1) for one, other in moments)


@settings(max_examples=300, deadline=None)
@given(rows(), st.integers(0, 5))
def test_nothing_grows_past_what_a_batch_was_planned_with(row, epoch):
    sample, clip = row
    changed, shown = augmentation(ALL)(sample, clip, epoch=epoch)
    assert len(shown.frames) <= len(clip.frames) and shown.frames.shape[1:] == clip.frames.shape[1:]
    assert len(shown.frames) == len(clip.frames) or len(shown.frames) % 2 == 0
    digits = [len(str(int(round(max(time_s, 1.0), 1)))) for time_s in (changed.duration_s, sample.duration_s)]
    assert digits[0] <= digits[1]


@settings(max_examples=200, deadline=None)
@given(rows(), st.integers(0, 5))
def test_a_crop_leaves_its_share_and_whole_moments(row, epoch):
    sample, clip = row
    changed, _ = augmentation(AugmentationConfig(crop=1.0, crop_min_share=0.4))(sample, clip, epoch=epoch)
    assert 0.4 * sample.duration_s <= changed.duration_s * (1 + 1e-9) and changed.duration_s <= sample.duration_s
    lengths = [[end - start for start, end in one.spans] for one in (sample, changed)]
    assert np.allclose(*lengths)


def test_a_crop_that_leaves_no_frame_is_left_out():
    sample, clip = sample_of(100.0, (40.0, 41.0)), numbered([0.0, 99.0], 100.0)
    config = AugmentationConfig(crop=1.0, crop_min_share=0.01)
    for epoch in range(20):
        changed, shown = augmentation(config)(sample, clip, epoch=epoch)
        assert (changed, len(shown.frames)) == (sample, 2)


def test_a_padded_clip_keeps_its_number_of_frames():
    sample, clip = sample_of(10.0, (4.0, 5.0)), numbered([float(second) for second in range(10)], 10.0, pad=2)
    _, shown = augmentation(AugmentationConfig(crop=1.0, crop_min_share=0.2), pads=True)(sample, clip, epoch=0)
    assert len(shown.frames) < 10 and len(shown.frames) + shown.pad == 12


def test_a_shift_moves_a_moment_to_every_place_it_fits():
    sample, clip = sample_of(10.0, (1.0, 3.0)), numbered([float(second) for second in range(10)], 10.0)
    starts = [
        augmentation(AugmentationConfig(shift=1.0))(sample, clip, epoch=epoch)[0].spans[0][0] for epoch in range(200)
    ]
    assert min(starts) < 1.0 and max(starts) > 7.0
    full = sample_of(10.0, (0.0, 10.0))
    assert augmentation(AugmentationConfig(shift=1.0))(full, clip, epoch=0) == (full, clip)


def test_a_draw_depends_on_the_seed_the_epoch_and_the_row_alone():
    sample, clip = sample_of(10.0, (1.0, 3.0)), numbered([float(second) for second in range(10)], 10.0)

    def spans(*, seed: int = 0, epoch: int = 0, qid: str = "q"):
        row = replace(sample, qid=qid)
        return augmentation(ALL, seed=seed)(row, clip, epoch=epoch)[0].spans

    assert spans() == spans()
    assert len({spans(), spans(seed=1), spans(epoch=1), spans(qid="r")}) == 4


def test_rows_of_one_clip_change_their_speed_and_colour_alike():
    clip = replace(numbered([0.0, 1.0, 2.0, 3.0], 5.0), frames=np.full((4, 3, 8, 8), 100, np.uint8))
    change = augmentation(AugmentationConfig(speed=2.0, color=0.5))
    shown = [change(sample_of(5.0, (1.0, 2.0), qid=qid), clip, epoch=3)[1] for qid in ("a", "b")]
    assert np.array_equal(shown[0].frames, shown[1].frames) and not np.array_equal(shown[0].frames, clip.frames)
    assert np.array_equal(shown[0].timestamps_s, shown[1].timestamps_s)


@pytest.fixture
def dataset(qwen3_vl, demo_dir, samples):
    def make(config: AugmentationConfig | None, *, training: bool = True) -> GroundingDataset:
        video = VideoConfig(fps=4.0, min_pixels=1024, max_pixels=4096, total_pixels=2**20)
        return GroundingDataset(
            samples,
            task=SpanTask(TaskConfig()),
            processor=qwen3_vl.processor,
            provider=make_provider(video, qwen3_vl.processor),
            video_dir=str(demo_dir),
            max_length=4096,
            tokens_per_second=2.0,
            training=training,
            keep_clips=True,
            augmentation=None if config is None else augmentation(config),
        )

    return make


@pytest.fixture
def samples(demo_dir) -> list[Sample]:
    return [one for one in read_samples(demo_dir / "train.jsonl") if isinstance(one, Sample)]


def test_the_model_reads_the_changed_times_and_is_trained_on_the_changed_answer(dataset, qwen3_vl, samples, demo_dir):
    changing = dataset(ALL)
    facts = video_facts(SampleTable.of(samples).videos()[0], video_dir=str(demo_dir))
    shape = {"task": changing.task, "processor": changing.processor, "video": changing.provider.config}
    planned = sample_costs(SampleTable.of(samples), facts, **shape)
    tokenizer, stamps = qwen3_vl.processor.tokenizer, family_of(qwen3_vl.processor).stamps
    differ = 0
    for at, sample in enumerate(samples):
        item = changing[at]
        clip = item.clip
        assert clip is not None and item.sample.duration_s == clip.duration_s == item.row.duration_s
        assert len(item.features["input_ids"]) <= planned.tokens[at]
        text = tokenizer.decode(item.features["input_ids"])
        starts, ends = clip.timestamps_s[::2], clip.timestamps_s[1::2]
        told = np.array(stamps.seconds_in(text))
        means = (starts[: len(told)] + (ends if len(ends) == len(starts) else np.append(ends, starts[-1]))) / 2
        assert np.abs(told - means).max() <= 0.051
        assert changing.task.encode(item.sample.spans, duration_s=clip.duration_s) in text
        differ += item.sample.spans != sample.spans
    assert differ > len(samples) / 2


def test_nothing_changes_without_augmentation(dataset, samples):
    item = dataset(None)[0]
    assert item.sample == samples[0] and item.clip is not None
    assert item.clip.duration_s == samples[0].duration_s
