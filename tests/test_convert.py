"""`python -m vtg.convert`: what is written, what is told, and which code it exits with."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vtg import convert, validate
from vtg.annotations.conversion.durations import Durations
from vtg.annotations.sources.file_entries import entries
from vtg.annotations.sources.source_row import Entry
from vtg.annotations.sources.table_entries import OPEN_QUOTE

CAPTIONS = {
    "v_1": {"duration": 20.0, "timestamps": [[0, 5], [4, 30.5], [7, 6]], "sentences": ["one", " two  words ", "three"]},
    "v_2": {"duration": 9.5, "timestamps": [[1, 2]], "sentences": ["four"]},
}


@pytest.fixture
def captions(tmp_path: Path) -> str:
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(CAPTIONS, indent=1))
    return str(path)


def converted(*words: str, out: Path) -> list[dict]:
    convert.main([*words, "-o", str(out)])
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def write(path: Path, content: str, encoding: str = "utf-8") -> str:
    path.write_bytes(content.encode(encoding))
    return str(path)


def test_every_change_and_every_dropped_row_is_told_with_its_place_and_value(captions, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    assert convert.main([captions, "-o", str(out), "--max-dropped", "0.25"]) == 0
    printed = capsys.readouterr().out
    assert f"{captions}: captions (told by how it begins: an object of objects with 'duration'" in printed
    assert "4 rows read, 3 written, 1 dropped (25.00%)" in printed
    assert f"{captions}:2: [4, 30.5] → [4, 20]" in printed
    assert f"{captions}:2: ' two  words '" in printed
    assert f"{captions}:2: v_1: timestamp [7, 6] ends before it starts: 'three'" in printed
    assert f"wrote 3 rows to {out}" in printed
    assert validate.main([str(out)]) == 0


def test_blanks_around_marks_that_cannot_be_seen_become_one(tmp_path):
    sentences = ["\u200b a man \u200b runs", "a\tman\nruns", "a\u00a0man runs\u2028", "\u200b \u200b"]
    entry = {"duration": 9.0, "timestamps": [[1, 2]] * 4, "sentences": sentences}
    rows = converted(write(tmp_path / "c.json", json.dumps({"v": entry})), out=tmp_path / "out.jsonl")
    assert [row["sentence"] for row in rows] == ["a man runs"] * 3


def test_last_digits_of_a_float_are_shown_where_they_alone_change_and_are_no_difference(tmp_path, capsys):
    rows = [
        {"video": "v", "duration": duration_s, "timestamp": [1, end], "sentence": "x"}
        for duration_s, end in ((68.69999999999999, 68.7), (68.7, 60))
    ]
    path = write(tmp_path / "a.json", json.dumps(rows, indent=1))
    assert len(converted(path, out=tmp_path / "out.jsonl")) == 2
    printed = capsys.readouterr().out
    assert f"{path}:2: [1.0, 68.7] → [1.0, 68.69999999999999]" in printed
    assert "duration-differs" not in printed


def test_more_dropped_than_the_share_exits_with_one_and_keeps_the_good_rows(captions, tmp_path, capsys):
    rows = converted(captions, out=tmp_path / "out.jsonl")
    assert [row["sentence"] for row in rows] == ["one", "two words", "four"]
    assert convert.main([captions, "-o", str(tmp_path / "out.jsonl")]) == 1
    assert (
        f"vtg.convert: error: {captions}: 25.0% of 4 rows are dropped, most for timestamp-reversed; more than "
        "--max-dropped 0.05; is it in the form 'captions'? --list names the forms\n"
    ) in capsys.readouterr().err


def test_rows_that_are_dropped_for_their_videos_ask_for_the_folder(captions, tmp_path, capsys):
    assert convert.main([captions, "-o", str(tmp_path / "out.jsonl"), "--video-dir", str(tmp_path)]) == 1
    assert (
        "most for video-absent; more than --max-dropped 0.05; are these videos in "
        f"--video-dir {tmp_path}? Fetch them, or leave --video-dir out\n"
    ) in capsys.readouterr().err


def test_half_a_file_is_named_with_its_line_and_the_rows_before_are_kept(captions, tmp_path, capsys):
    half = write(tmp_path / "half.json", Path(captions).read_text()[:-40])
    out = tmp_path / "out.jsonl"
    assert convert.main(["captions", half, "-o", str(out), "--max-dropped", "1"]) == 1
    assert len(out.read_text().splitlines()) == 2
    error = capsys.readouterr().err
    assert (
        f"{half}:" in error
        and "ends in the middle (cut off?); fetch it again (the rows before it are written)" in error
    )


def test_lines_that_were_cut_off_are_a_broken_file_and_those_before_are_kept(tmp_path, capsys):
    rows = [json.dumps({"qid": n, "vid": f"v{n}", "query": "x", "relevant_windows": [[1, 2]]}) for n in range(3)]
    cut = write(tmp_path / "cut.jsonl", "\n".join(rows)[:-9])
    # Random names, which gzip cannot shorten: a tenth is enough to lose the end.
    names = (hashlib.sha256(bytes([n % 256, n // 256])).hexdigest() for n in range(9000))
    whole = gzip.compress("".join(f"{name} 0 9##x\n" for name in names).encode())
    (tmp_path / "cut.txt.gz").write_bytes(whole[: len(whole) * 9 // 10])
    for file, kept in ((cut, range(2, 3)), (str(tmp_path / "cut.txt.gz"), range(8000, 9000))):
        out = tmp_path / "out.jsonl"
        assert convert.main([file, "-o", str(out)]) == 1
        assert f"{file}:" in (error := capsys.readouterr().err) and "ends in the middle" in error
        assert len(out.read_text().splitlines()) in kept


def test_where_no_row_can_be_made_the_old_file_stays(tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    out.write_text("old\n")
    bad = write(tmp_path / "bad.txt", "A1 5 1##no\n")
    assert convert.main([bad, "-o", str(out)]) == 1
    assert out.read_text() == "old\n"
    assert f"wrote nothing to {out}" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.txt", "out.jsonl"]


def test_two_durations_of_one_video_are_a_failure_that_names_both(tmp_path, capsys):
    row = {"qid": 1, "query": "q", "vid": "a", "duration": 20, "relevant_windows": [[1, 2]]}
    rows = [row, row | {"qid": 2, "duration": 20.4}, row | {"qid": 3, "duration": 60}, row | {"qid": 4, "vid": "b"}]
    path = write(tmp_path / "q.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out.jsonl"
    assert convert.main([path, "-o", str(out), "--max-dropped", "1"]) == 1
    shown = capsys.readouterr()
    assert f"{path}:3: a lasts 60 s here and 20 s at {path}:1; rows with a second duration are dropped (1)" in shown.err
    assert f"{path}:2: a lasts 20.4 s here and 20 s at {path}:1" in shown.out  # rounding: told, and kept
    assert [json.loads(line)["qid"] for line in out.read_text().splitlines()] == [1, 2, 4]


def test_durations_that_contradict_those_of_a_table_are_a_failure(captions, tmp_path, capsys):
    table = write(tmp_path / "lengths.csv", "video,duration\nv_1.mp4,200\nv_2.mp4,9.6\n")
    assert convert.main([captions, "--durations", table, "-o", str(tmp_path / "o.jsonl"), "--max-dropped", "1"]) == 1
    assert f"v_1 lasts 20 s here and 200 s at {table}:2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ("video,length\nA1.mp4,10\n", "a.csv"),
        ("A1\t10\n", "a.tsv"),
        ("A1 10.0\n", "a.txt"),
        ('{"A1": 10}', "a.json"),
        ('{"A1": {"duration": 10, "x": []}}', "b.json"),
        ('{"vid": "A1", "duration": "10"}\n{"vid": "B", "duration": 3}\n', "a.jsonl"),
    ],
)
def test_durations_come_from_tables_of_any_form(table, name, tmp_path):
    sta = write(tmp_path / "sta.txt", "A1 1 12##he sits\n")
    told = write(tmp_path / name, table)
    assert converted(sta, "--durations", told, out=tmp_path / "out.jsonl")[0]["timestamp"] == [1.0, 10.0]


def test_a_second_table_may_tell_what_the_first_told(tmp_path):
    durations = Durations()
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text("id,length\nA1,9.5\n", encoding="utf-8")
        durations.read(str(tmp_path / name))
    assert (durations("A1"), len(durations), durations.contradictions) == (9.5, 1, [])


def test_rows_without_a_known_duration_are_written_and_told(tmp_path, capsys):
    sta = write(tmp_path / "sta.txt", "A1 1 12##he sits\n")
    assert converted(sta, out=tmp_path / "out.jsonl") == [
        {"video": "A1", "timestamp": [1.0, 12.0], "sentence": "he sits"}
    ]
    assert "duration-unknown  written without `duration`: give --durations" in capsys.readouterr().out


def test_an_empty_list_of_spans_says_that_there_is_no_moment_unless_labels_are_withheld(tmp_path, capsys):
    row = {"qid": 1, "query": "he sits", "vid": "A1", "duration": 9, "relevant_windows": []}
    lines = [json.dumps(row), json.dumps(row | {"qid": 2, "relevant_windows": None})]
    published = write(tmp_path / "published.jsonl", "\n".join(lines) + "\n")
    none, unlabelled = converted("qvhighlights", published, out=tmp_path / "out.jsonl")
    assert none["timestamp"] == [] and "timestamp" not in unlabelled
    out = capsys.readouterr().out
    assert "1  no-moment  written with `timestamp: []`: it says that there is none" in out and "1  unlabelled" in out
    again = converted(str(tmp_path / "out.jsonl"), "--empty", "unlabelled", out=tmp_path / "again.jsonl")
    assert all("timestamp" not in one for one in again)
    kept = converted(str(tmp_path / "out.jsonl"), out=tmp_path / "kept.jsonl")
    assert [one.get("timestamp") for one in kept] == [[], None]


def test_text_in_any_usual_encoding_and_compression_is_read(tmp_path):
    lines = "A1 1 2##él se sienta\r\nA1 2 3##tschüß\r\n"
    out = tmp_path / "out.jsonl"
    for name, encoding in (("a.txt", "utf-8"), ("b.txt", "utf-8-sig"), ("c.txt", "utf-16"), ("d.txt", "cp1252")):
        path = write(tmp_path / name, lines, encoding)
        assert [row["sentence"] for row in converted(path, out=out)] == ["él se sienta", "tschüß"], encoding
    (tmp_path / "e.txt.gz").write_bytes(gzip.compress(lines.encode()))
    assert len(converted(str(tmp_path / "e.txt.gz"), out=out)) == 2
    for name, encoding in (("a.json", "utf-8-sig"), ("b.json", "utf-16")):
        path = write(tmp_path / name, json.dumps(CAPTIONS), encoding)
        assert len(converted(path, out=out)) == 3


def test_a_format_that_does_not_fit_is_refused_with_what_the_file_looks_like(captions, tmp_path, capsys):
    out = str(tmp_path / "out.jsonl")
    assert convert.main(["qvhighlights", captions, "-o", out]) == 2
    error = capsys.readouterr().err
    assert f"{captions} is not in the format qvhighlights: it is an object of objects with 'duration'" in error
    assert "it looks like captions" in error
    assert convert.main([write(tmp_path / "x.csv", "a,b\n1,2\n"), "-o", out]) == 2
    assert "is in no known format: it is a table of the columns a, b; name one (python -m vtg.convert --list)" in (
        capsys.readouterr().err
    )
    assert convert.main(["charades_stb", "-o", out]) == 2
    assert "charades_stb: there is no such file, nor a FORMAT (charades_sta, " in capsys.readouterr().err


def test_numbers_and_spans_in_text_are_read_and_told(tmp_path, capsys):
    rows = [
        {"video": "a", "duration": "10.5", "timestamp": ["1.0", "2.5"], "sentence": "one"},
        {"video": "a", "duration": 10.5, "timestamp": "[[1, 2], [3, 4]]", "sentence": "two"},
        {"video": "a", "duration": 10.5, "timestamp": "0:03 - 0:07", "sentence": "three"},
        {"video": 17, "duration": 10.5, "timestamp": [1, 2], "sentence": "four"},
    ]
    path = write(tmp_path / "rows.json", json.dumps(rows))
    found = converted(path, out=tmp_path / "out.jsonl")
    assert [row["timestamp"] for row in found] == [[1.0, 2.5], [[1.0, 2.0], [3.0, 4.0]], [3.0, 7.0], [1.0, 2.0]]
    assert found[0]["duration"] == 10.5 and found[3]["video"] == "17"
    printed = capsys.readouterr().out
    assert "3  timestamp-from-text  times were text" in printed and "1  video-from-number" in printed


def test_nan_and_missing_values_cost_their_rows_alone(tmp_path, capsys):
    good = '{"video": "a", "duration": 9, "timestamp": [1, 2], "sentence": "s", "score": NaN}'
    bad = [
        good.replace("[1, 2]", "[NaN, 2]"),
        good.replace('"s"', "null"),
        good.replace("9", "-1"),
        good.replace("[1, 2]", "[1]"),
        good.replace('"a"', '""'),
        good[:-9],
    ]
    path = write(tmp_path / "rows.jsonl", "\n".join([good, *bad]))
    assert convert.main([path, "-o", str(tmp_path / "out.jsonl"), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["files"][0]["written"] == 1
    assert {kind: entry["count"] for kind, entry in document["files"][0]["dropped_by_kind"].items()} == {
        "duration-invalid": 1,
        "row-truncated": 1,
        "sentence-missing": 1,
        "timestamp-format": 2,
        "video-missing": 1,
    }
    assert json.loads((tmp_path / "out.jsonl").read_text())["score"] is None


def test_columns_name_those_of_a_table_of_ones_own(tmp_path):
    rows = [["c1", "he sits, then stands", "1", "2,5", "20", "7"], ["c2", 'she says "hi"', "3", "4", "20", "8"]]
    head = ["clip", "what", "t0", "t1", "len", "split"]
    expected = [
        {"video": "c1", "duration": 20.0, "timestamp": [1.0, 2.5], "sentence": "he sits, then stands", "split": "7"},
        {"video": "c2", "duration": 20.0, "timestamp": [3.0, 4.0], "sentence": 'she says "hi"', "split": "8"},
    ]
    columns = ["--columns", "video=clip,query=what,start=t0,end=t1,duration=len"]
    quoted = [['"' + value.replace('"', '""') + '"' for value in row] for row in rows]
    paths = [
        write(tmp_path / "a.csv", "\n".join(map(",".join, [head, *quoted]))),
        write(tmp_path / "b.csv", "\ufeff" + "\r\n".join(map(";".join, [head, *quoted]))),
        write(tmp_path / "c.tsv", "\n".join(map("\t".join, [head, *quoted]))),
        write(tmp_path / "d.json", json.dumps([dict(zip(head, row, strict=True)) for row in rows])),
        write(tmp_path / "e.jsonl", "\n".join(json.dumps(dict(zip(head, row, strict=True))) for row in rows)),
        write_parquet(tmp_path / "f.parquet", head, rows),
    ]
    for path in paths:
        assert converted(path, *columns, out=tmp_path / "out.jsonl") == expected, path


@pytest.mark.parametrize("form", [[], ["rows"]])
def test_columns_of_usual_names_need_not_be_named(form, tmp_path):
    head, row = ["video", "query", "start_time", "end_time", "video_duration", "split"], ["v", "x", "1", "2", "30", "a"]
    expected = [{"video": "v", "duration": 30.0, "timestamp": [1.0, 2.0], "sentence": "x", "split": "a"}]
    paths = [
        write(tmp_path / "a.csv", f"{','.join(head)}\n{','.join(row)}\n"),
        write(tmp_path / "b.json", json.dumps([dict(zip(head, row, strict=True))])),
        write(tmp_path / "c.jsonl", json.dumps(dict(zip(head, row, strict=True)))),
        write_parquet(tmp_path / "d.parquet", head, [row]),
        write(tmp_path / "e.tsv", "vid\tcaption\tspan\tlength\tsplit\nv\tx\t1-2\t30\ta\n"),
    ]
    for path in paths:
        assert converted(*form, path, out=tmp_path / "out.jsonl") == expected, path


def test_a_table_without_times_is_of_no_known_form(tmp_path, capsys):
    path = write(tmp_path / "a.csv", "video,query,start,duration\nv,x,1,30\n")
    assert convert.main([path, "-o", str(tmp_path / "o.jsonl")]) == 2
    assert "in no known format: it is a table of the columns video, query, start, duration" in capsys.readouterr().err


@pytest.mark.parametrize("columns", [[], ["--columns", "video=video"]])
def test_a_repeated_column_is_refused(columns, tmp_path, capsys):
    path, out = write(tmp_path / "a.csv", "video,query,start,start,end,,\nv,x,1,2,3,,\n"), tmp_path / "out.jsonl"
    assert convert.main([path, *columns, "-o", str(out)]) == 1
    assert f"{path}:1: has two columns 'start'; give one of them another name" in capsys.readouterr().err
    assert not out.exists()
    unnamed = write(tmp_path / "k.csv", "k400/a.mp4,0,0\n")
    assert list(entries(unnamed)) == [Entry(1, None, {"0": "k400/a.mp4", "1": "0", "2": "0"})]


@pytest.mark.parametrize(
    "rows",
    [
        ['v0,"he ""sits,1,2,9', "v1,he lies,1,2,9"],
        ['v0,"he sits,1,2,9', 'v1,"he lies, or so",1,2,9', "v2,he stands,1,2,9"],
        ['v0,"he sits,1,2,9', 'v1,"he lies",1,2,9', "v2,he stands,1,2,9"],
        ['v0,"he sits,1,2,9', 'v1,he lies,1,2,9"', "v2,he stands,1,2,9"],
        ['v0,"he sits,1,2,9'],
        ['v0,"he sits,1,2,9', *(f"v{at},he lies,1,2,9" for at in range(9000))],
    ],
    ids=["doubled", "comma", "quoted", "end-of-line", "last", "many"],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_a_quote_that_swallows_rows_is_named_where_it_opens(rows, end, tmp_path, capsys):
    lines = ["video,query,start,end,duration", "v,a door opens,1,2,9", *rows]
    path, out = write(tmp_path / "a.csv", (end or "\n").join(lines) + end), tmp_path / "out.jsonl"
    assert convert.main([path, "--columns", "video=video", "-o", str(out)]) == 1
    assert f"{path}:3: {OPEN_QUOTE}" in capsys.readouterr().err
    assert [json.loads(line)["video"] for line in out.read_text().splitlines()] == ["v"]


def test_a_quoted_value_may_have_several_lines_and_a_quote_may_stand_in_a_value(tmp_path):
    content = 'video,query,start,end,duration\nv,"he ""sits""\nand lies, then stands",1,2,9\nw,a 5" pipe,1,2,9\n'
    path = write(tmp_path / "a.csv", content + 'u,"she says "hi" twice",1,2,9')
    found = converted(path, "--columns", "video=video", out=tmp_path / "out.jsonl")
    assert [row["video"] for row in found] == ["v", "w", "u"]
    assert [row["sentence"] for row in found][:2] == ['he "sits" and lies, then stands', 'a 5" pipe']


def write_parquet(path: Path, head: list[str], rows: list[list[str]]) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table([list(column) for column in zip(*rows, strict=True)], names=head), path)
    return str(path)


def test_a_column_that_is_none_is_refused(captions, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        convert.main([captions, "--columns", "film=vid", "-o", str(tmp_path / "o.jsonl")])
    assert ended.value.code == 2
    assert "'film=vid' must be FIELD=COLUMN, FIELD one of video, sentence" in capsys.readouterr().err


def test_videos_are_looked_up_with_their_ending_and_missing_ones_are_named(tmp_path, capsys):
    for name in ("deep/A1.webm", "B2.f399.mp4", "C3.txt"):
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).touch()
    sta = write(tmp_path / "sta.txt", "".join(f"{video} 1 2##it moves\n" for video in ("A1", "B2", "C3", "A1.mp4")))
    found = converted(sta, "--video-dir", str(tmp_path / "videos"), out=tmp_path / "out.jsonl")
    assert [row["video"] for row in found] == ["deep/A1.webm", "B2.f399.mp4", "deep/A1.webm"]
    assert f"{sta}:3: C3: there is no such video in the folder" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "asked", "found"),
    [
        ("x/a.mp4 y/a.mp4", "z/a.mp4", "there is no such video in the folder; x/a.mp4 is in another one"),
        ("x/a.mp4 y/a.mp4", "a.mp4", "may be x/a.mp4 or y/a.mp4; name it by its folder and ending"),
        ("x/a.mp4 y/a.mp4", "set/y/a", "y/a.mp4"),
        ("x/b.mkv x/b.mp4", "b.mp4", "x/b.mp4"),
        ("x/b.mkv x/b.mp4", "b.mkv", "x/b.mkv"),
        ("x/b.mkv x/b.mp4", "b", "x/b.mp4"),
        ("a.webm deep/a.webm", "a", "a.webm"),
        ("p/x/a.mp4 q/x/a.mp4", "x/a.mp4", "may be p/x/a.mp4 or q/x/a.mp4; name it by its folder and ending"),
        ("c.1.mp4 c.2.mp4", "c", "may be c.1.mp4 or c.2.mp4; name it by its folder and ending"),
        ("a.mp4", "./far/away/a.avi", "a.mp4"),
    ],
)
def test_a_video_of_another_folder_is_another_video(files, asked, found, tmp_path, capsys):
    for name in files.split():
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).touch()
    sta, out = write(tmp_path / "sta.txt", f"{asked} 1 2##it moves\n"), tmp_path / "out.jsonl"
    code = convert.main([sta, "--video-dir", str(tmp_path / "videos"), "-o", str(out)])
    if code == 0:
        assert json.loads(out.read_text())["video"] == found
    else:
        assert f"{sta}:1: {asked}: {found}" in capsys.readouterr().out and not out.exists()


def test_a_file_in_no_folder_is_the_video_of_one_folder_alone(tmp_path, capsys):
    (tmp_path / "two").mkdir()
    (tmp_path / "two/1.mp4").touch()
    rows = "".join(f"{video} 1 2##it moves\n" for video in ("one/1.mp4", "one/1.mp4", "three/1.mp4", "two/1.mp4"))
    sta, out = write(tmp_path / "sta.txt", rows), tmp_path / "out.jsonl"
    words = [sta, "--video-dir", str(tmp_path / "two"), "-o", str(out), "--max-dropped", "0.5"]
    assert convert.main(words) == 0
    assert len(out.read_text().splitlines()) == 3
    assert f"{sta}:3: three/1.mp4: 1.mp4 is taken by that of one; add the folders" in capsys.readouterr().out


def test_names_of_videos_follow_a_template(tmp_path, capsys):
    sta = write(tmp_path / "sta.txt", "A1.avi 1 2##it moves\n")
    found = converted(sta, "--video-template", "clips/{video}.mp4", out=tmp_path / "out.jsonl")
    assert [row["video"] for row in found] == ["clips/A1.mp4"]
    assert convert.main([sta, "--video-template", "clips/x.mp4", "-o", str(tmp_path / "o.jsonl")]) == 2
    assert "--video-template clips/x.mp4: must hold {video} for the id" in capsys.readouterr().err


def test_durations_that_nothing_tells_are_read_from_the_videos(tmp_path, write_mp4):
    Path(write_mp4(range(0, 9501, 500))).rename(tmp_path / "A1.mp4")
    sta = write(tmp_path / "sta.txt", "A1 1 99##it moves\n")
    (row,) = converted(sta, "--video-dir", str(tmp_path), "--probe", out=tmp_path / "out.jsonl")
    assert 9 < row["duration"] < 11 and row["timestamp"] == [1.0, row["duration"]]


def test_what_is_read_is_never_overwritten(captions, tmp_path, capsys):
    assert convert.main([captions, "-o", captions]) == 2
    assert f"-o {captions} would overwrite what is read" in capsys.readouterr().err
    assert convert.main([captions, "-o", str(tmp_path / "o.jsonl"), "--json", captions]) == 2
    assert f"--json {captions} is there and is no report of vtg.convert" in capsys.readouterr().err


def test_rows_and_their_report_go_to_files_of_their_own(captions, tmp_path, capsys):
    out, link = tmp_path / "o.jsonl", tmp_path / "link.json"
    link.symlink_to(out)
    for report in (out, link):
        assert convert.main([captions, "-o", str(out), "--json", str(report)]) == 2
        assert f"--json {report} would overwrite what -o writes; name another file" in capsys.readouterr().err
    assert not out.exists()


def test_rows_go_through_a_link_and_into_a_pipe(captions, tmp_path):
    pipe, link, target = tmp_path / "pipe", tmp_path / "link.jsonl", tmp_path / "target.jsonl"
    link.symlink_to(target)
    assert len(converted(captions, out=link)) == 3 and link.is_symlink() and target.is_file()
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE)
    assert convert.main([captions, "-o", str(pipe)]) == 1  # a third of the rows is dropped
    assert reader.communicate()[0] == target.read_bytes() and pipe.is_fifo()


def test_a_report_that_cannot_be_written_is_told_in_one_line(captions, tmp_path, capsys):
    assert convert.main([captions, "-o", str(tmp_path / "o.jsonl"), "--json", "/proc/x.json"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("vtg.convert: error: ") and err.count("\n") == 1
    assert "/proc/" in err and err.endswith("; check the path and its permissions\n")


def test_the_list_names_every_form_its_origin_and_whether_it_was_tried(capsys):
    from vtg.annotations.sources import BENCHMARKS, SOURCES

    assert convert.main(["--list"]) == 0
    printed = capsys.readouterr().out
    for name in (*BENCHMARKS, *SOURCES):
        assert f"  {name}" in printed
    for source in SOURCES.values():
        assert source.loader in printed
    assert "not seen on the real file" in printed


def test_a_column_that_the_table_lacks_is_named_beside_those_it_has(tmp_path, capsys):
    path = write(tmp_path / "a.csv", "clip,what\na,b\n")
    assert convert.main([path, "--columns", "video=film,sentence=what", "-o", str(tmp_path / "o.jsonl")]) == 2
    assert f"{path}: has no column 'film'; its columns: clip, what" in capsys.readouterr().err


def test_a_file_of_durations_beside_is_the_published_one_and_named_where_it_is_broken(tmp_path, capsys):
    path, out = write(tmp_path / "charades_sta_test.txt", "A1 1.0 3.5##he sits\n"), str(tmp_path / "o.jsonl")
    lengths = write(tmp_path / "Charades_v1_test.csv", "id,actions,length\nA1,,9.5\n")
    write(tmp_path / "Charades_v1_test_notes.csv", "what,why\n")  # anybody's
    assert convert.main([path, "-o", out]) == 0
    assert f"{lengths}: durations of videos, found beside" in capsys.readouterr().out
    write(Path(lengths), "what,why\n")
    assert convert.main([path, "-o", out]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"vtg.convert: error: {lengths}: tells no duration; give a table")
    assert told.endswith(f" (it was found beside {path}, for durations)\n")


@pytest.mark.parametrize("words", [["--to", "qvhighlights", "."], ["{file}", "--durations", "."]])
def test_a_folder_in_place_of_a_file_is_named(words, captions, tmp_path, capsys):
    named = [str(tmp_path) if word == "." else word.format(file=captions) for word in words]
    assert convert.main([*named, "-o", str(tmp_path / "o.jsonl")]) == 2
    told = f"{tmp_path}: is a folder, not a file of rows; check the path and its permissions"
    assert capsys.readouterr().err == f"vtg.convert: error: {told}\n"


@pytest.mark.parametrize("content", ["", "  \n", "[", '{"a', "[]", "{}"])
def test_a_file_without_an_entry_is_broken(content, tmp_path, capsys):
    path = write(tmp_path / "a.json", content)
    out = tmp_path / "o.jsonl"
    for words in ([path], ["qvhighlights", path]):
        assert convert.main([*words, "-o", str(out)]) == 1
        assert f"{path} holds no entry that can be read" in capsys.readouterr().err
    assert not out.exists()


def test_of_a_file_without_a_good_line_the_first_fault_is_told(tmp_path, capsys):
    rows = [{"qid": at, "query": "he sits", "duration": 9, "vid": "a", "relevant_windows": [[1, 2]]} for at in (1, 2)]
    path = write(tmp_path / "a.jsonl", ",\n".join([*map(json.dumps, rows), ""]))
    for words in ([path], ["qvhighlights", path]):
        assert convert.main([*words, "-o", str(tmp_path / "o.jsonl")]) == 1
        told = f"{path}:1: is not valid JSON: JSON is malformed: trailing characters (byte 88); correct or drop it"
        assert capsys.readouterr().err == f"vtg.convert: error: {told}\n"


def test_bad_rows_at_the_begin_do_not_hide_the_format(tmp_path, capsys):
    good = "".join(f"A{at} 1 2##it moves\n" for at in range(30))
    path = write(tmp_path / "sta.txt", "# a remark\n\n" + good)
    assert len(converted(path, out=tmp_path / "out.jsonl")) == 30
    assert f"{path}:1: '# a remark' is not `VIDEO START END##sentence`" in capsys.readouterr().out
    row = {"qid": 1, "query": "q", "vid": "a", "relevant_windows": [[1, 2]]}
    lines = [json.dumps(row | {"qid": at}) for at in range(30)]
    path = write(tmp_path / "q.jsonl", "\n".join(['{"qid": 0, "query', *lines]))
    assert [one["qid"] for one in converted(path, out=tmp_path / "out.jsonl")] == list(range(30))


def test_memory_does_not_grow_with_the_file(tmp_path):
    """Ten times as many rows of the same videos: the process needs as much, but for the allocator's slack."""
    small, large = (peak_mb(tmp_path, rows) for rows in (6000, 60000))
    assert large - small < 12, (small, large)


