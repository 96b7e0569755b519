"""Tables of several sources as one: each sample says whose it is, and its video is found where that source's are."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from vtg.annotations import joined_tables
from vtg.annotations.joined_tables import SOURCE, Part, digest, joined
from vtg.annotations.sample import Sample
from vtg.annotations.sample_table import SampleTable
from vtg.annotations.target import NoMoment, Spans


def part(name: str, folder: Path, *, count: int = 3) -> Part:
    folder.mkdir(exist_ok=True)
    samples = [
        Sample(f"v{at % 2}", 9.0, Spans(((1.0, 2.0),)) if at else NoMoment(), "q", f"train:{at + 1}",
               metadata={"fps": 3} if at else {}, place=f"train.jsonl:{at + 1}")
        for at in range(count)
    ]  # fmt: skip
    for video in ("v0.mp4", "v1.mkv"):
        (folder / video).touch()
    return Part(name, SampleTable.of(samples), str(folder))


def test_samples_keep_all_but_video_and_qid_and_say_whose_they_are(tmp_path):
    parts = [part("one", tmp_path / "a"), part("two", tmp_path / "b")]
    table = joined(parts, cache_dir=None)
    assert [sample.qid for sample in table] == [f"{name}/train:{at}" for name in ("one", "two") for at in (1, 2, 3)]
    assert table[4].video == str(tmp_path / "b" / "v1.mkv")
    assert [sample.metadata for sample in table][2:4] == [{SOURCE: "one", "fps": 3}, {SOURCE: "two"}]
    of_two = [sample for sample in table if sample.metadata[SOURCE] == "two"]
    as_before = [
        replace(mixed, video=sample.video, qid=sample.qid, metadata=sample.metadata)
        for mixed, sample in zip(of_two, parts[1].table, strict=True)
    ]
    assert as_before == list(parts[1].table)


def test_a_part_of_a_table_is_joined_as_that_part_alone(tmp_path):
    one = part("one", tmp_path / "a", count=5)
    chosen = Part("one", one.table.select(np.array([4, 1])), one.video_dir)
    assert [sample.qid for sample in joined([chosen], cache_dir=None)] == ["one/train:5", "one/train:2"]
    assert len(joined([], cache_dir=None)) == 0


def test_a_large_table_is_kept_in_the_cache_and_mapped(tmp_path, monkeypatch):
    monkeypatch.setattr(joined_tables, "SMALL_BYTES", 0)
    parts = [part("one", tmp_path / "a")]
    table = joined(parts, cache_dir=str(tmp_path / "cache"))
    (kept,) = (tmp_path / "cache" / "rows").glob("joined-*/rows.arrow")
    assert kept.stat().st_size and table == joined(parts, cache_dir=str(tmp_path / "cache"))


def test_a_digest_tells_other_rows_and_not_another_folder(tmp_path):
    parts = [part("one", tmp_path / "a"), part("two", tmp_path / "b")]
    assert digest(parts) == digest([parts[0], part("two", tmp_path / "moved")])
    assert digest(parts) != digest([parts[0], part("two", tmp_path / "b", count=4)])
