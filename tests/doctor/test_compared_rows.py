"""What `vtg.validate --compare` and `--html` find between rows: repeats, leaks between files, unusual lengths."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from vtg.doctor.repeats import compare
from vtg.doctor.row_facts import RowFacts
from vtg.validate import main

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ROW = {"video": "a.mp4", "duration": 30.0, "timestamp": [2.0, 5.5], "sentence": "a man in a red coat sits down slowly"}
OTHER = ROW | {"video": "b.mp4", "sentence": "a dog"}


def write(folder: Path, name: str, *rows: dict) -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def found(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    main([*words, "--json"])
    return json.loads(capsys.readouterr().out)


def told(document: dict) -> list[tuple[str, int]]:
    return [(problem["kind"], problem["line"]) for problem in document["problems"]]


def test_repeated_rows_of_a_file_are_told_apart(tmp_path, capsys):
    rows = [
        *(ROW, OTHER),
        ROW | {"sentence": "A man in the red coat sits down, slowly."},  # the same but for case, articles, points
        ROW | {"timestamp": [20, 25]},
        ROW | {"sentence": "a young man in a red coat sits down slowly", "timestamp": [2.1, 5.5]},
        ROW | {"sentence": "a young man in a red coat sits down slowly", "timestamp": [12, 25], "video": "b.mp4"},
    ]
    path = write(tmp_path, "a.jsonl", *rows)
    document = found(capsys, path, "--compare")
    assert told(document) == [("row-repeated", 3), ("query-two-answers", 4), ("row-near-repeated", 5)]
    messages = [problem["message"] for problem in document["problems"]]
    assert messages[0] == f"{path}:1 is the same row: video, query and moments; drop one"
    assert messages[1].startswith(f"{path}:1 asks the same about the same video, with another moment; make one row")
    assert messages[2].startswith(f"{path}:1 asks nearly the same ('a man in a red coat sits down slowly')")
    assert document["good"] == 6 and main([path, "--compare"]) == 0 and main([path, "--compare", "--strict"]) == 1
    capsys.readouterr()
    assert told(found(capsys, path)) == []


def test_what_a_test_set_shares_with_training_is_told_by_video_query_and_word(tmp_path, capsys):
    train = write(tmp_path, "train.jsonl", ROW, OTHER, OTHER | {"video": "c.mp4"})
    near = "a man in a red coat sits down very slowly"
    rows = [ROW | {"timestamp": [7, 9]}, ROW | {"sentence": near}, OTHER | {"video": "new.mp4"}, OTHER]
    test = write(tmp_path, "test.jsonl", *rows)
    document = found(capsys, train, test, "--compare")
    assert told(document) == [
        *[("leak-row", 1), ("leak-video", 1), ("leak-near-row", 2)],
        *[("leak-row", 4), ("leak-video", 4)],
    ]
    shared = {"videos": 2, "rows": 2, "near_rows": 1, "queries": 3}
    assert document["comparison"]["shared"] == [{"file": test, "earlier_file": train, **shared}]
    video = next(problem for problem in document["problems"] if problem["kind"] == "leak-video")
    assert video["message"].startswith(f"{train}:1 names the same video 'a.mp4': split by video")
    assert told(found(capsys, train, test, "--compare", "--one-split")) == []


def test_opposite_queries_and_other_scripts_are_not_near(tmp_path, capsys):
    pairs = [("a man opens the red door", "a man closes the red door"), ("男は赤い扉を開ける", "女が青い窓を見ている")]
    rows = [ROW | {"video": f"{at}.mp4", "sentence": one} for at, pair in enumerate(pairs) for one in pair]
    near = ("男は赤い扉をゆっくり開ける", "男は赤い扉をゆっくりと開ける")
    rows += [ROW | {"video": "2.mp4", "sentence": text} for text in near]
    document = found(capsys, write(tmp_path, "a.jsonl", *rows), "--compare")
    assert told(document) == [("row-near-repeated", 6)]


def test_near_queries_of_one_video_are_found_among_thousands_in_time_that_grows_with_the_rows():
    facts = RowFacts()
    facts.files += ["train", "test"]
    for at in range(4000):
        query = " ".join(f"word{(at * step) % 4001}" for step in range(1, 10))
        facts.add(at + 1, video="one.mp4", query=query, duration_s=30.0, times=[1.0, 2.0])
        facts.file[-1] = 0
    for at in range(0, 4000, 40):
        words = [f"word{(at * step) % 4001}" for step in range(1, 10)]
        facts.add(at + 1, video="one.mp4", query=" ".join([*words[:8], "new"]), duration_s=30.0, times=[9.0, 12.0])
    comparison = compare(facts)
    assert comparison.shared[0, 1].near_rows >= 98  # of 100; `NEAR` and `BANDS` say how many bands miss
    assert comparison.shared[0, 1].videos == 1


def test_rows_past_the_limit_are_left_out_and_it_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(RowFacts, "MAX_ROWS", 2)
    document = found(capsys, write(tmp_path, "a.jsonl", ROW, OTHER, ROW), "--compare")
    assert told(document) == [] and document["comparison"]["rows_left_out"] is True


def test_unusual_lengths_are_notes_that_fail_nothing(tmp_path, capsys):
    rows = [
        {"video": f"{at}.mp4", "duration": 25 + at % 10, "timestamp": [2, 6 + at % 5], "sentence": f"a cat number {at}"}
        for at in range(60)
    ]
    odd = rows[0] | {"video": "film.mp4", "duration": 7000, "timestamp": [5, 6000], "sentence": "very " * 80}
    path = write(tmp_path, "a.jsonl", *rows, odd)
    document = found(capsys, path, "--compare")
    assert told(document) == [("clip-unusual", 61), ("moment-unusual", 61), ("query-unusual", 61)]
    assert {problem["severity"] for problem in document["problems"]} == {"note"}
    assert "the clip is 7000 s long, half of this file's are 27 to 32 s" in document["problems"][0]["message"]
    assert main([path, "--compare", "--strict"]) == 0
    assert "3 notes:" in capsys.readouterr().out
    assert told(found(capsys, write(tmp_path, "few.jsonl", *rows[:20], odd), "--compare")) == []


def test_two_durations_of_a_video_lose_the_later_row_and_name_the_first(tmp_path, capsys):
    trimmed = ROW | {"duration": 10.0, "video_start": 5.0, "video_end": 15.0}
    one = write(tmp_path, "one.jsonl", ROW, trimmed, ROW | {"duration": 31.0})
    other = write(tmp_path, "other.jsonl", OTHER, ROW | {"duration": 45.0, "qid": "q"})
    out = tmp_path / "good.jsonl"
    assert main([one, other, "--fix", str(out)]) == 1
    printed = capsys.readouterr().out
    assert f"{other}:2: duration: is 45 s, but 30 s in {one}:1 for the same video; correct one of them" in printed
    assert "5 rows in 2 files: 4 good, 1 error" in printed
    assert len(out.read_text().splitlines()) == 4
    assert json.loads((tmp_path / "good.rejects.jsonl").read_text())["place"] == f"{other}:2"


def test_a_moment_after_the_end_of_its_file_is_an_error(tmp_path, capsys, write_mp4):
    video = Path(write_mp4([200 * frame for frame in range(48)]))  # 9.6 s
    row = {"video": video.name, "duration": 10.4, "sentence": "a dog"}
    spans = ([1, 3], [10, 10.3], [[1, 2], [9.8, 10]])
    path = write(tmp_path, "a.jsonl", *(row | {"timestamp": span} for span in spans))
    document = found(capsys, path, "--probe", "--video-dir", str(video.parent))
    assert [one for one in told(document) if one[0] == "timestamp-after-video"] == [
        ("timestamp-after-video", 2),
        ("timestamp-after-video", 3),
    ]
    message = document["problems"][-1]["message"]
    assert message.startswith("[9.8, 10] begins after the end of the file, which lasts 9.6 s")
    assert document["good"] == 1


HOSTILE = """'"></title></script><img src=x onerror="document.title='taken'">"""


