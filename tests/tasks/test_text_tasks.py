import string
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtg.annotations.point import Point
from vtg.annotations.point_targets import Count, Points, Tracks
from vtg.annotations.sample import Problem, Sample, sample_of
from vtg.annotations.subtitles import parse_subtitles, read_subtitles
from vtg.annotations.text_targets import Caption, Question, TimedCaptions
from vtg.config.task_settings import TaskConfig
from vtg.errors import SampleError
from vtg.storage.json_files import json_text, write_jsonl
from vtg.tasks.all_tasks import TASKS, Tasks
from vtg.tasks.answer import Status
from vtg.tasks.span_task import SpanTask
from vtg.tasks.task import Task
from vtg.tasks.text_overlap import rouge_l, token_f1, words_of
from vtg.validate import main as validate

DURATION_S = 30.0
VOCABULARY = ["red", "box", "opens", "the", "man", "a", "door", "slowly"]
WORDS = st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=8).map(" ".join)
SPANS = st.tuples(st.integers(0, 280), st.integers(2, 20)).map(lambda at: (at[0] / 10, (at[0] + at[1]) / 10))
CAPTIONS = st.builds(Caption, WORDS)
EVENTS = st.lists(st.tuples(SPANS, WORDS), min_size=1, max_size=6).map(
    lambda events: TimedCaptions(tuple(sorted((*span, text) for span, text in events)))
)
CHOSEN = st.lists(WORDS, min_size=2, max_size=5, unique_by=lambda text: tuple(words_of(text))).flatmap(
    lambda choices: st.sampled_from(choices).map(lambda answer: Question(answer, tuple(choices)))
)
SAID = st.one_of(
    st.sampled_from([None, "a.srt"]),
    st.lists(st.tuples(SPANS, WORDS), max_size=3).map(lambda said: tuple(sorted((*span, text) for span, text in said))),
)
FREE = st.builds(Question, WORDS, subtitles=SAID)
# As exact as they are written: thousandths of the frame, tenths of a second.
SHARES = st.integers(0, 1000).map(lambda share: share / 1000)
POINTS = st.lists(
    st.builds(Point, SHARES, SHARES, st.integers(0, 300).map(lambda tenths: tenths / 10), st.integers(0, 4)),
    max_size=12,
    unique_by=lambda point: (point.at, point.object_id),
).map(tuple)
LABELS = st.one_of(st.none(), WORDS)
COUNTED = st.builds(Points, POINTS, LABELS).map(
    lambda shown: Count(len({point.object_id for point in shown.points}), shown)
)
MARKED = (st.builds(Points, POINTS, LABELS), st.builds(Tracks, POINTS, LABELS))
TARGETS = st.one_of(CAPTIONS, EVENTS, CHOSEN, FREE, *MARKED, st.builds(Count, st.integers(0, 999_999)), COUNTED)
ANSWERS = st.one_of(st.text(), st.text(string.ascii_uppercase + "(). 0123456789to:\n-seconds", max_size=60))


def sample_with(target: Any, **others: Any) -> Sample:
    return replace(Sample("a.mp4", DURATION_S, target, "What does he do?", "q1"), **others)


def test_these_targets_are_of_every_task_but_spans():
    kinds = (Caption, TimedCaptions, Question, Points, Tracks, Count)
    assert {kind.task for kind in kinds} == TASKS.keys()


def task_of(sample: Sample, **config: Any) -> Task:
    return TASKS[sample.target.task](TaskConfig(**config))


@given(TARGETS)
@settings(max_examples=60)
def test_what_is_written_is_read_again_and_worth_everything(target):
    sample = sample_with(target)
    task = task_of(sample)
    read = task.read(task.write(sample), sample)
    assert read.status in (Status.OK, Status.NONE)
    assert task.reward(read, sample) == pytest.approx(1.0)
    row = {**sample.row(), "prediction": read.value, "text": read.text, "status": str(read.status)}
    metrics = task.metrics([row])
    assert metrics[task.headline] == pytest.approx(100.0) and metrics["parse_failures"] == 0


@given(TARGETS, ANSWERS)
@settings(max_examples=150)
def test_any_text_is_read_and_worth_a_number_from_0_to_1(target, text):
    sample = sample_with(target)
    task = task_of(sample)
    read = task.read(text, sample)
    assert (read.value is None) == (read.status not in (Status.OK, Status.NONE))
    assert 0 <= task.reward(read, sample) <= 1
    metrics = task.metrics([{**sample.row(), "prediction": read.value, "text": text, "status": str(read.status)}])
    assert all(0 <= value <= 100 for value in metrics.values())


