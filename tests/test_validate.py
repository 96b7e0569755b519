"""The command `python -m vtg.validate`: what it prints, writes and returns."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vtg.doctor.audit import Report, audit_file
from vtg.doctor.first_seen import FirstSeen
from vtg.validate import main

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
GOOD = {"video": "a.mp4", "duration": 30.0, "timestamp": [2.0, 5.5], "sentence": "a man sits down"}
REVERSED = GOOD | {"timestamp": [5, 2]}
OVER = GOOD | {"timestamp": [2, 30.5], "big": 10**30}
NEEDS_SHARED = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")


def write(folder: Path, *given: dict[str, Any] | str, name: str = "a.jsonl") -> str:
    path = folder / name
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in given), encoding="utf-8"
    )
    return str(path)


def encode(path: Path, *, seconds: int) -> None:
    """A tiny real mp4 of that duration, 5 frames a second."""
    av, np = pytest.importorskip("av"), pytest.importorskip("numpy")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for index in range(5 * seconds):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), index, dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vtg.validate", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, **options)


def test_a_good_file_gets_a_summary_and_exit_code_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, GOOD, GOOD | {"video": "b.mp4", "duration": 12.5})
    assert main([path]) == 0
    assert capsys.readouterr().out == (
        "2 rows in 1 file: 2 good, 0 errors, 0 warnings\n2 videos; durations 12.5 to 30 s\n"
    )


def test_errors_and_warnings_are_told_apart_with_places_counts_and_remedies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, GOOD | {"qid": 1}, REVERSED, OVER, "[1]", GOOD | {"qid": "1"}, REVERSED)
    assert main([path, "--max-problems", "1"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "3 errors:",
        f"  {path}:2: timestamp: [5, 2] is reversed: its end comes before its start; swap them, or drop the row",
        "  … and 1 more of this kind; --all shows every one",
        f"  {path}:4: row: must be a JSON object with the keys video, duration, timestamp, sentence, not a list of 1; "
        "README.md, 'Your own data', shows a row",
        "",
        "2 warnings:",
        f"  {path}:3: timestamp: ends at 30.5 s, 0.5 s after the clip's end at 30 s; it is read as 30 s: "
        "write that (--fix does)",
        f"  {path}:5: qid: '1' is also on line 1; give every row its own, or scores will mix them up",
        "",
        "6 rows in 1 file: 3 good, 3 errors, 2 warnings",
        "1 video; durations 30 to 30 s",
        "  error timestamp-reversed: 2",
        "  error row-not-object: 1",
        "  warning timestamp-clipped: 1",
        "  warning qid-repeated: 1",
    ]


def test_twenty_of_a_kind_are_shown_and_all_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, *[REVERSED, "[1]"] * 25)
    assert main([path]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "50 errors:"
    assert [line.partition(": ")[0] for line in lines[1:21]] == [f"  {path}:{number}" for number in range(1, 41, 2)]
    assert lines[21] == lines[42] == "  … and 5 more of this kind; --all shows every one"
    assert main([path, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (len(document["problems"]), document["errors"], document["problems_of_each_kind"]) == (40, 50, 20)
    assert main([path, "--all"]) == 1
    assert "more of this kind" not in (out := capsys.readouterr().out) and len(out.splitlines()) == 55
    assert main([path, "--json", "--all"]) == 1
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 50


def test_rows_are_counted_by_their_moments_and_none_is_no_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [GOOD | {"timestamp": times} for times in ([], [[1, 2], [3, 4]], [[1, 2]], [1, 2], [])]
    # A warning sends its row through the slow path.
    path = write(tmp_path, *rows, GOOD | {"timestamp": [], "difficulty": 101})
    assert main([path]) == 0
    out = capsys.readouterr().out
    assert "moments of a row: none 3, one 2, several 1 (rows with none need task.moments=set)" in out
    assert main([path, "--fix", str(tmp_path / "out.jsonl")]) == 0
    assert [json.loads(line)["timestamp"] for line in (tmp_path / "out.jsonl").open()].count([]) == 3
    assert main([write(tmp_path, GOOD, name="one.jsonl")]) == 0
    assert "moments" not in capsys.readouterr().out.splitlines()[-1]


def test_warnings_fail_only_when_strict(tmp_path: Path) -> None:
    path = write(tmp_path, OVER)
    assert main([path]) == 0
    assert main([path, "--strict"]) == 1


def test_an_empty_file_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path)
    assert main([path]) == 1
    assert f"{path}:1: file: holds no rows; check the path" in capsys.readouterr().out


def test_qids_may_repeat_across_files(tmp_path: Path) -> None:
    row = GOOD | {"qid": "x"}
    assert main([write(tmp_path, row), write(tmp_path, row, name="b.jsonl"), "--strict"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.jsonl"], "nowhere.jsonl does not exist; name an annotation file"),
        (["tests"], "tests cannot be read as a file; name an annotation file"),
        (["README.md", "--video-dir", "nowhere"], "--video-dir nowhere is not a folder; name the folder of the videos"),
        ([], "FILE is missing: name at least one annotation file"),
        (["pyproject.toml", "--max-problems", "-1"], "--max-problems -1: must be 0 or more"),
        (
            ["pyproject.toml", "--fix", "tests/../pyproject.toml"],
            "would overwrite tests/../pyproject.toml, which is to be checked",
        ),
        (
            ["pyproject.toml", "--fix", "nowhere/x.jsonl"],
            "--fix nowhere/x.jsonl cannot be written; name a file in a folder",
        ),
        (
            ["pyproject.toml", "--json", "nowhere/x.json"],
            "--json nowhere/x.json cannot be written; name a file in a folder",
        ),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_says_what_to_do(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err


def test_json_is_one_document_alone_on_stdout(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, REVERSED)
    result = run(path, "--json")
    document = json.loads(result.stdout)
    assert result.returncode == 1 and result.stderr == ""
    assert document | {"problems": None} == {
        "report": "vtg.validate",
        "ok": False,
        "strict": False,
        "files": [path],
        "rows": 2,
        "good": 1,
        "errors": 1,
        "warnings": 0,
        "videos": 1,
        "tables_full": False,
        "moments": {"none": 0, "one": 1, "several": 0},
        "tasks": {},
        "duration_s": {"min": 30.0, "max": 30.0},
        "notes": 0,
        "kinds": {"error": {"timestamp-reversed": 1}, "warning": {}, "note": {}},
        "problems_of_each_kind": 20,
        "problems": None,
    }
    (problem,) = document["problems"]
    assert (problem["path"], problem["line"], problem["field"]) == (path, 2, "timestamp")
    assert (problem["severity"], problem["kind"]) == ("error", "timestamp-reversed")


def test_rows_of_one_line_are_told_apart_in_all_that_is_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "compact.json", tmp_path / "good.jsonl"
    rows = [GOOD, GOOD | {"timestamp": [7, 3]}, GOOD | {"duration": 60.0, "sentence": "b"}, GOOD]
    path.write_text(json.dumps(rows))
    assert main([str(path), "--compare", "--fix", str(out)]) == 1
    printed = capsys.readouterr().out
    assert f"{path}:1[2]: timestamp: [7, 3] is reversed" in printed
    assert f"{path}:1[3]: duration: is 60 s, but 30 s in {path}:1 for the same video" in printed
    assert f"{path}:1[4]: sentence: {path}:1 is the same row" in printed
    rejected = [json.loads(line)["place"] for line in (tmp_path / "good.rejects.jsonl").read_text().splitlines()]
    assert rejected == [f"{path}:1[2]", f"{path}:1[3]"]
    main([str(path), "--json"])
    first, *_ = json.loads(capsys.readouterr().out)["problems"]
    assert (first["path"], first["line"], first["nth"]) == (str(path), 1, 2)


def test_json_to_a_file_leaves_the_text_on_stdout_and_may_be_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, report = write(tmp_path, GOOD), tmp_path / "report.json"
    for _ in range(2):
        assert main([path, "--json", str(report)]) == 0
        assert capsys.readouterr().out.startswith("1 row in 1 file")
        assert json.loads(report.read_text())["good"] == 1


def test_a_file_after_json_that_is_no_report_is_checked_and_never_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, GOOD)
    assert main(["--json", path]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == [path]
    assert json.loads(Path(path).read_text()) == GOOD


def test_fix_writes_good_rows_as_given_with_ends_clipped_and_the_rest_as_rejects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = '{"duration": 30.00, "video":"ä.mp4", "timestamp":[[1,2],[3,4]], "sentence":"x"}'
    path = write(tmp_path, odd, REVERSED, OVER, "{broken")
    out, rejects = tmp_path / "good.jsonl", tmp_path / "good.rejects.jsonl"
    assert main([path, "--fix", str(out)]) == 1
    assert f"wrote {out} and {rejects}" in capsys.readouterr().out
    kept = out.read_text(encoding="utf-8").splitlines()
    assert kept[0] == odd
    assert json.loads(kept[1]) == OVER | {"timestamp": [2.0, 30.0]} and len(kept) == 2
    first, second = map(json.loads, rejects.read_text().splitlines())
    assert first["place"] == f"{path}:2" and json.loads(first["row"]) == REVERSED
    assert first["problems"][0].startswith("timestamp: [5, 2] is reversed")
    assert second["place"] == f"{path}:4" and second["row"] == "{broken"
    assert main([str(out), "--strict"]) == 0
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.jsonl", "good.jsonl", "good.rejects.jsonl"]


def test_fix_follows_a_link_and_takes_no_pipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, link, target, pipe = write(tmp_path, GOOD, REVERSED), tmp_path / "l", tmp_path / "t", tmp_path / "p.jsonl"
    link.symlink_to(target)
    assert main([path, "--fix", str(link)]) == 1
    assert link.is_symlink() and json.loads(target.read_text()) == GOOD
    os.mkfifo(pipe)
    with pytest.raises(SystemExit) as exit_info:
        main([path, "--fix", str(pipe)])
    assert exit_info.value.code == 2 and pipe.is_fifo() and not (tmp_path / "p.rejects.jsonl").exists()
    assert f"--fix {pipe}: {pipe} is a device or a pipe, not a file; name a file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--fix s.jsonl --json s.jsonl", "--json s.jsonl would overwrite what --fix writes; name another file"),
        ("--fix s.jsonl --html ./s.jsonl", "--html ./s.jsonl would overwrite what --fix writes"),
        ("--fix s.jsonl --json s.rejects.jsonl", "--json s.rejects.jsonl would overwrite what --fix writes"),
        ("--json page.html --html page.html", "--html page.html would overwrite what --json writes"),
    ],
)
def test_two_outputs_of_one_name_are_refused(
    words: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, GOOD)
    with pytest.raises(SystemExit) as exit_info:
        main([path, *words.split()])
    assert exit_info.value.code == 2 and message in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["a.jsonl"]


def test_a_report_that_cannot_be_written_is_wrong_usage_and_no_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Root may write to /proc by its rights, and cannot.
    with pytest.raises(SystemExit) if os.geteuid() else nullcontext():
        assert main([write(tmp_path, GOOD), "--json", "/proc/x.json"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("vtg.validate: error: ") and "/proc/" in err and err.count("\n") == 1


@pytest.mark.usefixtures("bound_by_rights")
def test_a_file_that_may_not_be_looked_for_is_not_said_to_be_absent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shut = tmp_path / "shut"
    shut.mkdir(mode=0)
    with pytest.raises(SystemExit) as exit_info:
        main([str(shut / "rows.jsonl")])
    assert exit_info.value.code == 2
    assert f"{shut}/rows.jsonl cannot be read (Permission denied); check the perm" in capsys.readouterr().err


def test_a_strict_fix_keeps_only_rows_without_warnings(tmp_path: Path) -> None:
    path = write(tmp_path, OVER, GOOD | {"difficulty": 120}, GOOD)
    out = tmp_path / "good.jsonl"
    assert main([path, "--fix", str(out), "--strict"]) == 1
    assert len(out.read_text().splitlines()) == 2
    assert main([str(out), "--strict"]) == 0


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from(
            [GOOD, REVERSED, OVER, GOOD | {"duration": True}, GOOD | {"timestamp": [[1, 2], [4, 31]]}, 3, []]
        ),
        min_size=1,
    ),
    st.sampled_from([None, 2]),
)
def test_a_fixed_file_validates_and_with_its_rejects_holds_every_row(
    tmp_path: Path, rows: list[Any], indent: int | None
) -> None:
    path, out = tmp_path / "a.json", tmp_path / "good.jsonl"
    path.write_text(json.dumps(rows, indent=indent))
    main([str(path), "--fix", str(out)])
    kept, rejected = (file.read_text().splitlines() for file in (out, tmp_path / "good.rejects.jsonl"))
    assert len(kept) + len(rejected) == len(rows)
    report = Report()
    audit_file(str(out), report)
    assert not report.warnings and (report.ok if kept else report.errors == {"empty": 1})


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_no_content_crashes_the_command(tmp_path: Path, content: bytes) -> None:
    path, out = tmp_path / "a.jsonl", tmp_path / "out.jsonl"
    path.write_bytes(content)
    assert main([str(path), "--json", "--fix", str(out)]) in (0, 1)


def test_missing_videos_are_errors_of_each_row_that_names_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.mp4").touch()
    path = write(tmp_path, GOOD, GOOD | {"video": "b.mp4"}, GOOD | {"video": "b.mp4"})
    assert main([path, "--video-dir", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    missing = tmp_path / "b.mp4"
    assert f"{path}:3: video: there is no file {missing}; check --video-dir, or fetch it" in out
    assert "error video-missing: 2" in out and "1 good" in out


def test_probe_holds_every_video_against_its_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encode(tmp_path / "ten.mp4", seconds=10)
    (tmp_path / "bad.mp4").write_text("<html>404</html>")
    ten = {"video": "ten.mp4", "duration": 10.0, "timestamp": [1, 4], "sentence": "x"}
    given = [
        ten,
        ten | {"duration": 4.5, "video_start": 5.0, "video_end": 9.5},
        ten | {"video_start": 20.0, "video_end": 30.0},
        ten | {"duration": 25.0, "video_start": 20.0, "video_end": 45.0},
        ten | {"duration": 8.0},
        ten | {"duration": 9.4},
        ten | {"video": "bad.mp4"},
    ]
    path = write(tmp_path, *given)
    assert main([path, "--probe", "--video-dir", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    found = {line.strip() for line in captured.out.splitlines() if line.startswith("  /")}
    for expected in (
        f"{path}:3: video_start: the file lasts 10 s, as long as the clip: it is read as already cut; "
        "remove video_start and video_end",
        f"{path}:4: video_end: the file lasts 10 s: it neither reaches video_end (45 s) nor is a clip of 25 s; "
        "correct the times, or fetch the right file",
        f"{path}:5: duration: the file lasts 10 s, not 8 s; fetch the right file, or give video_start and video_end "
        "if the clip is a part of it",
        f"{path}:6: duration: the file lasts 10 s, not 9.4 s; it is near enough to be read: correct it",
    ):
        assert expected in found
    assert any(line.startswith(f"{path}:7: video: {tmp_path / 'bad.mp4'} cannot be read (") for line in found)
    assert len(found) == 5
    assert (
        "2 videos" in captured.err and "\r" not in captured.err
    )  # each file is opened once, on a bar that leaves stdout alone


def test_a_missing_duration_is_filled_in_from_the_file_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encode(tmp_path / "ten.mp4", seconds=10)
    row = {"video": "ten.mp4", "timestamp": [1, 4], "sentence": "x"}
    given = [row, row | {"duration": None, "timestamp": [1, 10.5]}, row | {"timestamp": [11, 12]}]
    given += [row | {"video_start": 2.0, "video_end": 8.0}, row | {"video": "no.mp4"}, row | {"duration": 10.0}]
    path, out = write(tmp_path, *given), tmp_path / "good.jsonl"
    words = [path, "--probe", "--video-dir", str(tmp_path)]
    assert main(words) == 1
    printed = capsys.readouterr().out
    assert f"{path}:1: duration: is missing; the file lasts 10 s: --fix OUT writes that" in printed
    assert "error duration-missing: 5" in printed and "1 good" in printed
    assert main([*words, "--fix", str(out)]) == 1
    printed = capsys.readouterr().out
    assert f"{path}:1: duration: was missing; filled in: the file lasts 10 s" in printed
    assert f"{path}:4: duration: was missing; filled in: video_start to video_end is 6 s" in printed
    assert f"{path}:3: timestamp: starts at 11 s, but the clip lasts 10 s" in printed
    assert f"{path}:5: video: there is no file {tmp_path / 'no.mp4'}" in printed
    kept = [json.loads(line) for line in out.read_text().splitlines()]
    assert kept == [
        row | {"duration": 10.0},
        row | {"duration": 10.0, "timestamp": [1.0, 10.0]},
        given[3] | {"duration": 6.0},
        given[5],
    ]
    assert main([str(out), "--probe", "--strict", "--video-dir", str(tmp_path)]) == 0


@NEEDS_SHARED
def test_real_rows_and_their_videos_are_good() -> None:
    assert main([str(SHARED / "real.jsonl"), "--probe", "--video-dir", str(SHARED / "videos"), "--strict"]) == 0


@NEEDS_SHARED
def test_time_r1_rows_past_their_video_are_all_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(SHARED / "annotations" / "timer1__train_2k5.json"), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    kinds = document["kinds"]
    assert document["rows"] == 2500
    assert kinds["error"]["timestamp-over"] + kinds["warning"]["timestamp-clipped"] == 34  # and 14 by rounding alone
    assert kinds["error"]["timestamp-over"] >= 11


@NEEDS_SHARED
def test_no_file_in_another_format_passes() -> None:
    for path in sorted((SHARED / "annotations").iterdir()):
        assert main([str(path), "--json"]) == 1, path


def test_equal_strings_are_found_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FirstSeen, "SLOTS", 16)
    monkeypatch.setattr(FirstSeen, "LIMIT", 8)
    seen = FirstSeen()
    assert [seen.line_of(str(index), index + 1) for index in range(20)] == [0] * 20
    assert [seen.line_of(str(index), 99) for index in range(20)] == [*range(1, 9), *[0] * 12]
    assert seen.count == 8


def test_validation_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from vtg.validate import main; main([sys.argv[1]]);"
        "print(sorted({'torch', 'transformers', 'numpy', 'hydra', 'av'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, write(tmp_path, GOOD)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_help_is_exit_code_0() -> None:
    result = run("--help")
    assert result.returncode == 0 and "--video-dir" in result.stdout


def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    path = write(tmp_path, *[REVERSED] * 3000)
    command = f"{sys.executable} -m vtg.validate {path} --max-problems 3000 | head -1"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.stdout == "3000 errors:\n" and result.stderr == ""


def test_paths_that_cannot_be_shown_do_not_stop_the_report(tmp_path: Path) -> None:
    path = write(tmp_path, REVERSED, name="ä.jsonl")
    result = run(path, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert result.returncode == 1 and "\\xe4.jsonl:1: timestamp:" in result.stdout


def test_rows_of_other_tasks_are_checked_counted_and_looked_up_by_their_own_keys(tmp_path, write_mp4, capsys):
    shutil.copy(write_mp4(range(0, 9000, 500)), tmp_path / "a.mp4")
    rows = [
        {"video": "a.mp4", "duration": 9.0, "caption": "a man sits down"},
        {"video_path": "a.mp4", "caption": "he stands up"},
        {"video": "b.mp4", "duration": 9.0, "question": "What does he do?", "answer": "sits"},
        {"video": "a.mp4", "duration": 9.0, "question": "What does he do?", "choices": ["sits", "runs"], "answer": "C"},
    ]
    path, out = tmp_path / "rows.jsonl", tmp_path / "good.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert main([str(path), "--video-dir", str(tmp_path), "--probe", "--fix", str(out)]) == 1
    printed = capsys.readouterr().out
    assert f"{path}:2: duration: was missing; filled in: the file lasts " in printed
    assert f"{path}:3: video: " in printed and f"{path}:4: answer: must be the text of a choice" in printed
    assert "rows of other tasks: caption 2" in printed and "moments of a row" not in printed
    first, second = (json.loads(line) for line in out.read_text().splitlines())
    assert first["duration"] == 9.0 and second["duration"] > 8
