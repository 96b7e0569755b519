import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from vtg.config.video_settings import VideoConfig
from vtg.video.clip_cost import clip_cost, frames_cost, target_size, video_tokens
from vtg.video.clip_loading import plan_clip
from vtg.video.container import read_index
from vtg.video.frame_sampling import POLICIES, choose_frames, padding
from vtg.video.video_window import VideoWindow

ticks = st.lists(st.integers(1, 400), min_size=1, max_size=80)
policies = st.sampled_from(list(POLICIES))


def clip_of(steps: list[int]) -> tuple[np.ndarray, float]:
    """Times of a variable frame rate in hundredths of a second, and the clip's end."""
    edges_s = np.cumsum([0, *steps]) / 100
    return edges_s[:-1], float(edges_s[-1])


def config_of(**settings) -> VideoConfig:
    return VideoConfig(**({"min_frames": 1, "max_frames": 64} | settings))


@given(
    steps=ticks,
    policy=policies,
    fps=st.sampled_from([0.0, 0.3, 1.0, 2.0, 30.0, 1e9]),
    last=st.booleans(),
    limits=st.tuples(st.integers(1, 20), st.integers(1, 60)),
    patch=st.integers(1, 4),
    seed=st.integers(0, 5),
)
def test_chosen_frames_keep_every_promise(steps, policy, fps, last, limits, patch, seed):
    times_s, duration_s = clip_of(steps)
    low, high = min(limits), max(limits)
    config = config_of(sampling=policy, fps=fps, last_frame=last, min_frames=low, max_frames=high)
    is_key = np.arange(len(times_s)) % 7 == 0
    chosen, again = (
        choose_frames(times_s, config, duration_s=duration_s, is_key=is_key, temporal_patch=patch, seed=seed)
        for _ in range(2)
    )
    assert chosen.dtype == np.int64 and (np.diff(chosen) > 0).all()
    assert chosen[0] >= 0 and chosen[-1] < len(times_s)
    assert 1 <= len(chosen) <= high
    assert np.array_equal(chosen, again)
    cap = high - high % patch if high > patch else high
    assert len(chosen) >= min(low, cap, len(times_s))
    if len(times_s) >= cap >= patch:
        assert len(chosen) % patch == 0
    elif len(chosen) % patch:
        assert len(chosen) in (len(times_s), cap)


@given(
    count=st.integers(2, 300),
    rate=st.floats(1, 60),
    fps=st.floats(0.1, 30),
)
def test_an_fps_grid_is_off_by_at_most_half_a_frame_and_misses_no_point(count, rate, fps):
    times_s = np.arange(count) / rate
    config = config_of(fps=fps, max_frames=10_000)
    got_s = times_s[choose_frames(times_s, config, duration_s=count / rate)]
    grid_s = np.arange(int(np.ceil(count / rate * fps - 1e-6))) / fps
    grid_s = grid_s[grid_s <= times_s[-1]]
    assert np.abs(got_s[:, None] - grid_s).min(axis=0).max() <= 0.5 / rate + 1e-9
    if fps <= rate:
        assert np.abs(got_s[:, None] - np.arange(len(grid_s) + 1) / fps).min(axis=1).max() <= 1 / rate + 1e-9


def test_the_fps_grid_starts_at_zero_and_takes_the_nearest_frame():
    times_s = np.arange(100) * 0.1049
    chosen = choose_frames(times_s, config_of(fps=2.0), duration_s=10.49)
    assert chosen[:5].tolist() == [0, 5, 10, 14, 19]
    assert len(chosen) == 21


def test_the_last_frame_is_added_on_demand():
    times_s = np.arange(25) / 10
    assert choose_frames(times_s, config_of(fps=1.0), duration_s=2.5).tolist() == [0, 10, 20]
    assert choose_frames(times_s, config_of(fps=1.0, last_frame=True), duration_s=2.5).tolist() == [0, 10, 20, 24]


