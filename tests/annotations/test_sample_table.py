"""A table of samples is the list of samples, whatever is done with it."""

import json
import multiprocessing
import os
import pickle
import tarfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtg.annotations import sample_table, table_cache
from vtg.annotations.sample import Problem, Sample, read_samples, resolve_video
from vtg.annotations.sample_table import SampleTable
from vtg.annotations.table_cache import read_table, video_stamps
from vtg.annotations.target import NoMoment, Spans, Unlabelled
from vtg.errors import ConfigError
from vtg.video.files import video_files

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def annotations(draw: st.DrawFn) -> dict:
    duration = draw(st.floats(1, 500) | st.integers(1, 500))
    times = st.tuples(st.floats(0, 0.49), st.floats(0.5, 1.02)).map(lambda pair: [duration * one for one in pair])
    row = {
        "video": draw(st.sampled_from(["a.mp4", "b/c.mp4", "ü 1.mp4"])),
        "duration": duration,
        "timestamp": draw(times | st.lists(times, min_size=1, max_size=3)),
        "sentence": draw(TEXT.filter(str.strip)),
    }
    more = {
        "qid": st.none() | TEXT | st.integers(-(10**25), 10**25),
        "difficulty": st.none() | st.floats(0, 100),
        "pred": st.none() | times,
        "source": JSON,
        'a "key" of one\'s own': JSON,
        "duration": st.just(-1.0),
    }
    chosen = draw(st.lists(st.sampled_from(list(more)), unique=True, max_size=4))
    row |= {key: draw(more[key]) for key in chosen if key != "duration" or draw(st.integers(0, 9)) == 0}
    if draw(st.booleans()):
        row |= {"video_start": 3.0, "video_end": 3.0 + row["duration"]}
    return row


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def plain(count: int, **more) -> list[dict]:
    row = {"duration": 10.0, "timestamp": [1.0, 2.0], "sentence": "it happens"}
    return [row | {"video": f"{at // 3}.mp4"} | more for at in range(count)]


