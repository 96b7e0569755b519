import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtg.video.clip import Clip


def make(
    *, frames=(2, 3, 4, 6), dtype=np.uint8, times=(0.0, 0.5), duration_s=1.0, start_s=7.0, end_s=8.0, pad=0
) -> Clip:
    return Clip(np.zeros(frames, dtype), np.array(times), duration_s, "a.mp4", start_s, end_s, pad)


def test_a_clip_prints_shapes_and_times_but_no_data():
    assert repr(make()) == "Clip('a.mp4', 7.000-8.000 s, frames 2x3x4x6 at 0.000..0.500 s of 1.000 s)"
    padded = "Clip('a.mp4', 7.000-8.000 s, frames 2x3x4x6 + 2 padding at 0.000..0.500 s of 1.000 s)"
    assert repr(make(pad=2)) == padded


@given(count=st.integers(1, 6), pad=st.integers(0, 9))
def test_padding_repeats_the_last_frame_and_the_mask_says_which_frames_are_real(count, pad):
    times_s = np.arange(count) / 8
    frames = np.random.default_rng(0).integers(0, 256, (count, 3, 2, 2), dtype=np.uint8)
    clip = Clip(frames, times_s, 1.0, "a.mp4", 0.0, 1.0, pad)
    got, got_s, mask = clip.padded()
    assert got.shape == (count + pad, 3, 2, 2) and got.dtype == np.uint8
    assert mask.tolist() == [True] * count + [False] * pad
    assert np.array_equal(got[mask], frames) and np.array_equal(got_s[mask], times_s)
    assert (got[~mask] == frames[-1]).all() and (got_s[~mask] == times_s[-1]).all()
    assert (got is frames) == (pad == 0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"frames": (2, 4, 6, 3)}, r"a\.mp4: frames must be \(T, 3, H, W\) uint8 .* not \(2, 4, 6, 3\) uint8"),
        ({"dtype": np.float32}, "uint8 .* not .* float32"),
        ({"times": (0.0,)}, r"timestamps_s must be \(2,\) float64, one for each frame, not \(1,\) float64"),
        ({"times": (0, 1)}, "not .* int64"),
        ({"times": (0.5, 0.5)}, "finite and strictly increasing"),
        ({"times": (0.0, np.nan)}, "finite and strictly increasing"),
        ({"times": (-0.1, 0.5)}, r"must lie in \[0, duration_s = 1\), but run from -0\.1 to 0\.5"),
        ({"times": (0.0, 1.0)}, r"must lie in \[0, duration_s = 1\)"),
        ({"start_s": 8.0}, "start_s = 8 must be before end_s = 8"),
        ({"pad": -1}, r"a\.mp4: pad = -1: a number of frames to append, must be at least 0"),
    ],
)
def test_a_clip_that_cannot_be_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        make(**wrong)