def test_fps_zero_takes_every_frame_and_the_cap_makes_it_uniform():
    times_s = np.arange(50) / 10
    assert choose_frames(times_s, config_of(fps=0.0), duration_s=5.0).tolist() == list(range(50))
    capped = choose_frames(times_s, config_of(fps=0.0, max_frames=8), duration_s=5.0)
    assert (
        capped.tolist()
        == choose_frames(times_s, config_of(sampling="uniform", max_frames=8), duration_s=5.0).tolist()
        == [0, 7, 14, 21, 28, 35, 42, 49]
    )


def test_a_short_clip_is_sampled_more_densely_for_min_frames():
    times_s = np.arange(30) / 30
    chosen = choose_frames(times_s, config_of(fps=2.0, min_frames=4), duration_s=1.0)
    assert np.allclose(np.diff(times_s[chosen]), 0.25, atol=0.04)


def test_frames_come_in_whole_temporal_patches_where_there_are_enough():
    times_s = np.arange(9) / 3
    assert len(choose_frames(times_s, config_of(fps=1.0), duration_s=3.0, temporal_patch=2)) == 4
    assert len(choose_frames(times_s[:3], config_of(fps=0.0), duration_s=1.0, temporal_patch=2)) == 3
    assert len(choose_frames(times_s, config_of(fps=0.0, max_frames=7), duration_s=3.0, temporal_patch=2)) == 6


