import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vtg
from vtg.errors import ConfigError, SampleError
from vtg.evaluation.loaded_model import Moment
from vtg.models.loading import choose_device
from vtg.video.video_window import VideoWindow


@pytest.fixture(scope="module")
def model():
    return vtg.load("tiny")


@pytest.fixture(scope="module")
def video(demo_dir):
    return str(sorted(demo_dir.rglob("*.mp4"))[0])


def test_loading_and_asking_warn_of_nothing_and_leave_the_filters_as_they_were(video):
    before = list(warnings.filters)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        grounding = vtg.load("tiny", device="cpu").ground(video, "the red circle", video_start_s=0, video_end_s=2)
    assert isinstance(grounding.duration_s, float)
    assert warnings.filters == before


def test_a_string_gets_one_answer_and_a_list_gets_a_list(model, video):
    queries = ["the red circle", "the blue cross"]
    one, both = model.ground(video, queries[0]), model.ground(video, queries)
    assert one.query == queries[0] and [grounding.query for grounding in both] == queries
    assert one.status == both[0].status and one.text == both[0].text
    assert all(0 <= moment.start_s <= moment.end_s for grounding in both for moment in grounding.moments)
    assert any(grounding.moments for grounding in both)
    assert [grounding.spans_s for grounding in both] == [grounding.moments for grounding in both]
    assert one.frame_times_s == both[1].frame_times_s == tuple(model._grounder.provider.clip(one.window).timestamps_s)
    assert model.ground(Path(video), queries[0]) == one


def test_a_part_of_the_video_has_its_own_length(model, video):
    assert model.ground(video, "the red circle", video_start_s=2.0, video_end_s=6.0).duration_s == pytest.approx(4.0)


def test_what_cannot_be_asked_is_named(model, video):
    with pytest.raises(ConfigError, match="queries: ' ' holds no word; describe"):
        model.ground(video, ["the red circle", " "])
    with pytest.raises(ConfigError, match="queries is empty: give a sentence, or a list of them"):
        model.ground(video, [])


def test_a_text_file_that_is_called_a_video_is_named(model, tmp_path):
    (tmp_path / "notes.mp4").write_text("no video\n")
    with pytest.raises(SampleError, match=r"notes\.mp4: not a readable video .*check that the download is complete"):
        model.ground(tmp_path / "notes.mp4", "the red circle")


def test_a_picture_shows_the_frames_and_a_bar_where_the_moment_is(model, video, tmp_path):
    grounding = model.ground(video, "the $red_ circle")
    copied = tmp_path / "copied.mp4"
    copied.write_bytes(Path(video).read_bytes())
    moved = replace(grounding, moments=(Moment(0.25 * grounding.duration_s, 0.5 * grounding.duration_s),))
    moved = replace(moved, window=VideoWindow(str(copied)))
    moved.show([(0.0, 1.0)]).save(tmp_path / "moment.png")
    pixels = np.asarray(Image.open(tmp_path / "moment.png").convert("RGB")).astype(int)
    blue = (abs(pixels - (0x1F, 0x77, 0xB4)) < 8).all(axis=2)
    track = (abs(pixels - (0xEE, 0xF2, 0xF6)) < 4).all(axis=2)
    lane = np.flatnonzero(blue.any(axis=1))[1]
    left, right = np.flatnonzero(blue[lane] | track[lane])[[0, -1]]
    ends = (np.flatnonzero(blue[lane])[[0, -1]] - left) / (right - left)
    assert ends == pytest.approx([0.25, 0.5], abs=0.01)
    assert moved.show().height < moved.show([(0.0, 1.0)]).height
    # An answer without a moment has its words there.
    assert replace(moved, moments=(), status="malformed", text="I do not know").show().width == pixels.shape[1]
    copied.unlink()
    with pytest.raises(SampleError, match="no such file"):
        moved.show()


@pytest.mark.parametrize("count", [0, -5])
def test_answers_have_room_for_a_token(count):
    with pytest.raises(ConfigError, match=f"^max_new_tokens = {count}: must be at least 1"):
        vtg.load("tiny", f"max_new_tokens={count}")


def test_settings_that_are_for_the_command_alone_are_refused_by_name():
    with pytest.raises(
        ConfigError, match=r"^output_dir=out: output_dir is for python -m vtg\.predict; vtg\.load takes"
    ):
        vtg.load("tiny", "output_dir=out")
    with pytest.raises(ConfigError, match=r"settings\.task is a group of settings; set one of its keys, such as"):
        vtg.load("tiny", "settings.task=tokens")


def test_a_checkpoint_of_a_later_vtg_is_refused_with_both_versions(tmp_path, tiny_dir):
    for file in tiny_dir("qwen3_vl").iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "vtg.json").unlink()
    (tmp_path / "vtg.json").write_text('{"format": 99, "vtg": "9.0"}')
    with pytest.raises(ConfigError, match=r"vtg\.json: is of format 99, written by vtg 9\.0; vtg .* reads up to"):
        vtg.load(tmp_path)


def test_a_video_that_is_not_there_is_named_with_where_it_was_looked_for(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for video in ("absent.mp4", Path("absent.mp4"), "absent.tar::a.mp4", "file:///absent.mp4"):
        with pytest.raises(SampleError) as raised:
            model.ground(video, "the red circle")
        assert f"video = {str(video)!r}: no such file (looked in {tmp_path}); give a path" in str(raised.value)
        assert "data.video_dir" not in str(raised.value)
    with pytest.raises(SampleError, match=f"'{tmp_path}': is a folder; name a video in it"):
        model.ground(tmp_path, "the red circle")
    with pytest.raises(SampleError, match=r"'ftp://host/a\.mp4' is not opened: give a path, or an address with"):
        model.ground("ftp://host/a.mp4", "the red circle")


@pytest.mark.parametrize("query", ["", " . ", None])
def test_a_query_without_a_word_is_refused_before_the_video_is_read(model, query):
    with pytest.raises(ConfigError, match=r"queries: .* holds no word; describe"):
        model.ground("absent.mp4", [query])


def test_device_and_dtype_can_be_chosen(video):
    grounding = vtg.load("tiny", device="cpu", dtype="bfloat16").ground(video, "the red circle")
    assert grounding.duration_s > 0
    for device, allowed in (("tpu-7", "must be cpu, cuda or cuda:N"), ("cuda:99", "PyTorch sees [0-9]+ GPUs here")):
        with pytest.raises(ConfigError, match=f"device = '{device}': {allowed}"):
            vtg.load("tiny", device=device)
    with pytest.raises(ConfigError, match="dtype = 'int8': must be one of auto, float32"):
        vtg.load("tiny", dtype="int8")


@pytest.mark.parametrize("name", [None, "cpu"])
def test_the_model_is_put_where_it_was_asked(name):
    expected = "cuda" if name is None and torch.cuda.is_available() else "cpu"
    assert choose_device(name).type == expected


def test_what_cannot_be_loaded_is_named(tmp_path):
    (tmp_path / "empty_run").mkdir()
    with pytest.raises(ConfigError, match=r"empty_run.*holds neither a model nor best/ nor checkpoint.*; train first"):
        vtg.load(tmp_path / "empty_run")
    with pytest.raises(ConfigError, match="nothing-here"):
        vtg.load(tmp_path / "nothing-here")
    with pytest.raises(ConfigError, match="max_new_token"):
        vtg.load("tiny", "max_new_token=5")


def test_importing_vtg_imports_no_torch():
    code = "import sys, vtg; vtg.load; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