@pytest.mark.soak
def test_a_million_rows_are_converted_in_bounded_memory(tmp_path):
    assert peak_mb(tmp_path, 1_000_000) - peak_mb(tmp_path, 6000) < 64


def peak_mb(folder: Path, rows: int) -> float:
    """The most memory that a process needs which converts so many rows, all on one line of JSON."""
    path = folder / f"{rows}.json"
    with path.open("w") as file:
        file.write("{")
        for at in range(rows // 4):
            entry = {
                "duration": 90.5,
                "timestamps": [[1, 2], [3, 9], [10, 99], [4, 5]],
                "sentences": ["a", " b", "c", "d"],
            }
            file.write(("," if at else "") + f'"v_{at % 1000}": ' + json.dumps(entry))
        file.write("}")
    code = (
        "import resource, sys; from vtg import convert; code = convert.main(sys.argv[1:]); "
        "print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    words = [sys.executable, "-c", code, str(path), "-o", str(folder / "out.jsonl")]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    code, peak = done.stdout.splitlines()[-1].split()
    assert code == "0", done.stdout
    return float(peak)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"\x1f\x8b["),
        ("k.csv", b"label,youtub\x8f_id,time_start,time_en\r,split1,2,t\n"),
        ("v.json", b'[{"query_id": 0, "video_id": Infinity, "query": "x", "gt": [[1, 2], []]}]'),
        ("h.json", b'{"P": {"a.mp4": {"bounds": [1, 5], "steps": [true]}, "b.mp4": {"bounds": 1, "steps": -1}}}'),
        ("x.jsonl", b'{"messages": [{"role": "user", "content": [{"type": "video_url", "video_url": "x"}]}, "y"]}'),
        ("b.bin", bytes(range(256)) * 9),
    ],
)
@pytest.mark.parametrize("form", ["", "vue_tr", "hirest_steps", "conversations", "kinetics"])
def test_no_broken_file_ends_in_a_traceback(form, name, content, tmp_path, capsys):
    (tmp_path / name).write_bytes(content)
    words = [*filter(None, [form]), str(tmp_path / name)]
    assert convert.main([*words, "-o", str(tmp_path / "o.jsonl")]) in (1, 2)
    assert "vtg.convert: error: " in capsys.readouterr().err
