"""The index of videos: made once, gone on with, and believed only about the files it saw."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from vtg.annotations.sample import Sample
from vtg.annotations.sample_table import SampleTable
from vtg.annotations.table_cache import video_stamps
from vtg.annotations.target import Spans
from vtg.batching.cost import sample_costs, video_facts
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.errors import ConfigError
from vtg.tasks.span_task import SpanTask
from vtg.video import video_index
from vtg.video.container import probe
from vtg.video.video_index import VideoIndex, make_index


@pytest.fixture
def folder(tmp_path: Path, write_mp4) -> Path:
    for at in range(4):
        content = Path(write_mp4([100 * step for step in range(5 + at)], size=(64, 96))).read_bytes()
        (tmp_path / f"{at}.mp4").write_bytes(content)
    (tmp_path / "bad.mp4").write_bytes(b"<html>")
    return tmp_path


NAMES = ["0.mp4", "1.mp4", "bad.mp4", "2.mp4", "gone.mp4"]


def made(folder: Path, names: list[str], progress=lambda count: None) -> VideoIndex:
    videos = pa.array(names)
    stamps = video_stamps(videos, str(folder))
    out = str(folder / "x.parquet")
    return make_index(videos, stamps, out, resolve=lambda name: str(folder / name), progress=progress)


def test_it_holds_the_facts_of_each_video_and_why_others_have_none(folder):
    index = made(folder, NAMES)
    assert len(index) == 5 and index.table.column("video").to_pylist() == NAMES
    info = probe(str(folder / "1.mp4"))
    assert index.numbers("duration_s")[1] == info.duration_s and index.numbers("frames")[1] == 6
    assert (index.numbers("height")[1], index.numbers("width")[1], index.numbers("fps")[1]) == (64, 96, info.fps)
    reasons = dict(index.errors())
    assert reasons.keys() == {"bad.mp4", "gone.mp4"} and "not a readable video" in reasons["bad.mp4"]
    again = VideoIndex.read(folder / "x.parquet")
    assert again.table.equals(index.table)


def test_only_what_is_new_or_changed_is_opened(folder, monkeypatch):
    opened: list[str] = []

    def counting(path: str):
        opened.append(Path(path).name)
        return probe(path)

    monkeypatch.setattr(video_index, "probe", counting)
    made(folder, NAMES)
    assert sorted(opened) == sorted(NAMES)
    opened.clear()
    told: list[int] = []
    made(folder, NAMES, told.append)
    assert opened == [] and told == [5]
    os.utime(folder / "0.mp4", ns=(1, 1))
    (folder / "bad.mp4").write_bytes((folder / "3.mp4").read_bytes())
    index = made(folder, [*NAMES, "3.mp4"])
    assert sorted(opened) == ["0.mp4", "3.mp4", "bad.mp4"]
    assert len(index) == 6 and dict(index.errors()).keys() == {"gone.mp4"}


def test_a_stop_keeps_what_was_done(folder, monkeypatch):
    def stops(path: str):
        if path.endswith("2.mp4"):
            raise KeyboardInterrupt
        return probe(path)

    with monkeypatch.context() as patched:
        patched.setattr(video_index, "probe", stops)
        with pytest.raises(KeyboardInterrupt):
            made(folder, NAMES)
    assert len(VideoIndex.read(folder / "x.parquet")) == 3
    assert len(made(folder, NAMES)) == 5


def samples(names: list[str]) -> SampleTable:
    return SampleTable.of([Sample(name, 0.5, Spans(((0.1, 0.3),)), "it gets brighter", "q") for name in names])


def test_planning_needs_no_video_of_an_index_and_costs_the_same(folder, qwen3_vl, monkeypatch):
    table, index = samples(NAMES), made(folder, NAMES)
    names = table.videos()[0]
    by_header = video_facts(names, video_dir=str(folder))
    with monkeypatch.context() as patched:
        patched.setattr("vtg.batching.cost.probe", lambda path: pytest.fail(f"{path} was opened"))
        by_index = video_facts(names, video_dir=str(folder), index=index)
    for name in ("height", "width", "fps"):
        assert np.array_equal(getattr(by_header, name), getattr(by_index, name))
    shape = {"task": SpanTask(TaskConfig()), "processor": qwen3_vl.processor}
    costs = [sample_costs(table, facts, video=VideoConfig(min_pixels=1024), **shape) for facts in (by_header, by_index)]
    assert np.array_equal(costs[0].tokens, costs[1].tokens)
    os.utime(folder / "1.mp4", ns=(1, 1))
    (folder / "1.mp4").write_bytes((folder / "bad.mp4").read_bytes())
    assert video_facts(names, video_dir=str(folder), index=index).height.tolist() == [64, 0, 0, 64, 0]


def test_objects_in_a_store_are_known_by_name_and_never_opened_for_planning(folder, monkeypatch, caplog):
    index = made(folder, NAMES)
    with monkeypatch.context() as patched:
        patched.setattr("vtg.batching.cost.probe", lambda path: pytest.fail(f"{path} was opened"))
        facts = video_facts(pa.array(["0.mp4", "3.mp4"]), video_dir="memory://x", index=index)
    assert facts.height.tolist() == [64, 0]
    assert "1 videos lie in a store and are in no index" in caplog.text and "--index" in caplog.text


def test_it_is_found_beside_the_rows(folder):
    rows = str(folder / "rows.jsonl")
    assert VideoIndex.beside(rows, None) is None and VideoIndex.beside(None, None) is None
    made(folder, NAMES).write(rows + video_index.ENDING)
    found = VideoIndex.beside(rows, None)
    assert found is not None and len(found) == 5
    with pytest.raises(ConfigError, match=r"rows\.txt: not an index of videos .*python -m vtg\.inspect --index"):
        (folder / "rows.txt").write_text("no index")
        VideoIndex.beside(rows, str(folder / "rows.txt"))


def test_an_empty_index_knows_nothing():
    assert VideoIndex.of([]).positions(pa.array(["a"]), np.zeros((1, 2), np.int64)).tolist() == [-1]
