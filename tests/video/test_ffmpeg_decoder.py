"""The ffmpeg command against PyAV: the same frames at the same times, or a refusal."""

import math
import resource
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vtg.video.clip import DecodeError
from vtg.video.container import read_index
from vtg.video.decoders import ffmpeg_decoder, pyav_decoder
from vtg.video.decoders.ffmpeg_decoder import decode, selection

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="there is no ffmpeg command")

SIZE = (48, 64)
OTHER_CONVERSION = {"torchcodec2__testsrc2_odd_height_and_width_mpeg2.mp4", "torchcodec__h264_10bits.mp4"}
"""Odd sizes and 10 bits: how colour planes are interpolated differs between versions of FFmpeg."""


@needs_ffmpeg
def test_it_agrees_with_pyav_on_every_shared_video_or_refuses_it(shared_videos: Path):
    agreed, refused = set(), set()
    for path in sorted(path for path in shared_videos.iterdir() if path.is_file()):
        try:
            index = read_index(str(path))
            chosen = np.unique(np.linspace(0, min(len(index.pts), 100) - 1, 4).astype(int))
            size = (index.info.height, index.info.width)
            mine = pyav_decoder.decode(index, chosen, size=size)
        except DecodeError:
            continue
        try:
            theirs = decode(index, chosen, size=size)
        except DecodeError as error:
            assert path.name in str(error)
            refused.add(path.name)
            continue
        difference = np.abs(mine.astype(np.int16) - theirs).mean(axis=(1, 2, 3))
        assert difference.max() < (6 if path.name in OTHER_CONVERSION else 0.5), (path.name, difference)
        agreed.add(path.name)
    assert len(agreed) >= 28 and refused == {"mmaction2__test.avi"}
    assert {"decord__video_90.mov", "decord__video_180.mov", "derived__rot270_OHOFG.mp4"} <= agreed


@needs_ffmpeg
@pytest.mark.parametrize("name", ["decord__video_90.mov", "timer1__OHOFG.mp4", "torchcodec__nasa_13013.mp4"])
def test_resizing_by_ffmpeg_gives_about_what_resizing_by_pyav_gives(shared_videos: Path, name):
    index = read_index(str(shared_videos / name))
    chosen = np.array([0, 2])
    mine, theirs = (each(index, chosen, size=(112, 128), exact=False) for each in (pyav_decoder.decode, decode))
    assert np.abs(mine.astype(np.int16) - theirs).mean() < 2


@needs_ffmpeg
@pytest.mark.parametrize("name", ["video.mp4", "video.mkv", "video.ts"])
def test_the_very_frames_of_a_variable_rate_are_taken(make_video, frame_numbers, name):
    times_ms = [7000 + at for at in (0, 40, 80, 300, 320, 900, 1000, 1040, 2000, 2040, 2080, 2500, 2540, 2580)]
    index = read_index(make_video(times_ms, name=name))
    for chosen in ([1, 3, 4, 8, 12, 13], [0], [13], range(14)):
        frames = decode(index, np.array(chosen), size=SIZE)
        assert frames.shape == (len(chosen), 3, *SIZE) and frames.dtype == np.uint8
        assert frame_numbers(frames) == list(chosen)


@needs_ffmpeg
@pytest.mark.parametrize("options", [{"g": "30", "bf": "3"}, {"x264-params": "open-gop=1:keyint=30:bframes=3"}])
@pytest.mark.parametrize("name", ["video.mp4", "video.mkv", "video.ts"])
def test_frames_far_into_a_file_are_right_wherever_decoding_begins(make_video, frame_numbers, options, name):
    pictures = [np.full((*SIZE, 3), 20 + 4 * (at % 50), dtype=np.uint8) for at in range(600)]
    index = read_index(make_video([40 * at for at in range(600)], name=name, options=options, pictures=pictures))
    for key in np.flatnonzero(index.is_key)[-3:]:
        chosen = np.arange(key - 2, min(key + 3, 600))
        assert frame_numbers(decode(index, chosen, size=SIZE)) == (chosen % 50).tolist()