@pytest.fixture
def mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every file counts as large, and batches are small; the cache folder."""
    monkeypatch.setattr(table_cache, "SMALL_BYTES", 0)
    monkeypatch.setattr(sample_table, "BATCH_ROWS", 4)
    return tmp_path / "cache"


@settings(max_examples=60)
@given(st.lists(annotations(), min_size=1, max_size=12), st.booleans(), st.data())
def test_a_table_is_the_list_of_its_samples(tmp_path_factory, rows, large, data):
    folder = tmp_path_factory.mktemp("table")
    path = write(folder / "rows.jsonl", rows)
    found = list(read_samples(path))
    expected = [one for one in found if isinstance(one, Sample)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sample_table, "BATCH_ROWS", 4)
        patched.setattr(table_cache, "SMALL_BYTES", 0 if large else 1 << 20)
        table, lost = read_table(path, cache_dir=str(folder / "cache"))
        again, lost_again = read_table(path, cache_dir=str(folder / "cache"))
    assert [one.problem for one in lost] == [one for one in found if isinstance(one, Problem)] and lost == lost_again
    assert [one.before for one in lost] == [
        sum(isinstance(other, Sample) for other in found[:at])
        for at, one in enumerate(found)
        if isinstance(one, Problem)
    ]
    assert len(table) == len(expected) and list(table) == expected == list(again)
    assert [one.row() for one in table] == [one.row() for one in expected]
    assert [table[at] for at in range(-len(expected), len(expected))] == expected * 2
    chosen = np.array(data.draw(st.lists(st.integers(0, len(expected) - 1)) if expected else st.just([])), np.int64)
    part, listed = table.select(chosen), [expected[at] for at in chosen.tolist()]
    for some, samples in ((table, expected), (part, listed), (part[::-2], listed[::-2]), (table[1:3], expected[1:3])):
        assert list(some) == samples and [some[at] for at in range(len(samples))] == samples and some == samples
        assert list(some.queries()) == [one.query for one in samples]
        assert list(some.qids()) == [one.qid for one in samples]
        assert some.numbers("duration_s").tolist() == [one.duration_s for one in samples]
        known = [(one.difficulty is None) or one.difficulty for one in samples]
        assert [(value != value) or value for value in some.numbers("difficulty").tolist()] == known
        assert some.moments().tolist() == [len(one.spans) for one in samples]
        names, which = some.videos()
        assert [names[at].as_py() for at in which.tolist()] == [one.video for one in samples]
        assert len(set(names.to_pylist())) == len(names) == len({one.video for one in samples})
        assert pickle.loads(pickle.dumps(some)) == samples == SampleTable.of(samples)


def test_rows_are_read_once_and_again_when_the_file_changes(tmp_path, mapped):
    path = write(tmp_path / "rows.jsonl", plain(10))
    first, _ = read_table(path, cache_dir=str(mapped))
    (folder,) = [item for item in (mapped / "rows").iterdir() if item.is_dir()]
    written_ns = (folder / "rows.arrow").stat().st_mtime_ns
    assert read_table(path, cache_dir=str(mapped))[0] == first
    assert (folder / "rows.arrow").stat().st_mtime_ns == written_ns
    assert len(pickle.dumps(first)) < 1000, "workers get the path"
    write(tmp_path / "rows.jsonl", plain(11))
    assert len(read_table(path, cache_dir=str(mapped))[0]) == 11
    assert len(first) == 10 and first[9].query == "it happens"
    assert not [item for item in (mapped / "rows").iterdir() if item.name.endswith(".tmp")]


def test_tables_of_earlier_versions_go_when_nobody_has_opened_them_for_a_month(tmp_path, mapped):
    path = write(tmp_path / "rows.jsonl", plain(10))
    other = write(tmp_path / "other.jsonl", plain(5))
    for file in (path, other):
        read_table(file, cache_dir=str(mapped))
    long_ago = time.time() - 40 * 86400
    for item in (mapped / "rows").iterdir():
        os.utime(item, (long_ago, long_ago))
    write(tmp_path / "rows.jsonl", plain(11))
    read_table(path, cache_dir=str(mapped))
    assert len([item for item in (mapped / "rows").iterdir() if item.is_dir()]) == 2
    assert len(read_table(other, cache_dir=str(mapped))[0]) == 5


def test_one_file_under_two_names_keeps_each_name(tmp_path, mapped):
    path = write(tmp_path / "rows.jsonl", plain(1))
    link = tmp_path / "link.jsonl"
    link.symlink_to(path)
    for one in (path, str(link)):
        assert list(read_table(one, cache_dir=str(mapped))[0]) == list(read_samples(one))


def test_rows_of_one_line_keep_their_names_in_a_table(tmp_path, mapped):
    path = str(tmp_path / "rows.json")
    Path(path).write_text(json.dumps(plain(6) + plain(1, timestamp=[2, 1])), encoding="utf-8")
    table, (lost,) = read_table(path, cache_dir=str(mapped))
    again, (lost_again,) = read_table(path, cache_dir=str(mapped))
    assert list(table) == list(again) == list(read_samples(path))[:6] and lost == lost_again
    assert [one.qid for one in table] == list(table.qids()) == ["rows:1", *(f"rows:1[{at}]" for at in range(2, 7))]
    assert table.arrow().column("place").to_pylist() == [one.place for one in table]
    assert lost.problem.place == f"{path}:1[7]"


def test_small_files_leave_nothing_behind(tmp_path):
    path = write(tmp_path / "rows.jsonl", plain(10))
    assert len(read_table(path, cache_dir=str(tmp_path / "cache"))[0]) == 10
    assert not (tmp_path / "cache").exists()


def test_without_a_setting_tables_lie_in_the_cache_folder_of_the_user(tmp_path, mapped, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    read_table(write(tmp_path / "rows.jsonl", plain(2)))
    assert list((tmp_path / "xdg" / "vtg" / "rows").glob("*/rows.arrow"))


def test_a_cache_folder_that_cannot_be_is_named(tmp_path, mapped):
    path = write(tmp_path / "rows.jsonl", plain(2))
    with pytest.raises(ConfigError, match=r"data\.cache_dir = '.*rows\.jsonl': the rows cannot be kept in .*folder of"):
        read_table(path, cache_dir=path)
    with pytest.raises(FileNotFoundError):
        read_table(str(tmp_path / "absent.jsonl"), cache_dir=str(mapped))


def read_in_a_child(path: str, cache: str) -> list[str]:
    table_cache.SMALL_BYTES = 0
    return list(read_table(path, cache_dir=cache)[0].qids())


def test_processes_that_start_at_once_read_the_same(tmp_path, mapped):
    path = write(tmp_path / "rows.jsonl", plain(3000, qid=None))
    with multiprocessing.get_context("fork").Pool(4) as pool:
        found = pool.starmap(read_in_a_child, [(path, str(mapped))] * 4)
    assert all(qids == [f"rows:{line}" for line in range(1, 3001)] for qids in found)
    assert len(list((mapped / "rows").glob("*/rows.arrow"))) == 1


def test_what_is_mapped_is_given_back_and_can_be_read_again(tmp_path, mapped):
    table, _ = read_table(write(tmp_path / "rows.jsonl", plain(500)), cache_dir=str(mapped))
    before = list(table)
    table.release()
    assert [table[at] for at in range(500)] == before


def test_videos_are_looked_for_wherever_they_are(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"1234567")
    (tmp_path / "folder.mp4").mkdir()
    rows = [{"video": name} for name in ("a.mp4", "b.mp4", "folder.mp4", "s3://x/c.mp4", "d.tar::e.mp4")]
    table, _ = read_table(write(tmp_path / "rows.jsonl", [one | row for one, row in zip(plain(5), rows, strict=True)]))
    stamps = video_stamps(table.videos()[0], str(tmp_path))
    assert stamps[0].tolist() == [7, (tmp_path / "a.mp4").stat().st_mtime_ns]
    assert stamps[1:].tolist() == [[-1, -1], [-1, -1], [0, 0], [-1, -1]]


def test_an_index_beyond_the_end_is_an_error():
    table = SampleTable.of([])
    assert len(table) == 0 and list(table) == [] and table == [] and not table
    assert table.videos()[1].tolist() == table.numbers("duration_s").tolist() == table.moments().tolist() == []
    with pytest.raises(IndexError):
        table[0]


def test_videos_looked_for_together_are_those_their_names_resolve_to_one_by_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data" / "videos"
    (folder / "folder.mp4").mkdir(parents=True)
    (tmp_path / "folder.mp4").write_bytes(b"a folder in video_dir has this name")
    for size, name in enumerate(("a.mp4", "sub/videos/a.mp4", "only here.mp4"), start=1):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * size)
    (tmp_path / "beside.mp4").write_bytes(b"x" * 10)
    (folder / "link.mp4").symlink_to("a.mp4")
    (folder / "dangling.mp4").symlink_to("gone.mp4")
    for place, members in ((folder, ["a.mp4"]), (tmp_path, ["a.mp4", "b.mp4"])):
        with tarfile.open(place / "s.tar", "w") as tar:
            for member in members:
                tar.add(tmp_path / "beside.mp4", member)
    names = [
        *("a.mp4", "videos/a.mp4", "data/videos/a.mp4", "./data/videos/only here.mp4", "sub/videos/a.mp4", "videos"),
        *("folder.mp4", "link.mp4", "dangling.mp4", "beside.mp4", "gone.mp4", "nul\0.mp4", "", str(folder / "a.mp4")),
        *("s.tar::a.mp4", "s.tar::b.mp4", "gone.tar::a.mp4", "s3://bucket/a.mp4", "ftp://host/a.mp4"),
    ]
    for video_dir in (None, ".", "/", "data/videos", "data/videos/", str(folder), "gone", "s3://bucket", "ftp://host"):
        expected = [video_files.stamp(resolve_video(name, video_dir)) for name in names]
        assert video_stamps(pa.array(names), video_dir).tolist() == [list(stamp) for stamp in expected]
    sizes = dict(zip(names, video_stamps(pa.array(names), "data/videos")[:, 0].tolist(), strict=True))
    assert [sizes[name] for name in ("a.mp4", "videos/a.mp4", "beside.mp4", "s.tar::a.mp4")] == [1, 1, 10, 10]
    assert all(
        sizes[name] == -1 for name in ("folder.mp4", "dangling.mp4", "gone.mp4", "s.tar::b.mp4", "ftp://host/a.mp4")
    )


def test_every_kind_of_target_comes_out_of_a_table_as_it_went_in(tmp_path):
    targets = [Spans(((1.0, 2.0),)), NoMoment(), Unlabelled(), Spans(((0.0, 1.0), (3.0, 4.0)))]
    samples = [Sample("a.mp4", 9.0, target, "q", str(at)) for at, target in enumerate(targets)]
    table = SampleTable.of(samples)
    assert [one.target for one in table] == targets
    assert [one.is_labelled for one in table] == [True, True, False, True]
    assert [one.row().get("timestamp") for one in table] == [[1.0, 2.0], [], None, [[0.0, 1.0], [3.0, 4.0]]]
    asked = [Sample("a.mp4", 9.0, target, "q", "0") for target in (NoMoment(), Unlabelled())]
    assert len({SampleTable.of([one]).digest() for one in asked}) == 2
    assert len(set(SampleTable.of(asked).keys())) == 2


def test_a_target_of_spans_has_one():
    with pytest.raises(ValueError, match=r"use NoMoment\(\) or Unlabelled\(\)"):
        Spans(())
