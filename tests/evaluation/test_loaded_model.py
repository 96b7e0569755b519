import subprocess
import sys
from pathlib import Path

import pytest

import vtg
from vtg.errors import ConfigError, SampleError


@pytest.fixture(scope="module")
def model():
    return vtg.load("tiny")


@pytest.fixture(scope="module")
def video(demo_dir):
    return str(sorted(demo_dir.rglob("*.mp4"))[0])


def test_a_string_gets_one_answer_and_a_list_gets_a_list(model, video):
    queries = ["the red circle", "the blue cross"]
    one, both = model.ground(video, queries[0]), model.ground(video, queries)
    assert one.query == queries[0] and [grounding.query for grounding in both] == queries
    assert one.status == both[0].status and one.text == both[0].text
    assert all(0 <= start <= end for grounding in both for start, end in grounding.spans_s)
    assert any(grounding.spans_s for grounding in both)
    assert model.ground(video, []) == []
    assert model.ground(Path(video), queries[0]) == one


def test_a_part_of_the_video_has_its_own_length(model, video):
    assert model.ground(video, "the red circle", video_start_s=2.0, video_end_s=6.0).duration_s == pytest.approx(4.0)


def test_what_cannot_be_asked_is_named(model, video, tmp_path):
    with pytest.raises(ConfigError, match="queries: ' ' holds no word; describe"):
        model.ground(video, ["the red circle", " "])
    with pytest.raises(SampleError, match=r"absent\.mp4"):
        model.ground(str(tmp_path / "absent.mp4"), "the red circle")


def test_what_cannot_be_loaded_is_named(tmp_path):
    with pytest.raises(ConfigError, match="nothing-here"):
        vtg.load(tmp_path / "nothing-here")
    with pytest.raises(ConfigError, match="max_new_token"):
        vtg.load("tiny", "max_new_token=5")


def test_importing_vtg_imports_no_torch():
    code = "import sys, vtg; vtg.load; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