@needs_ffmpeg
def test_a_seek_that_lands_too_late_is_made_up_for(make_video, frame_numbers):
    pictures = [np.full((*SIZE, 3), 20 + 4 * (at % 50), dtype=np.uint8) for at in range(600)]
    index = read_index(make_video([40 * at for at in range(600)], options={"g": "30"}, pictures=pictures))
    # An index that takes what lies 2 s after the wanted frame for the keyframe before it.
    late = replace(index, times_s=index.times_s + 2.0, is_key=np.ones(600, dtype=bool))
    assert frame_numbers(decode(late, np.array([500]), size=SIZE)) == [0]


@needs_ffmpeg
def test_a_seek_spares_decoding_what_lies_before(shared_videos: Path):
    index = read_index(str(shared_videos / "derived__long1200s_loop_example_mask.mp4"))
    last = np.array([len(index.pts) - 1])
    took_s = []
    for chosen in (last, np.array([0, *last])):
        before_s = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        frames = decode(index, chosen, size=(200, 200))
        took_s.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before_s)
        assert np.array_equal(frames, pyav_decoder.decode(index, chosen, size=(200, 200)))
    assert took_s[0] < took_s[1] / 2


@needs_ffmpeg
def test_thousands_of_frames_take_several_processes(make_video, frame_numbers, monkeypatch):
    monkeypatch.setattr(ffmpeg_decoder, "MOST", 16)
    monkeypatch.setattr(ffmpeg_decoder, "BATCH_BYTES", 5 * 48 * 64 * 3)
    index = read_index(make_video([40 * at for at in range(50)]))
    chosen = np.setdiff1d(np.arange(50), [3, 17, 18, 40])
    assert frame_numbers(decode(index, chosen, size=SIZE)) == chosen.tolist()


@needs_ffmpeg
def test_any_path_is_a_path(make_video, frame_numbers, monkeypatch):
    path = Path(make_video([0, 40, 80], name="-i a:b'c,[d] %03d.mp4"))
    monkeypatch.chdir(path.parent)
    index = read_index(path.name)
    assert frame_numbers(decode(index, np.array([0, 2]), size=SIZE)) == [0, 2]


@needs_ffmpeg
@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (-90, -1)])
@pytest.mark.parametrize("exact", [True, False])
def test_a_rotated_file_comes_out_upright(make_video, degrees, turns, exact):
    stored = np.zeros((64, 96, 3), dtype=np.uint8)
    stored[:16, :24] = 255
    upright = np.rot90(stored, turns)
    index = read_index(make_video([0, 100], size=(64, 96), rotation=degrees, pictures=[stored, stored]))
    frames = decode(index, np.array([0, 1]), size=upright.shape[:2], exact=exact)
    assert np.abs(frames[1].transpose(1, 2, 0).astype(int) - upright).mean() < 4


@needs_ffmpeg
def test_pictures_of_two_sizes_are_refused_where_exactness_is_asked(tmp_path):
    path = str(tmp_path / "two.ts")
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width = SIZE
        larger = av.CodecContext.create("libx264", "w")
        larger.height, larger.width, larger.pix_fmt = 2 * SIZE[0], 2 * SIZE[1], "yuv420p"
        larger.time_base, larger.framerate = Fraction(1, 25), Fraction(25)
        for encoder, pts in ((stream.codec_context, range(3)), (larger, range(3, 6))):
            for at in (*pts, None):
                frame = None
                if at is not None:
                    picture = np.full((encoder.height, encoder.width, 3), 20 + 4 * at, dtype=np.uint8)
                    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                    frame.pts, frame.time_base = at, Fraction(1, 25)
                for packet in encoder.encode(frame):
                    packet.stream = stream
                    container.mux(packet)
    index = read_index(path)
    assert len(index.pts) == 6
    for chosen, exact in (([0, 1], True), ([0, 2, 5], False)):
        mine, theirs = (each(index, np.array(chosen), size=SIZE, exact=exact) for each in (pyav_decoder.decode, decode))
        assert np.abs(mine.astype(np.int16) - theirs).mean() < 1
    with pytest.raises(DecodeError, match=r"two\.ts: ffmpeg gives [0-2] of 3 frames, not the one at 0\.\d+ s \("):
        decode(index, np.array([0, 2, 5]), size=SIZE)


