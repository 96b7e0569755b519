"""Rows and files of rows: what is read, what is refused and in which words."""

import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vtg.annotations import raw_rows, row_checks, row_decoder
from vtg.annotations.sample import Problem, Sample, check_row, read_samples, resolve_video
from vtg.annotations.target import NoMoment, Spans

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
GOOD = {"video": "a.mp4", "duration": 30.0, "timestamp": [2.0, 5.5], "sentence": "a man sits down"}
ANY_FILE = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(folder: Path, content: bytes | str, name: str = "a.jsonl") -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def messages(raw: bytes | dict[str, Any]) -> list[str]:
    text = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    return [f"{problem.severity} {problem}" for problem in check_row(text, path="a.jsonl", line=7)[1]]


def test_a_row_becomes_a_sample_and_a_row_again(tmp_path: Path) -> None:
    row = GOOD | {
        "qid": 7,
        "video_start": 10,
        "video_end": 40,
        "difficulty": 50,
        "pred": [1, 2],
        "source": {"set": [1]},
    }
    path = write(tmp_path, json.dumps(row))
    (sample,) = read_samples(path)
    assert sample == Sample(
        video="a.mp4",
        duration_s=30.0,
        target=Spans(((2.0, 5.5),)),
        query="a man sits down",
        qid="7",
        video_start_s=10.0,
        video_end_s=40.0,
        difficulty=50.0,
        pred=(1.0, 2.0),
        metadata={"source": {"set": [1]}},
        place=f"{path}:1",
    )
    assert isinstance(sample, Sample)
    assert sample.row() == row | {"qid": "7"}


def test_several_moments_are_kept_in_order_and_ends_after_the_clip_are_clipped(tmp_path: Path) -> None:
    (sample,) = read_samples(write(tmp_path, json.dumps(GOOD | {"timestamp": [[20, 30.5], [1, 2]]})))
    assert isinstance(sample, Sample)
    assert sample.spans == ((20.0, 30.0), (1.0, 2.0))
    assert sample.row()["timestamp"] == [[20.0, 30.0], [1.0, 2.0]]