@given(TARGETS)
@settings(max_examples=40)
def test_a_row_of_a_target_is_read_as_that_target(target):
    sample = sample_with(target, place="rows.jsonl:3")
    assert sample_of(json_text(sample.row()).encode(), path="rows.jsonl", line=3) == sample


@pytest.mark.parametrize(
    ("text", "value", "status"),
    [
        ("B", "a box", Status.OK),
        ("(B)", "a box", Status.OK),
        ("B.", "a box", Status.OK),
        ("B. a box", "a box", Status.OK),
        ("Box", "a box", Status.OK),
        ("B. a door", None, Status.MALFORMED),
        ("A man opens a box", None, Status.MALFORMED),
        ("The answer is B", None, Status.MALFORMED),
        ("b", None, Status.MALFORMED),
        ("D", None, Status.OUT_OF_RANGE),
        ("", None, Status.MALFORMED),
    ],
)
def test_a_choice_is_read_strictly(text, value, status):
    sample = sample_with(Question("a box", ("a door", "a box", "nothing")))
    read = task_of(sample).read(text, sample)
    assert (read.value, read.status) == (value, status)


def test_of_choices_that_are_letters_the_place_counts():
    sample = sample_with(Question("B", ("B", "A")))
    read = task_of(sample).read(task_of(sample).write(sample), sample)
    assert (read.text, read.value) == ("A", "B")


def test_a_prompt_has_subtitles_question_choices_and_a_request():
    said = ((1.0, 2.5, "open  it"),)
    sample = sample_with(Question("a box", ("a door", "a box"), said))
    assert task_of(sample).prompts(sample)[0] == (
        "Subtitles:\n[1.0 to 2.5 seconds] open it\n\nWhat does he do?\nA. a door\nB. a box\n"
        "Answer with the letter of the right choice."
    )


def test_subtitles_of_a_file_are_those_of_the_clip(tmp_path):
    text = "WEBVTT\n\n00:01.000 --> 00:02.500\n<i>too early</i>\n\n2\n0:00:09,5 --> 00:00:11,000\nopen\nthe box\n"
    (tmp_path / "a.vtt").write_text(text)
    target = Question("a box", subtitles="a.vtt")
    sample = sample_with(target, video_start_s=10.0, video_end_s=40.0, place=f"{tmp_path}/rows.jsonl:1")
    assert "[0.0 to 1.0 seconds] open the box\n" in task_of(sample).prompts(sample)[0]
    assert "too early" not in task_of(sample).prompts(sample)[0]


def test_a_subtitle_file_in_another_encoding_is_told(tmp_path):
    for encoding, place, name in (("cp1252", "byte 35: 0xe9", "WINDOWS-1252"), ("utf-16", "byte 0: 0xff", "UTF-16")):
        path = tmp_path / f"{encoding}.srt"
        path.write_bytes("1\n00:00:01,000 --> 00:00:02,000\ncafé\n".encode(encoding))
        says = rf"srt: is not UTF-8 text \({place}\); convert it, as with iconv -f {name} -t UTF-8 {encoding}\.srt"
        with pytest.raises(SampleError, match=says):
            read_subtitles(str(path))


@given(st.text(), st.text("0123456789:,.-> \n<i>ab", max_size=80))
@settings(max_examples=60)
def test_any_text_of_subtitles_is_read(one, other):
    for start, end, text in parse_subtitles(one + other):
        assert start < end and text.strip()


def test_events_are_matched_one_to_one_and_by_their_words():
    target = TimedCaptions(((0.0, 10.0, "a man sits"), (20.0, 30.0, "a dog runs")))
    sample = sample_with(target)
    read = task_of(sample).read("0 to 10 seconds: a man sits\nand then\n21.0 to 30.0: a cat runs", sample)
    row = {**sample.row(), "prediction": read.value, "text": read.text, "status": "ok"}
    metrics = task_of(sample).metrics([row, {**row, "prediction": None, "status": "malformed"}])
    assert [metrics[f"F1@{t}"] for t in (0.3, 0.9)] == [50.0, 50.0]
    assert metrics["event_score"] == pytest.approx(100 * (1.0 + 0.9 * 0.5) / 2 / 2)
    assert metrics["parse_failures"] == 50.0


def test_thoughts_and_tags_are_taken_off_before_a_task_reads():
    sample = sample_with(Caption("a man sits"))
    tasks = Tasks(SpanTask(TaskConfig(think=True)))
    assert tasks.answer(sample) == "<answer>a man sits</answer>"
    assert tasks.read("<think>hm</think><answer>a man sits</answer>", sample).value == "a man sits"
    (user, answer) = tasks.conversation(sample, answers=True)
    assert user["content"][1]["text"].startswith("What does he do?\nFirst think")
    assert answer["content"][0]["text"] == "<answer>a man sits</answer>"


