"""Every published file of ../shared/data/annotations, its rows counted against the manifest."""

import json
import re
from pathlib import Path

import pytest

from vtg import convert, validate

DATA = Path(__file__).parents[4] / "shared" / "data"


def manifest() -> dict[str, dict[str, int]]:
    """File → the numbers of its `properties`."""
    found: dict[str, dict[str, int]] = {}
    if not (DATA / "MANIFEST.tsv").is_file():
        return found
    for line in (DATA / "MANIFEST.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        name, *_, properties, _ = line.split("\t")
        if name.startswith("annotations/"):
            pairs = re.findall(r"([\w<>=+.]+?)=(\d+)(?![\d.])", properties.rpartition("|")[2])
            pairs += [("rows", count) for count in re.findall(r"; (\d+) rows;", properties)]
            found[name.removeprefix("annotations/")] = {key: int(value) for key, value in pairs}
    return found


PROPERTIES = manifest()

# Rows that the manifest tells in words: events of dense captions, conversations of one turn.
EVENTS = {
    "timeit__instruct_dvc_1.2k_youcook2.json": 9219,
    "timeit__youcook2_val_coco.json": 3187,
    "timeit__instruct_tvg_0.5k_hirest.json": 459,
    "timeit__instruct_vhd_50_tvsum.json": 50,
}

READ = (
    "anetrepo__kinetics-400_val.csv",
    "hiddenmr__charades_test_00.csv",
    "hiddenmr__charades_test_01.csv",
    "hiddenmr__charades_test_02.csv",
    "timeit__charades_test_coco.json",
    "timeit__instruct_dvc_1.2k_youcook2.json",
    "timeit__instruct_tvg_0.5k_hirest.json",
    "timeit__instruct_vhd_50_tvsum.json",
    "timeit__youcook2_val_coco.json",
    "lighthouse__castella_test_release.jsonl",
    "lighthouse__charades_test_release.jsonl",
    "lighthouse__charades_train_release.jsonl",
    "lighthouse__tvsum_val_release.jsonl",
    "lighthouse__unav100-subset_test_release.jsonl",
    "timer1__train_2k5.json",
    "timezero__charades_train.json",
    "timezero__charades_val.json",
    "videochatflash__temporal_grounding_charades.json",
    "videox__Charades_v1_test.csv",
    "videox__Charades_v1_train.csv",
    "videox__activitynet_train.json",
    "videox__activitynet_val.json",
    "videox__charades_sta_test.txt",
    "videox__charades_sta_train.txt",
)


@pytest.mark.parametrize("name", READ)
def test_the_counts_of_a_published_file_are_those_of_the_manifest(name, tmp_path, capsys):
    if name not in PROPERTIES:
        pytest.skip(f"{DATA / 'annotations' / name} is not there")
    out = tmp_path / "out.jsonl"
    assert convert.main([str(DATA / "annotations" / name), "-o", str(out), "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)["files"]
    told = PROPERTIES[name]
    changed = {kind: entry["count"] for kind, entry in report["changed_by_kind"].items()}
    dropped = {kind: entry["count"] for kind, entry in report["dropped_by_kind"].items()}
    assert report["rows"] == EVENTS.get(name, told.get("rows"))
    if "annotators-merged" not in changed:
        assert report["written"] + report["dropped"] == report["rows"]
    assert len(out.read_text().splitlines()) == report["written"]
    # A span that starts at or after the clip's end also ends after it: the manifest counts it there as well.
    outside = dropped.get("timestamp-outside", 0) + changed.get("timestamp-outside-left-out", 0)
    clipped = changed.get("end-clipped", 0) + changed.get("end-clipped-far", 0)
    reversed_ = dropped.get("timestamp-reversed", 0)
    if "end>duration" in told:  # absent, too, where the file has no durations
        assert clipped + outside <= told["end>duration"] <= clipped + outside + reversed_
    assert reversed_ == told.get("end<start", 0)
    assert dropped.get("timestamp-empty", 0) == told.get("end==start", 0)
    assert changed.get("unlabelled", 0) == 0
    if "duration-unknown" in changed:
        assert changed["duration-unknown"] == report["written"]
        assert {json.loads(line).get("duration") for line in out.read_text().splitlines()} == {None}
    else:
        assert validate.main([str(out)]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("name", ("hiddenmr__charades_test_00.csv", "hiddenmr__charades_test_02.csv"))
def test_answers_of_several_people_become_one_row_a_sentence_and_all_are_kept(name, tmp_path):
    if name not in PROPERTIES:
        pytest.skip(f"{DATA / 'annotations' / name} is not there")
    out = tmp_path / "out.jsonl"
    assert convert.main([str(DATA / "annotations" / name), "-o", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == PROPERTIES[name]["rows"] // 5
    assert all(len(row["annotators"]) == 5 and row["timestamp"] in row["annotators"] for row in rows)


def test_charades_lengths_given_as_a_source_are_taken_for_durations(tmp_path, capsys):
    (tmp_path / "sta.txt").write_text("A1 0.0 6.9##he sits\nB2 1 99##she stands\n")
    (tmp_path / "lengths.csv").write_text("id,actions,length\r\nA1,c001 0 1,10.5\r\nB2,,20\r\n")
    files = [str(tmp_path / name) for name in ("sta.txt", "lengths.csv")]
    for words in (files, ["charades_sta", *files], files[::-1]):
        out = tmp_path / "out.jsonl"
        assert convert.main([*words, "-o", str(out)]) == 0
        assert [json.loads(line) for line in out.read_text().splitlines()] == [
            {"video": "A1", "duration": 10.5, "timestamp": [0.0, 6.9], "sentence": "he sits"},
            {"video": "B2", "duration": 20.0, "timestamp": [1.0, 20.0], "sentence": "she stands"},
        ]
        assert "durations of videos" in capsys.readouterr().out