@given(seed=st.integers(0, 10_000))
def test_random_takes_one_frame_from_each_equal_part(seed):
    times_s = np.arange(80) / 10
    config = config_of(sampling="random", max_frames=8)
    chosen = choose_frames(times_s, config, duration_s=8.0, seed=seed)
    assert (times_s[chosen] // 1.0).astype(int).tolist() == list(range(8))


def test_random_follows_its_seed():
    times_s = np.arange(500) / 10
    config = config_of(sampling="random", max_frames=16)
    draws = {tuple(choose_frames(times_s, config, duration_s=50.0, seed=seed)) for seed in range(20)}
    assert len(draws) == 20


def test_keyframes_are_taken_and_thinned_to_keyframes():
    times_s, is_key = np.arange(100) / 10, np.arange(100) % 10 == 0
    config = config_of(sampling="keyframe")
    assert choose_frames(times_s, config, duration_s=10.0, is_key=is_key).tolist() == list(range(0, 100, 10))
    few = choose_frames(times_s, config_of(sampling="keyframe", max_frames=4), duration_s=10.0, is_key=is_key)
    assert few.tolist() == [0, 30, 60, 90]
    with pytest.raises(ValueError, match="'keyframe': needs is_key"):
        choose_frames(times_s, config, duration_s=10.0)


def test_an_unknown_policy_is_answered_with_the_valid_ones():
    with pytest.raises(
        ValueError, match=r"video\.sampling = 'dense': must be one of fps, uniform, random, keyframe, molmo2"
    ):
        choose_frames(np.zeros(1), config_of(sampling="dense"), duration_s=1.0)
    with pytest.raises(ValueError, match="no frames to choose from"):
        choose_frames(np.zeros(0), config_of(), duration_s=1.0)


@given(
    steps=ticks,
    fps=st.sampled_from([0.0, 0.3, 1.0, 2.0, 30.0]),
    low=st.integers(1, 20),
    high=st.integers(2, 60),
    patch=st.integers(1, 4),
)
def test_molmo2_has_the_first_and_the_last_frame_whatever_the_limits(steps, fps, low, high, patch):
    times_s, duration_s = clip_of(steps)
    config = config_of(sampling="molmo2", fps=fps, min_frames=min(low, high), max_frames=high)
    chosen = choose_frames(times_s, config, duration_s=duration_s, temporal_patch=patch)
    assert chosen[0] == 0 and chosen[-1] == len(times_s) - 1
    assert len(chosen) <= high


def molmo2_reference_s(count: int, rate: int, fps: float, most: int) -> np.ndarray:
    """Times by the rule as published: every rate / fps-th frame and the last; a longer video evenly, ends included."""
    last = count - 1
    if count / rate > (most - 1) / fps:
        return np.linspace(0, last, min(most, count)) / rate
    frames = np.arange(0.0, last, rate / fps)
    return np.append(frames, last) / rate if count == 1 or round(frames[-1]) != last else frames / rate


@given(
    count=st.integers(2, 2000),
    rate=st.sampled_from([10, 24, 25, 30, 60]),
    fps=st.sampled_from([0.5, 1.0, 2.0, 5.0]),
    most=st.integers(3, 64),
)
def test_molmo2_takes_the_frames_that_molmo2_takes_to_within_a_frame(count, rate, fps, most):
    # With the last grid point halfway between two frames, rounding alone says which is nearer, and if another is added.
    assume(abs(((count - 1) * fps / rate) % 1 * rate / fps - 0.5) > 1e-6)
    times_s = np.arange(count) / rate
    config = config_of(sampling="molmo2", fps=fps, max_frames=most)
    got_s = times_s[choose_frames(times_s, config, duration_s=count / rate)]
    wanted_s = molmo2_reference_s(count, rate, fps, most)
    assert len(got_s) == len(wanted_s)
    # Where a video is longer than the cap by a part of a frame, one rule calls it longer and the other does not yet.
    assert np.abs(got_s - wanted_s).max() <= 1.5 / rate + 1e-9


def test_molmo2_with_a_cap_of_one_frame_has_only_the_first():
    config = config_of(sampling="molmo2", max_frames=1)
    assert choose_frames(np.arange(5) / 2, config, duration_s=2.5, temporal_patch=2).tolist() == [0]


def test_padding_fills_a_short_clip_up_to_min_frames_in_whole_patches_and_never_past_the_cap():
    config = config_of(pad=True, min_frames=4, max_frames=8)
    assert [padding(count, config, temporal_patch=2) for count in (1, 3, 4, 5, 8)] == [3, 1, 0, 0, 0]
    odd = config_of(pad=True, min_frames=3, max_frames=8)
    assert [padding(count, odd, temporal_patch=2) for count in (1, 2, 3, 4)] == [3, 2, 1, 0]
    assert [padding(count, odd, temporal_patch=1) for count in (1, 2, 3, 4)] == [2, 1, 0, 0]
    capped = config_of(pad=True, min_frames=7, max_frames=7)
    assert [padding(count, capped, temporal_patch=2) for count in (1, 6)] == [5, 0]
    assert padding(1, config_of(pad=True, min_frames=3, max_frames=3), temporal_patch=4) == 2
    assert padding(1, config_of(min_frames=4), temporal_patch=2) == 0


@given(
    steps=st.lists(st.integers(1, 400), min_size=1, max_size=12),
    policy=policies,
    limits=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    patch=st.integers(1, 4),
)
def test_a_clip_is_padded_only_where_it_has_no_frame_left(steps, policy, limits, patch):
    times_s, duration_s = clip_of(steps)
    config = config_of(sampling=policy, pad=True, min_frames=min(limits), max_frames=max(limits))
    is_key = np.arange(len(times_s)) % 3 == 0
    count = len(choose_frames(times_s, config, duration_s=duration_s, is_key=is_key, temporal_patch=patch))
    pad = padding(count, config, temporal_patch=patch)
    assert pad == 0 or count == len(times_s)
    cap = max(limits) - max(limits) % patch if max(limits) > patch else max(limits)
    assert count + pad >= min(min(limits), cap)
    assert count + pad <= cap


@settings(max_examples=400)
@given(
    count=st.integers(1, 400),
    cut=st.sampled_from([0.0, 1e-7, 0.1, 0.5, 0.999]),
    rate=st.sampled_from([1.0, 7.5, 10.0, 23.976, 24.0, 25.0, 29.97, 30.0, 60.0]),
    policy=st.sampled_from([policy for policy in POLICIES if policy != "keyframe"]),
    fps=st.one_of(st.sampled_from([0.0, 0.3, 1.0, 2.0, 7.5, 15.0, 25.0, 29.97, 30.0, 60.0, 1e9]), st.floats(0.01, 100)),
    last=st.booleans(),
    limits=st.tuples(st.integers(1, 40), st.integers(1, 300)),
    patch=st.integers(1, 4),
    pad=st.booleans(),
)
def test_the_cost_is_that_of_the_frames_that_would_be_chosen(count, cut, rate, policy, fps, last, limits, patch, pad):
    duration_s = (count - cut) / rate
    config = config_of(
        sampling=policy, fps=fps, last_frame=last, min_frames=min(limits), max_frames=max(limits), pad=pad
    )
    times_s = np.arange(count) / rate
    chosen = choose_frames(times_s, config, duration_s=duration_s, temporal_patch=patch)
    size = {"height": 360, "width": 640, "config": config, "factor": 32, "temporal_patch": patch}
    cost = clip_cost(duration_s, rate=rate, **size)
    assert cost == frames_cost(len(chosen), **size)
    assert cost.frames == len(chosen) and cost.pad == padding(len(chosen), config, temporal_patch=patch)
    assert cost.bytes == len(chosen) * 3 * cost.height * cost.width
    patches = -(-(cost.frames + cost.pad) // patch)
    assert cost.tokens == patches * (cost.height // 32) * (cost.width // 32)


@given(
    count=st.integers(1, 60),
    cut=st.floats(0.0, 0.999),
    rate=st.sampled_from([7.5, 25.0, 29.97, 30.0]),
    share=st.one_of(st.sampled_from([0.5, 0.75, 0.8, 1.0, 1.2, 1.5, 2.0]), st.floats(0.3, 2.5)),
    last=st.booleans(),
)
@example(count=7, cut=0.0, rate=30.0, share=0.9, last=False)  # two points of the grid meet in the last frame
@example(count=7, cut=0.999, rate=30.0, share=1.3, last=False)  # a grid faster than the frames ends before the last
def test_the_cost_counts_a_grid_about_as_fast_as_the_frames_exactly(count, cut, rate, share, last):
    duration_s, config = (count - cut) / rate, config_of(fps=rate * share, last_frame=last, max_frames=1000)
    chosen = choose_frames(np.arange(count) / rate, config, duration_s=duration_s)
    cost = clip_cost(duration_s, rate=rate, height=64, width=64, config=config, factor=32, temporal_patch=1)
    assert cost.frames == len(chosen)


@given(count=st.integers(1, 200), keys=st.integers(1, 20), limits=st.tuples(st.integers(1, 20), st.integers(1, 60)))
def test_the_cost_by_keyframes_is_an_upper_bound(count, keys, limits):
    config = config_of(sampling="keyframe", min_frames=min(limits), max_frames=max(limits))
    times_s, is_key = np.arange(count) / 30, np.arange(count) % keys == 0
    chosen = choose_frames(times_s, config, duration_s=count / 30, is_key=is_key, temporal_patch=2)
    cost = clip_cost(count / 30, height=64, width=64, config=config, factor=32, temporal_patch=2)
    assert cost.frames >= len(chosen)
    assert keys > 1 or cost.frames == len(chosen)


FILES = {
    "1 frame": (1, 25, (48, 64)),
    "3 frames": (3, 10, (48, 64)),
    "a wide picture": (20, 10, (48, 160)),
    "25 frames a second": (50, 25, (64, 48)),
    "50 frames a second": (50, 50, (96, 96)),
}
PLANS = [
    {},
    {"fps": 3.0, "last_frame": True},
    {"fps": 0.0},
    {"sampling": "molmo2", "fps": 7.0},
    {"sampling": "uniform"},
    {"sampling": "random", "max_frames": 7},
    {"fps": 30.0, "max_frames": 9, "min_frames": 9, "total_pixels": 32 * 32 * 40},
    {"min_frames": 6, "min_pixels": 100_000},
    {"pad": True, "min_frames": 7},
]


@pytest.mark.parametrize("file", FILES)
def test_the_cost_from_metadata_is_the_plan_of_the_real_file(make_video, file):
    count, rate, size = FILES[file]
    path = make_video([k * 1000 // rate for k in range(count)], size=size)
    index = read_index(path)
    assert abs(index.info.duration_s - count / rate) < 1e-9 or count == 1
    for chosen in PLANS:
        config = config_of(**({"min_frames": 2, "max_frames": 16} | chosen))
        plan = plan_clip(index, VideoWindow(path), config, factor=32, temporal_patch=2)
        cost = clip_cost(
            index.info.duration_s, height=size[0], width=size[1], config=config, factor=32, temporal_patch=2, rate=rate
        )
        assert (cost.frames, (cost.height, cost.width), cost.tokens) == (len(plan.chosen), plan.size, plan.tokens)


@pytest.mark.parametrize(("duration_s", "rate"), [(0.0, 30.0), (-1.0, 30.0), (np.nan, 30.0), (1.0, 0.0), (1.0, np.inf)])
def test_a_cost_needs_a_duration_and_a_rate(duration_s, rate):
    with pytest.raises(ValueError, match=r"duration_s = .*, rate = .*: must be positive and finite; check"):
        clip_cost(duration_s, height=8, width=8, config=config_of(), factor=32, temporal_patch=2, rate=rate)


def test_a_cost_knows_the_policies_and_the_limits():
    size = {"height": 64, "width": 64, "factor": 32, "temporal_patch": 2}
    with pytest.raises(ValueError, match=r"video\.sampling = 'dense': must be one of fps, uniform"):
        clip_cost(1.0, config=config_of(sampling="dense"), **size)
    with pytest.raises(ValueError, match=r"frames of at least 32x32 pixels do not fit into video\.max_pixels"):
        clip_cost(60.0, config=config_of(max_frames=64, min_pixels=1, total_pixels=32 * 32 * 8), **size)


@given(
    height=st.integers(1, 5000),
    width=st.integers(1, 5000),
    frames=st.integers(1, 600),
    factor=st.sampled_from([28, 32]),
    low=st.integers(1, 100_000),
    high=st.integers(100_000, 1_000_000),
)
def test_no_pixel_limit_is_ever_exceeded(height, width, frames, factor, low, high):
    total = 16_777_216
    got = target_size(height, width, frames=frames, factor=factor, min_pixels=low, max_pixels=high, total_pixels=total)
    pixels = got[0] * got[1]
    assert got[0] % factor == got[1] % factor == 0 < pixels
    assert pixels <= high and frames * pixels <= total
    ratio = (got[0] / got[1]) / (height / width)
    if min(got) >= 8 * factor:  # coarser grids and extreme shapes cannot keep it
        assert 0.8 < ratio < 1.25
    if high // 2 > low and total // frames >= high and 1 / 4 < height / width < 4:
        assert pixels >= min(low, high // 2)


def test_sizes_are_those_of_the_qwen_processors():
    limits = {"factor": 32, "min_pixels": 4096, "total_pixels": 25_165_824}
    assert target_size(360, 640, frames=10, max_pixels=786_432, **limits) == (352, 640)
    assert target_size(1080, 1920, frames=10, max_pixels=786_432, **limits) == (640, 1152)
    assert target_size(1080, 1920, frames=128, max_pixels=786_432, **limits) == (320, 576)
    assert target_size(1, 1, frames=2, max_pixels=786_432, **limits) == (64, 64)


def test_too_many_frames_for_the_budget_are_an_error_that_says_how_many_fit():
    with pytest.raises(ValueError, match=r"8 frames of at least 32x32 .* lower video\.max_frames to at most 4"):
        target_size(64, 64, frames=8, factor=32, min_pixels=1, max_pixels=4096, total_pixels=4096)


def test_tokens_are_counted_in_whole_temporal_patches():
    assert video_tokens(10, 352, 640, factor=32, temporal_patch=2) == 5 * 11 * 20
    assert video_tokens(9, 32, 64, factor=32, temporal_patch=2) == 5 * 2