@needs_ffmpeg
def test_avi_is_refused(make_video):
    index = read_index(make_video([40 * at for at in range(9)], name="video.avi", rate=25))
    with pytest.raises(
        DecodeError, match=r"video\.avi: AVI stores no presentation times, .* use video\.decoder = pyav"
    ):
        decode(index, np.array([0]), size=SIZE)


@needs_ffmpeg
def test_other_times_than_the_containers_are_refused(make_video):
    index = read_index(make_video([0, 40, 80]))
    pts = index.pts + np.array([0, 1, 0])
    with pytest.raises(DecodeError, match=r"video\.mp4: ffmpeg gives 0 of 1 frames, not the one at 0\.040 s"):
        decode(replace(index, pts=pts), np.array([1]), size=SIZE)
    # All frames from the first to the last are asked for as one run: here their times tell.
    with pytest.raises(
        DecodeError, match=r"gives the frame of 0\.040 s instead of the wanted one of 0\.04\d* s; use video\.decoder"
    ):
        decode(replace(index, pts=pts), np.arange(3), size=SIZE)


@needs_ffmpeg
def test_damage_is_an_error_and_no_picture_that_hides_it(shared_videos: Path):
    index = read_index(str(shared_videos / "decord__corrupted.mp4"))
    assert len(decode(index, np.arange(10), size=SIZE, exact=False)) == 10
    with pytest.raises(
        DecodeError, match=r"decord__corrupted\.mp4: ffmpeg gives \d+ of 50 frames, not the one at 2\.\d+ s \(\w"
    ):
        decode(index, np.arange(50), size=SIZE, exact=False)


@needs_ffmpeg
def test_a_time_limit_ends_it(shared_videos: Path):
    index = read_index(str(shared_videos / "derived__long1200s_loop_example_mask.mp4"))
    with pytest.raises(DecodeError, match=r"mask\.mp4: ffmpeg took longer than 0\.05 s"):
        decode(index, np.arange(0, len(index.pts), 7), size=(200, 200), timeout_s=0.05)


def test_without_the_command_it_is_an_import_error(make_video, monkeypatch, tmp_path):
    index = read_index(make_video([0, 40]))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImportError, match=r"video\.decoder = ffmpeg: no ffmpeg command; install ffmpeg \(apt-get"):
        decode(index, np.array([0]), size=SIZE)


def test_a_selection_is_true_for_the_wanted_frames_alone():
    rng = np.random.default_rng(0)
    functions = {"eq": lambda a, b: a == b, "lt": lambda a, b: a < b, "between": lambda a, low, high: low <= a <= high}
    functions["if_"] = lambda condition, then, other: then if condition else other
    for count in (1, 2, 3, 7, 100, 400):
        stored = np.unique(rng.integers(-5000, 5000, 600))
        wanted = np.sort(rng.choice(stored, count, replace=False))
        expression = selection(wanted, stored)
        code = compile(expression.replace("if(", "if_("), "selection", "eval")
        assert [pts for pts in stored.tolist() if eval(code, functions | {"pts": pts})] == wanted.tolist()
        assert max(expression.count("(", 0, at) - expression.count(")", 0, at) for at in range(len(expression))) <= (
            math.ceil(math.log2(count)) + 2
        )
    assert selection(stored, stored) == f"between(pts,{stored[0]},{stored[-1]})"