def test_overlap_of_texts_by_hand():
    assert token_f1("the man sits down", "A man sits") == pytest.approx(0.8)
    assert rouge_l("sits man", "man sits") == 0.5 and token_f1("sits man", "man sits") == 1.0
    assert rouge_l("", "a man") == 0 and rouge_l("the", "a") == 1


@given(WORDS, WORDS)
@settings(max_examples=60)
def test_rouge_l_is_that_of_the_table_of_common_subsequences(one, other):
    a, b = words_of(one), words_of(other)
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a, 1):
        for j, y in enumerate(b, 1):
            table[i][j] = table[i - 1][j - 1] + 1 if x == y else max(table[i - 1][j], table[i][j - 1])
    expected = 2 * table[-1][-1] / (len(a) + len(b)) if a or b else 1.0
    assert rouge_l(one, other) == pytest.approx(expected)


BASE = {"video": "a.mp4", "duration": 30.0}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"caption": " "}, "caption: is empty; fill it in, or drop the row"),
        ({"caption": 3}, "caption: must be a string, not 3; put it in quotes"),
        ({"captions": []}, "captions: is empty; give one event or more, or drop the row"),
        (
            {"captions": [{"timestamp": [5, 40], "caption": "x"}]},
            "captions[0].timestamp: [5, 40] leaves the clip of 0 to 30 s; correct it or duration",
        ),
        (
            {"captions": [{"timestamp": [5, 4], "caption": "x"}]},
            "captions[0].timestamp: [5, 4] must end after it starts",
        ),
        ({"answer": "x"}, "question: is missing; a row with 'answer' needs it"),
        ({"question": "Why?", "answer": "x", "choices": ["x"]}, "choices: must be 2 to 26 texts, not 1"),
        ({"question": "Why?", "answer": "x", "choices": ["x", "x"]}, "choices: holds a text twice"),
        (
            {"question": "Why?", "answer": "C", "choices": ["x", "y"]},
            "answer: must be the text of a choice, its letter A to B or its number 0 to 1, not the string 'C'",
        ),
        ({"question": "Why?", "answer": "x", "subtitles": "a.ass"}, "subtitles: 'a.ass' must be the path of an .srt"),
        ({"task": "qa", "question": "Why?"}, "answer: must be a string, not null"),
        ({"task": "caption", "duration": None, "caption": "x"}, "duration: is missing; a row with 'caption' needs it"),
    ],
)
def test_what_is_wrong_with_a_row_is_named(row, message):
    problem = sample_of(json_text(BASE | row).encode(), path="rows.jsonl", line=1)
    assert isinstance(problem, Problem) and str(problem).startswith(f"rows.jsonl:1: {message}")


def test_the_task_of_a_row_is_told_by_its_task_or_by_its_keys():
    def task(**row: Any) -> str:
        read = sample_of(json_text(BASE | row).encode(), path="rows.jsonl", line=1)
        assert isinstance(read, Sample), read
        return read.target.task

    span = {"timestamp": [1, 2], "sentence": "he sits"}
    assert task(**span, caption="other", task="pick up the cube") == "span"
    assert task(**span, caption="he sits", task="caption") == "caption"
    assert task(caption="he sits") == "caption"
    assert task(query="Why?", answer=1, choices=["x", "y"]) == "qa"
    assert task(captions=[{"timestamp": [1, 2], "caption": "he sits"}]) == "dense_caption"


def test_validate_counts_rows_of_each_task_and_names_what_is_wrong(tmp_path, capsys):
    (tmp_path / "bad.srt").write_bytes("1\n00:00:01,000 --> 00:00:02,000\ncaf\u00e9\n".encode("cp1252"))
    asked = BASE | {"question": "Why?", "answer": "x"}
    rows = [
        BASE | {"timestamp": [1, 2], "sentence": "he sits"},
        BASE | {"caption": "he sits"},
        asked | {"video": None, "video_path": "b.mp4"},
        asked | {"subtitles": "bad.srt"},
        asked | {"subtitles": "gone.vtt"},
        asked | {"choices": ["y", "z"]},
    ]
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, rows)
    assert validate([str(path)]) == 1
    told = capsys.readouterr().out
    assert "6 rows in 1 file: 3 good, 3 errors" in told and "rows of other tasks: caption 1, qa 1" in told
    assert "rows.jsonl:4: subtitles: subtitle file" in told and "is not UTF-8 text (byte 35: 0xe9)" in told
    assert "gone.vtt: cannot be read (No such file or directory); correct the path" in told
    assert "error answer-no-choice: 1" in told and "error subtitles-file: 2" in told
