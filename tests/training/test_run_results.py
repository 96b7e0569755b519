"""What a run shows for itself, from answers that were kept."""

import json

from vtg.evaluation.partial_answers import PartialAnswers
from vtg.training.run_results import Results

ODD = "a\u2028b\u2029c\x85d"


def answer(at: int) -> dict:
    return {
        "qid": f"{ODD} {at}",
        "video": f"{ODD}.mp4",
        "duration": 10.0,
        "sentence": ODD,
        "timestamp": [[1.0, 3.0]],
        "prediction": [[1.0, 2.0 + at]],
        "status": "ok",
        "text": ODD,
    }


def test_a_finished_run_shows_answers_with_other_line_ends_in_their_texts(tmp_path):
    for name in ("base", "tuned", "shuffled"):
        Results(tmp_path).keep(name, [answer(at) for at in range(3)])
    for _ in range(2):  # and again where it is started again
        assert "mIoU" in Results(tmp_path).finish(title=ODD, skipped=0)
    assert json.loads((tmp_path / "metrics.json").read_text())["tuned"]["samples"] == 3


def test_answers_so_far_with_other_line_ends_in_their_texts_are_found_again(tmp_path):
    told = {"rows": ODD}
    first = PartialAnswers(tmp_path / "part", told)
    first.add({0: answer(0), 1: answer(1)}, {})
    again = PartialAnswers(tmp_path / "part", told)
    assert again.rows == {0: answer(0), 1: answer(1)}