def test_an_empty_timestamp_says_that_there_is_no_moment(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    # The second row has a warning, so that the slow path reads it.
    rows = [GOOD | {"timestamp": []}, GOOD | {"timestamp": [], "difficulty": 101}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for sample, row in zip(read_samples(path), rows, strict=True):
        assert isinstance(sample, Sample) and sample.target == NoMoment()
        assert sample.is_labelled and sample.row()["timestamp"] == [] == row["timestamp"]


def test_null_means_absent_and_a_missing_qid_is_made_from_the_place(tmp_path: Path) -> None:
    absent = dict.fromkeys(("qid", "video_start", "video_end", "difficulty", "pred"))
    (sample,) = read_samples(write(tmp_path, "\n" + json.dumps(GOOD | absent), name="charades.jsonl"))
    assert isinstance(sample, Sample)
    assert sample.qid == "charades:2"
    assert sample.row() == GOOD | {"qid": "charades:2"}


def test_a_sample_outside_its_clip_cannot_be_made() -> None:
    with pytest.raises(ValueError, match=r"a.jsonl:3: timestamp: \(\(2, 40\),\) must be spans inside the clip of 30 s"):
        Sample(video="a.mp4", duration_s=30.0, target=Spans(((2, 40),)), query="x", qid="1", place="a.jsonl:3")


NOT_A_PAIR = "must be [start, end] in seconds, or a list of such pairs"
CONVERT = "README.md, 'Your own data', shows a row"
ROW_CASES: list[tuple[dict[str, Any], list[str]]] = [
    ({"video": None}, ["error video: is missing; every row needs it"]),
    ({"video": None, "vid": "x"}, ["error video: is missing; rename 'vid', which this row has, or convert the file"]),
    ({"video": 3}, ["error video: must be a string, not 3; put it in quotes"]),
    ({"video": " "}, ["error video: is empty; fill it in, or drop the row"]),
    ({"video": "a\0b"}, ["error video: the string 'a\\x00b' has a NUL character; no path can have one"]),
    ({"sentence": []}, ["error sentence: must be a string, not a list of 0; put it in quotes"]),
    ({"sentence": ""}, ["error sentence: is empty; fill it in, or drop the row"]),
    ({"duration": True}, ["error duration: must be a number of seconds, not true; give a number"]),
    ({"duration": "30"}, ["error duration: must be a number of seconds, not the string '30'; remove the quotes"]),
    ({"duration": 0}, ["error duration: must be above 0 s, not 0; correct it"]),
    (
        {"duration": 10**320},
        ["error duration: must be a number of seconds, not an integer beyond the range of a float; correct it"],
    ),
    (
        {"duration": 90000.0},
        ["warning duration: 90000 s is more than a day; give seconds, not milliseconds or frames"],
    ),
    ({"timestamp": "2-5"}, [f"error timestamp: {NOT_A_PAIR}, not the string '2-5'; correct it, or drop the row"]),
    ({"timestamp": [1]}, [f"error timestamp: {NOT_A_PAIR}, not a list of 1; correct it, or drop the row"]),
    ({"timestamp": [1, False]}, [f"error timestamp: {NOT_A_PAIR}, but its end is false; give a number"]),
    ({"timestamp": [[1, 2], ["1", 2]]}, [f"error timestamp[1]: {NOT_A_PAIR}, but its start is the string '1'; "]),
    (
        {"timestamp": [0, 10**320]},
        [f"error timestamp: {NOT_A_PAIR}, but its end is an integer beyond the range of a float; correct it"],
    ),
    ({"timestamp": []}, []),
    (
        {"timestamp": [5, 2]},
        ["error timestamp: [5, 2] is reversed: its end comes before its start; swap them, or drop the row"],
    ),
    (
        {"timestamp": [[1, 2], [5, 5]]},
        ["error timestamp[1]: [5, 5] is empty: it ends where it starts; give its end, or drop the row"],
    ),
    (
        {"timestamp": [-1, 2]},
        ["error timestamp: starts at -1 s, before the clip; count from the clip's start, 0 s"],
    ),
    (
        {"timestamp": [40, 45]},
        [
            "error timestamp: starts at 40 s, but the clip lasts 30 s; give times relative to the clip "
            "(subtract video_start), or correct duration"
        ],
    ),
    (
        {"timestamp": [2, 31.5]},
        ["warning timestamp: ends at 31.5 s, 1.5 s after the clip's end at 30 s; it is read as 30 s: write that"],
    ),
    (
        {"timestamp": [2, 31.6]},
        [
            "error timestamp: ends at 31.6 s, 1.6 s after the clip's end at 30 s; correct it or duration, "
            "or drop the row"
        ],
    ),
    (
        {"timestamp": [0, 30]},
        ["warning timestamp: covers the whole clip, [0, 30]: nothing is left to find; drop the row if that is wrong"],
    ),
    ({"video_start": 3}, ["error video_end: is missing, but video_start is there; give both, or neither"]),
    ({"video_end": 3}, ["error video_start: is missing, but video_end is there; give both, or neither"]),
    (
        {"video_start": "0", "video_end": 30},
        ["error video_start: must be a number of seconds, not the string '0'; remove the quotes"],
    ),
    ({"video_start": -1, "video_end": 29}, ["error video_start: must be 0 s or more, not -1; correct it"]),
    (
        {"video_start": 40, "video_end": 10},
        ["error video_end: must come after video_start (40 s), not at 10 s; correct one of them"],
    ),
    (
        {"video_start": 10, "video_end": 50},
        ["warning video_end: video_start to video_end is 40 s, duration says 30 s; duration must be the clip's own"],
    ),
    ({"qid": 1.5}, ["error qid: must be a string or a whole number, not 1.5; put it in quotes"]),
    ({"qid": True}, ["error qid: must be a string or a whole number, not true; put it in quotes"]),
    ({"qid": ""}, ["error qid: is empty; fill it in, or leave the key out"]),
    ({"difficulty": "easy"}, ["error difficulty: must be a number, not the string 'easy'; remove the quotes"]),
    (
        {"difficulty": 101},
        ["warning difficulty: 101 is not between 0 and 100; give 100 x IoU of a base model's prediction"],
    ),
    ({"pred": [1, None]}, ["error pred: must be [start, end] in seconds, but its end is null; give a number"]),
    ({"pred": 3}, ["error pred: must be [start, end] in seconds, not 3; correct it, or drop the row"]),
]


@pytest.mark.parametrize(("change", "expected"), ROW_CASES, ids=lambda case: str(case)[:40])
def test_what_is_wrong_with_a_row_is_said_with_its_place_and_remedy(
    change: dict[str, Any], expected: list[str]
) -> None:
    found = messages(GOOD | change)
    assert len(found) == len(expected)
    for text, want in zip(found, expected, strict=True):
        severity, rest = want.split(" ", 1)
        assert text.startswith(f"{severity} a.jsonl:7: {rest}")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"3", "row: must be a JSON object with the keys video, duration, timestamp, sentence, not 3; " + CONVERT),
        (b'{"AO8RW": {}}', f"row: has none of video, duration, timestamp, sentence (its keys: 'AO8RW'); {CONVERT}"),
        (b'{"video": "a', "row: ends in the middle (cut off, or over several lines); complete it"),
        (rb'{"sentence": "x \ud800 y"}', r"row: has half of a surrogate pair (\ud800), which is no character; remove"),
        (rb'{"sentence": "\ud83d\ude00 \udc00"}', r"row: has half of a surrogate pair (\udc00), which is no character"),
        (rb'{"sentence": "\ud800', "row: ends in the middle (cut off, or over several lines); complete it"),
        (b'{"duration": NaN}', "row: has NaN or Infinity, which JSON does not allow; write a number, or null"),
        (b'{"duration": -Infinity}', "row: has NaN or Infinity, which JSON does not allow; write a number, or null"),
        (b'{"duration": 1e999}', "row: has a number beyond the range of a float; correct it"),
        (b'{"video": "\xff"}', "row: is not UTF-8 (invalid start byte); save the file as UTF-8"),
        (b'{"m": ' + b"[" * 99999 + b"]" * 99999 + b"}", "row: is nested too deep to be read; flatten its metadata"),
        (
            b"{'video': 1}",
            "row: is not valid JSON: JSON is malformed: object keys must be strings (byte 1); correct or",
        ),
        (
            b" " * raw_rows.MAX_ROW_BYTES,
            "row: is longer than 16 MiB; put each row on a line, or move bulky metadata out",
        ),
    ],
    ids=lambda case: str(case)[:30],
)
def test_a_row_that_is_no_row_is_one_error(raw: bytes, expected: str) -> None:
    (found,) = messages(raw)
    assert found.startswith(f"error a.jsonl:7: {expected}")


