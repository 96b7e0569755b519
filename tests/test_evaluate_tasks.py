import json
from functools import partial

import pytest
from commands import called, write

from vtg.evaluate import main

run = partial(called, main)


def row(video, qid, **target):
    return {"video": video, "duration": 10.0, "sentence": "How many?", "qid": qid, **target}


def count(video, qid, true, predicted, status="ok"):
    return row(video, qid, count=true, task="count", prediction=predicted, status=status)


COUNTS = [count("a.mp4", "a", 2, 2), count("a.mp4", "b", 3, 3), count("b.mp4", "c", 1, 5), count("b.mp4", "d", 1, 2)]


def test_answers_of_another_task_are_scored_by_it_with_intervals_by_video(tmp_path, capsys):
    path = write(tmp_path / "p.jsonl", [*COUNTS, count("b.mp4", "e", 4, None, "malformed")])
    code, out, err = run(capsys, path)
    assert (code, err) == (0, "")
    lines = {words[1]: words for line in out.splitlines() if (words := line.split())}
    assert lines["metric"] == ["task", "metric", "score", "95%", "by", "video", "samples"]
    # Of two videos one is right and the other is not: whole videos are drawn, so the mean goes from 0 to 100.
    assert lines["accuracy"] == ["count", "accuracy", "40.00", "0.00", "-", "100.00", "5"]
    assert lines["within_1"][2] == "60.00" and lines["parse_failures"][2] == "20.00"
    _, out, _ = run(capsys, path, "--json")
    document = json.loads(out)
    assert document["report"] == "vtg.evaluate" and document["score"] == 40.0
    assert document["tasks"]["count"]["samples"] == document["samples"] == 5
    assert document["intervals"]["count"]["accuracy"] == [0.0, 100.0]


def test_answers_about_one_video_have_no_interval(tmp_path, capsys):
    path = write(tmp_path / "p.jsonl", COUNTS[:2])
    _, out, _ = run(capsys, path, "--compare", path)
    assert ["count", "accuracy", "100.00", "-", "2"] in [line.split() for line in out.splitlines()]
    assert out.splitlines()[-1].endswith("accuracy +0.00, no interval by video")
    _, out, _ = run(capsys, path, "--json")
    assert json.loads(out)["intervals"] == {"count": {}}


def test_a_file_of_several_tasks_is_scored_task_by_task(tmp_path, capsys):
    span = {"video": "c.mp4", "duration": 10.0, "timestamp": [0.0, 5.0], "sentence": "a man sits", "qid": "s"}
    asked = {"question": "What colour?", "answer": "red", "task": "qa"}
    rows = [*COUNTS[:2], span | {"prediction": [[0.0, 5.0]], "status": "ok"}, row("c.mp4", "q", **asked, text="Red.")]
    code, out, _ = run(capsys, write(tmp_path / "p.jsonl", rows), "--json")
    document = json.loads(out)
    assert code == 0 and sorted(document["tasks"]) == ["count", "qa", "span"]
    assert document["tasks"]["span"]["mIoU"] == document["tasks"]["qa"]["exact_match"] == document["score"] == 100.0
    _, out, _ = run(capsys, write(tmp_path / "p.jsonl", rows))
    assert out.splitlines()[-1] == "score, the mean over tasks: 100.00"


def test_annotations_say_the_task_and_the_truth_and_a_sample_nobody_predicted_scores_0(tmp_path, capsys):
    truth = write(tmp_path / "gt.jsonl", [row("a.mp4", qid, count=2) for qid in ("a", "b")])
    path = write(tmp_path / "p.jsonl", [{"qid": "a", "text": "There are 2."}])
    code, out, err = run(capsys, path, "--annotations", truth, "--json")
    assert code == 0 and "1 samples have no prediction and score 0: b" in err
    assert json.loads(out)["tasks"]["count"]["accuracy"] == 50.0
    assert json.loads(out)["tasks"]["count"]["parse_failures"] == 0.0


def test_a_second_run_is_compared_question_by_question(tmp_path, capsys):
    first = write(tmp_path / "first.jsonl", [count(f"{at}.mp4", str(at), 1, 3) for at in range(20)])
    better = [count(f"{at}.mp4", str(at), 1, 1 if at % 4 else 3) for at in range(20)]
    code, out, _ = run(capsys, first, "--compare", write(tmp_path / "second.jsonl", better))
    assert code == 0
    assert "count: second run less the first, 20 questions of both: accuracy +75.00, 95 % by video +55.00" in out
    other = write(tmp_path / "other.jsonl", [count("z.mp4", "z", 1, 1)])
    code, _, err = run(capsys, first, "--compare", other)
    assert code == 1 and "the two files share no question" in err


WRONG = {
    "count": (row("a.mp4", "a", count=2), "two", "prediction: is 'two'; it must be a whole number, or null"),
    "caption": (row("a.mp4", "a", caption="A man."), 3, "prediction: is '3'; it must be a text, or null"),
    "points": (row("a.mp4", "a", points=[]), [{"x": 2, "y": 0, "timestamp": 1}], "prediction[0].x"),
    "dense_caption": (
        row("a.mp4", "a", captions=[{"timestamp": [0, 1], "caption": "A man."}]),
        [[0, 1]],
        "prediction: is '[[0, 1]]'; it must be [[start, end, text], ...], or null",
    ),
}


@pytest.mark.parametrize("task", WRONG)
def test_a_prediction_that_is_none_of_its_task_is_named(tmp_path, capsys, task):
    annotation, prediction, told = WRONG[task]
    path = write(tmp_path / "p.jsonl", [annotation | {"task": task, "prediction": prediction}])
    code, _, err = run(capsys, path)
    assert code == 1 and f"{path}:1: {told}" in err


def test_options_of_spans_are_refused_for_other_tasks(tmp_path, capsys):
    path = write(tmp_path / "p.jsonl", COUNTS)
    for words, told in (
        (("--preset", "moment_detr"), "--preset moment_detr: is of spans"),
        (("--preset", "timer1"), "--preset timer1: is of spans"),
        (("--statistics",), "--statistics: is about spans"),
        (("--fps", "2"), "--fps: is about spans"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main([str(path), *words])
        assert stopped.value.code == 2 and told in capsys.readouterr().err