def test_the_page_holds_problems_tables_and_plots_and_no_text_of_a_row_runs(tmp_path, capsys):
    rows = [ROW | {"video": HOSTILE, "sentence": f"{HOSTILE} {at}", "timestamp": [at, at + 2]} for at in range(20)]
    train, test = write(tmp_path, "train.jsonl", *rows), write(tmp_path, "test.jsonl", rows[3], "no row")  # type: ignore
    page = tmp_path / "page.html"
    assert main([train, test, "--html", str(page)]) == 1
    assert f"wrote {page}" in capsys.readouterr().out
    text = page.read_text()
    assert "<img" not in text and "http" not in text.replace("http://www.w3.org", "")
    for part in ("warning leak-row: 1", "error row-not-object: 1", "Between files", "moment (share of its clip)"):
        assert part in text
    assert text.count("<svg") == 6 and main([train, "--html", str(page)]) == 0  # a page is written again
    if CHROMIUM:
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--dump-dom",
        ]
        done = subprocess.run(
            [CHROMIUM, *options, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
        )
        assert "<title>Annotations checked · vtg</title>" in done.stdout and 'data-tip="clip (s)' in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--one-split"], "--one-split says how files are compared: give --compare or --html too"),
        (["--html", "nowhere/page.html"], "--html nowhere/page.html cannot be written; name a file in a folder"),
        (["--html", "{rows}"], "is a file that is no page; name another, so that it is not overwritten"),
    ],
)
def test_wrong_usage_of_comparing_is_one_line(tmp_path, capsys, words, message):
    path = write(tmp_path, "a.jsonl", ROW)
    with pytest.raises(SystemExit) as ended:
        main([path, *(word.format(rows=path) for word in words)])
    assert ended.value.code == 2 and message in capsys.readouterr().err