@pytest.mark.parametrize(
    ("content", "line", "expected"),
    [
        (b"", 1, "file: holds no rows; check the path, or write one JSON object a line"),
        (b"\n \r\n", 1, "file: holds no rows; check the path, or write one JSON object a line"),
        (b"[]", 1, "file: holds no rows; check the path, or write one JSON object a line"),
        (b"{\n}", 1, f"file: is one JSON object, not rows; {CONVERT}"),
        (b"[\n1,\n2", 3, "row: must be a JSON object with the keys"),
        (b"[{},\n", 2, "file: ends inside its array (cut off?); fetch it again, or add ]"),
        (b'[{},\n{"video": "a', 2, "row: ends in the middle (cut off, or over several lines); complete it"),
        (b"[{}\n{}]", 2, "file: needs exactly one comma between two rows; correct it here"),
        (b"[{}\n,]", 2, "file: needs exactly one comma between two rows; correct it here"),
        (b"[{}]\n{}", 1, "file: goes on after its array; keep one array, or one row a line"),
        ("[]".encode("utf-16"), 1, "file: is UTF-16 text, not UTF-8 JSON; turn it into plain UTF-8 text first"),
        (b"\x1f\x8b\x08", 1, "file: is gzip data, not UTF-8 JSON; turn it into plain UTF-8 text first"),
        (b"PAR1\x15\x00", 1, "file: is a Parquet table, not JSON rows; name its form (molmo2:FILE, pixmo:FILE), or"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_at_its_line(
    tmp_path: Path, content: bytes, line: int, expected: str
) -> None:
    path = write(tmp_path, content)
    found = [str(item) for item in read_samples(path)]
    assert any(text.startswith(f"{path}:{line}: {expected}") for text in found), found


def test_a_lost_row_is_one_problem_and_its_neighbours_are_read(tmp_path: Path) -> None:
    bad = GOOD | {"duration": True, "sentence": ""}
    content = "".join(f"{json.dumps(row)}\n" for row in (GOOD, bad, GOOD))
    first, lost, last = read_samples(write(tmp_path, content))
    assert isinstance(first, Sample) and isinstance(last, Sample)
    assert isinstance(lost, Problem) and (lost.line, lost.severity) == (2, "error")


def test_rows_that_start_on_one_line_have_names_of_their_own(tmp_path: Path) -> None:
    bad = GOOD | {"timestamp": [7, 3]}
    found = list(read_samples(write(tmp_path, json.dumps([GOOD, bad, GOOD, bad]), name="compact.json")))
    places = [item.place.removeprefix(str(tmp_path)) for item in found]
    assert places == ["/compact.json:1", "/compact.json:1[2]", "/compact.json:1[3]", "/compact.json:1[4]"]
    assert [item.qid for item in found if isinstance(item, Sample)] == ["compact:1", "compact:1[3]"]
    assert str(found[3]).startswith(f"{tmp_path}/compact.json:1[4]: timestamp: ")


def test_rows_on_lines_of_their_own_are_named_after_them_and_others_of_a_line_are_numbered(tmp_path: Path) -> None:
    row = json.dumps(GOOD)
    content = f"[\n{row},\n{row}, {row}\n{row},{json.dumps(GOOD, indent=1)}, {row}\n]"
    found = list(read_samples(write(tmp_path, content)))
    # A comma is missing before line 4: a fault of the file, which takes no row's name.
    assert [item.qid for item in found if isinstance(item, Sample)] == ["a:2", "a:3", "a:3[2]", "a:4", "a:4[2]", "a:12"]
    assert [item.place for item in found if isinstance(item, Problem)] == [f"{tmp_path}/a.jsonl:4"]


def test_byte_order_mark_blank_lines_and_mixed_line_ends_do_not_matter(tmp_path: Path) -> None:
    text = json.dumps(GOOD)
    content = b"\xef\xbb\xbf\r\n" + f"{text}\r\n\n{text}\n  \t\r\n{text}".encode()
    places = [item.place for item in read_samples(write(tmp_path, content)) if isinstance(item, Sample)]
    assert [int(place.rpartition(":")[2]) for place in places] == [2, 4, 6]


@pytest.mark.parametrize("blob", ["x" * (3 << 16), '\\"]}' * (1 << 16), [[{"a": "]"}, "\\\\"]] * (1 << 14), "}\u2028"])
@pytest.mark.parametrize("indent", [None, 1])
def test_a_row_of_an_array_over_the_size_limit_is_lost_alone_and_named(tmp_path, monkeypatch, blob, indent) -> None:
    monkeypatch.setattr(raw_rows, "MAX_ROW_BYTES", 1 << 14 if len(blob) > 9 else 20)
    monkeypatch.setattr(raw_rows, "CHUNK_BYTES", 1 << 10 if len(blob) > 9 else 7)
    big, small = GOOD | {"blob": blob}, [1]
    text = json.dumps([small, big, small, big, small], indent=indent)
    found = list(raw_rows.raw_rows(str(write(tmp_path, text))))
    starts = [1 + text.count("\n", 0, at) for at in _starts(text)]
    assert [line for line, _ in found] == starts
    assert [len(raw) < 20 for _, raw in found] == [True, False, True, False, True]
    lost = [item for item in read_samples(write(tmp_path, text)) if isinstance(item, Problem)]
    assert [one.line for one in lost if "longer than" in one.message] == [starts[1], starts[3]]


def _starts(text: str) -> list[int]:
    """Where the elements of an array begin."""
    decoder, at, found = json.JSONDecoder(), 1, []
    while text[at] != "]":
        at += len(text[at:]) - len(text[at:].lstrip(", \n"))
        found.append(at)
        _, at = decoder.raw_decode(text, at)
        at += len(text[at:]) - len(text[at:].lstrip())
    return found


@pytest.mark.parametrize("scalar", ['"' + "x" * 99 + '"', "1" * 99])
def test_a_long_scalar_in_an_array_is_lost_alone(tmp_path, monkeypatch, scalar) -> None:
    monkeypatch.setattr(raw_rows, "MAX_ROW_BYTES", 20)
    monkeypatch.setattr(raw_rows, "CHUNK_BYTES", 7)
    found = list(raw_rows.raw_rows(str(write(tmp_path, f"[\n1,\n{scalar}\n,{scalar}, 2]"))))
    assert found == [(2, b"1"), (3, scalar[:20].encode()), (4, scalar[:20].encode()), (4, b"2")]


def test_blank_bytes_before_the_first_row_are_looked_at_once(tmp_path, monkeypatch) -> None:
    looked: list[int] = []

    class Counted(io.BufferedReader):
        def peek(self, size: int = 0, /) -> bytes:
            looked.append(len(found := super().peek(size)))
            return found

    monkeypatch.setattr(raw_rows, "opened", lambda path: Counted(io.FileIO(path), raw_rows.CHUNK_BYTES))
    blanks = b" \n" * (5 << 18)
    assert list(raw_rows.raw_rows(str(write(tmp_path, blanks + b"{}\n")))) == [(1 + (5 << 18), b"{}\n")]
    assert sum(looked) < 3 * len(blanks)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_is_no_file_of_rows(device) -> None:
    with pytest.raises(OSError, match=f"^{device}: is a device, not a file of rows$"):
        list(read_samples(device))


def test_what_never_ends_is_read_no_further_than_a_bound(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(raw_rows, "MAX_SKIPPED_BYTES", 1 << 22)
    monkeypatch.setattr(raw_rows, "MAX_ROW_BYTES", 1 << 20)
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    for flood in (b"\0" * (1 << 16), b"\n" * (1 << 16)):
        with subprocess.Popen([sys.executable, "-c", FLOOD, pipe, flood[:1].hex()]) as writer:
            last = list(read_samples(pipe))[-1]
            writer.kill()
        assert isinstance(last, Problem) and "holds no row that ends within" in last.message


FLOOD = """
import sys
with open(sys.argv[1], "wb") as file:
    while True:
        file.write(bytes.fromhex(sys.argv[2]) * 65536)
"""


def test_a_pipe_is_read_and_a_silent_one_waited_for_no_longer_than_a_bound(tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(raw_rows, "NOTE_S", 0.05)
    monkeypatch.setattr(raw_rows, "WAIT_S", 0.1)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match=rf"^{pipe}: a pipe .+ 0\.1 s; write rows to it, or name a file$"):
        list(read_samples(pipe))
    assert caplog.messages == [f"{pipe}: a pipe, and nothing has come through it yet: waiting for its rows"]
    with pytest.raises(OSError, match="nothing has come"), raw_rows.opened(str(pipe)) as file:
        file.read()
    monkeypatch.setattr(raw_rows, "WAIT_S", 60.0)
    writer = threading.Thread(target=pipe.write_text, args=(json.dumps(GOOD) + "\n",))
    writer.start()
    (sample,) = read_samples(pipe)
    writer.join()
    assert isinstance(sample, Sample)


def test_a_row_over_the_size_limit_is_lost_alone(tmp_path: Path) -> None:
    big = json.dumps(GOOD | {"blob": "x" * raw_rows.MAX_ROW_BYTES})
    lost, good = read_samples(write(tmp_path, f"{big}\n{json.dumps(GOOD)}\n"))
    assert isinstance(lost, Problem) and "longer than 16 MiB" in lost.message
    assert isinstance(good, Sample) and good.place.endswith(":2")


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 40) | st.floats(-5, 40) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
SPANS = st.lists(st.floats(0, 31) | st.integers(0, 31), min_size=2, max_size=2)


@st.composite
def annotation_rows(draw: st.DrawFn) -> dict[str, Any]:
    """Rows near enough to good ones to reach every rule."""
    row: dict[str, Any] = dict(GOOD)
    row["timestamp"] = draw(SPANS | st.lists(SPANS, max_size=3))
    optional = {"video_start": st.floats(0, 20), "video_end": st.floats(20, 50), "difficulty": st.floats(-1, 101)}
    optional |= {"pred": SPANS, "qid": TEXT | st.integers()}
    for key in draw(st.sets(st.sampled_from(sorted(optional)))):
        row[key] = draw(optional[key] | st.none())
    row |= draw(st.dictionaries(TEXT, VALUES, max_size=2))
    for key in draw(st.sets(st.sampled_from(row_checks.KEYS), max_size=1)):
        row[key] = draw(VALUES)
    return row


@settings(max_examples=400, deadline=None)
@given(st.lists(annotation_rows(), min_size=1, max_size=4))
def test_a_row_that_is_called_clean_has_no_problem_and_one_with_a_problem_is_not_clean(
    examples: list[dict[str, Any]],
) -> None:
    decoder = row_decoder.RowDecoder()
    for example in examples:
        raw = json.dumps(example).encode()
        whole, findings = row_checks.check(raw)
        assert whole is not None and whole == example
        decoder.learn(whole)
        try:
            clean = row_decoder.is_clean(decoder.decode(raw))
        except (msgspec.MsgspecError, ValueError):
            continue
        assert clean == (not findings)


@pytest.mark.parametrize("timestamp", [[2.0, 30.0 + 1.42e-14], [2.0, 30.0009], [[-1e-9, 5.0], [6.0, 30.001]]])
def test_a_span_that_leaves_the_clip_by_rounding_alone_is_as_good_as_inside(
    timestamp: list[Any], tmp_path: Path
) -> None:
    row = GOOD | {"timestamp": timestamp}
    assert messages(json.dumps(row).encode()) == []
    assert row_decoder.is_clean(row_decoder.RowDecoder().decode(json.dumps(row).encode()))
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps(row | {"qid": None}) + "\n")
    for sample in read_samples(path):
        assert isinstance(sample, Sample)
        assert min(start for start, _ in sample.spans) >= 0 and sample.spans[-1][1] == 30.0


@pytest.mark.parametrize(
    ("timestamp", "said"),
    [
        ([2.0, 30.002], "0.002 s after the clip's end"),
        ([-0.002, 5.0], "starts at -0.002 s, before the clip"),
        ([-0.0005, -0.0001], "starts at -0.0005 s, before the clip"),
        ([30.0, 30.0005], "starts at 30 s, but the clip lasts 30 s"),
        ([-0.0005, 30.0005], "covers the whole clip"),
    ],
)
def test_a_span_that_leaves_the_clip_by_more_than_rounding_or_with_all_of_it_is_told(
    timestamp: list[float], said: str
) -> None:
    raw = json.dumps(GOOD | {"timestamp": timestamp}).encode()
    assert said in "".join(messages(raw))
    assert not row_decoder.is_clean(row_decoder.RowDecoder().decode(raw))


def test_metadata_is_checked_as_strictly_by_the_fast_path_as_by_the_reader() -> None:
    decoder = row_decoder.RowDecoder()
    decoder.learn(GOOD | {"source": "x"})
    assert row_decoder.is_clean(decoder.decode(json.dumps(GOOD | {"source": {"deep": [1]}}).encode()))
    for value in (b"1e999", b'"\xff"', b"NaN", b'"\\ud800"'):
        raw = json.dumps(GOOD | {"source": 0}).encode().replace(b'"source": 0', b'"source": ' + value)
        assert messages(raw)
        with pytest.raises(ValueError):
            decoder.decode(raw)


@ANY_FILE
@given(st.lists(annotation_rows(), min_size=1, max_size=6), st.sampled_from([None, 0, 1, 4]), st.booleans())
def test_an_array_in_any_layout_reads_like_its_lines(
    tmp_path: Path, examples: list[dict[str, Any]], indent: int | None, ascii_only: bool
) -> None:
    as_lines = write(tmp_path, "".join(json.dumps(row) + "\n" for row in examples))
    text = json.dumps(examples, indent=indent, ensure_ascii=ascii_only)
    as_array = write(tmp_path, text, name="a.json")

    def rows_of(path: str) -> list[object]:
        return [json.loads(raw) for _, raw in raw_rows.raw_rows(path)]

    assert rows_of(as_array) == rows_of(as_lines) == examples
    where, lines = 0, []
    for _, raw in raw_rows.raw_rows(as_array):
        where = text.encode().index(raw, where)
        lines.append(text.encode().count(b"\n", 0, where) + 1)
        where += len(raw)
    assert [line for line, _ in raw_rows.raw_rows(as_array)] == lines
    for one, other in zip(read_samples(as_lines), read_samples(as_array), strict=True):
        if isinstance(one, Sample) and isinstance(other, Sample):
            assert (one.spans, one.query, one.metadata) == (other.spans, other.query, other.metadata)
        else:
            assert isinstance(one, Problem) and isinstance(other, Problem)
            assert (one.field, one.message) == (other.field, other.message)


@ANY_FILE
@given(
    st.binary(max_size=200)
    | st.lists(st.sampled_from([b"[", b"]", b"{", b"}", b",", b'"', b"\\", b"1", b"\n", b" ", b'"a":', b"null"])).map(
        b"".join
    )
)
def test_no_content_crashes_the_reader(tmp_path: Path, content: bytes) -> None:
    assert all(isinstance(item, Sample | Problem) for item in read_samples(write(tmp_path, content)))


def test_array_rows_are_found_across_chunks_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = [GOOD | {"note": 'a "quoted" } ] [ { \\', "nested": [{"a": [[]]}, "}"]}, GOOD, 3, "text, ]", [[1], "["]]
    path = write(tmp_path, json.dumps(examples, indent=2))
    for size in (1, 2, 3, 7, 64):
        monkeypatch.setattr(raw_rows, "CHUNK_BYTES", size)
        assert [json.loads(raw) for _, raw in raw_rows.raw_rows(path)] == examples


def test_a_relative_video_is_looked_up_in_the_folder_and_as_it_is_without_doubling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "videos").mkdir(parents=True)
    (tmp_path / "data" / "videos" / "a.mp4").touch()
    (tmp_path / "b.mp4").touch()
    inside = os.path.join("data/videos", "a.mp4")
    assert resolve_video("a.mp4", "data/videos") == inside
    assert resolve_video("videos/a.mp4", "data/videos") == inside
    assert resolve_video("data/videos/a.mp4", "data/videos") == inside
    assert resolve_video("./data/videos/a.mp4", "data/videos") == inside
    assert resolve_video("b.mp4", "data/videos") == "b.mp4"
    assert resolve_video("videos/missing.mp4", "data/videos") == os.path.join("data/videos", "missing.mp4")
    assert resolve_video("missing.mp4", "data/videos") == os.path.join("data/videos", "missing.mp4")
    assert resolve_video("/x/a.mp4", "data/videos") == "/x/a.mp4"
    assert resolve_video("a.mp4", None) == "a.mp4"


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
def test_real_rows_are_read() -> None:
    samples = list(read_samples(SHARED / "real.jsonl"))
    assert len(samples) == 10 and all(isinstance(sample, Sample) for sample in samples)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
def test_time_r1_rows_that_end_after_their_video_are_clipped_or_lost() -> None:
    path = SHARED / "annotations" / "timer1__train_2k5.json"
    given = {line: json.loads(raw) for line, raw in raw_rows.raw_rows(str(path))}
    over = {line for line, row in given.items() if row["timestamp"][1] > row["duration"] + row_checks.EDGE_S}
    found = [problem for line, raw in raw_rows.raw_rows(str(path)) for problem in check_row(raw, path="", line=line)[1]]
    by_kind = {kind: {p.line for p in found if p.kind == kind} for kind in ("timestamp-clipped", "timestamp-over")}
    assert len(given) == 2500 and len(over) == 34  # of 48, 14 by rounding alone
    assert by_kind["timestamp-clipped"] | by_kind["timestamp-over"] == over
    assert {line for line in over if given[line]["timestamp"][1] > given[line]["duration"] + 5} <= by_kind[
        "timestamp-over"
    ]
    assert sum(isinstance(item, Problem) for item in read_samples(path)) == len(by_kind["timestamp-over"])


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
def test_files_in_other_formats_give_problems_and_no_samples() -> None:
    others = [p for p in sorted((SHARED / "annotations").iterdir()) if not p.name.startswith("timer1__")]
    assert others
    for path in others:
        problems = list(read_samples(path))
        assert problems and all(isinstance(problem, Problem) for problem in problems), path
