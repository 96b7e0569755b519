"""Answers that were given before a stop are kept, and not asked for again."""

import json

import pytest

from vtg.data.skip_report import Skipped
from vtg.evaluation.partial_answers import PartialAnswers, stamps

TOLD = {"batch_size": 2, "weights": [["a.safetensors", 10, 5]]}


def row(number: int) -> dict:
    return {"qid": f"q{number}", "prediction": [[0.1 * number, 1 / 3]], "sentence": "ein Käfer"}


@pytest.fixture
def path(tmp_path):
    """Of a file with two batches: three answers, one sample that could not be read."""
    kept = PartialAnswers(tmp_path / "predictions.jsonl.part", TOLD)
    assert (kept.rows, kept.skipped, kept.count) == ({}, {}, 0)
    kept.add({0: row(0), 2: row(2)}, {})
    kept.add({6: row(6)}, {4: Skipped("rows.jsonl:5", "broken", "q4", "b.mp4")})
    return kept.path


def test_they_come_back_as_they_were(path):
    again = PartialAnswers(path, TOLD)
    assert again.rows == {0: row(0), 2: row(2), 6: row(6)} and again.count == 4
    assert again.skipped == {4: Skipped("rows.jsonl:5", "broken", "q4", "b.mp4")}
    again.add({8: row(8)}, {})
    assert PartialAnswers(path, TOLD).count == 5
    again.remove()
    assert not path.exists()


def test_half_a_line_of_a_kill_is_left_out_and_written_anew(path):
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole[:-20], encoding="utf-8")
    again = PartialAnswers(path, TOLD)
    assert list(again.rows) == [0, 2] and again.skipped == {}
    again.add({6: row(6)}, {4: Skipped("rows.jsonl:5", "broken", "q4", "b.mp4")})
    assert path.read_text(encoding="utf-8") == whole


def test_answers_of_another_model_or_other_batches_are_not_taken(path):
    assert PartialAnswers(path, TOLD | {"batch_size": 3}).count == 0
    assert PartialAnswers(path, TOLD).count == 0  # the file is the other one's now


def test_stamps_tell_whether_files_are_as_before(tmp_path):
    for name in ("b.safetensors", "a.safetensors", "config.json"):
        (tmp_path / name).write_text("x")
    before = stamps(tmp_path, "*.safetensors")
    assert [name for name, *_ in before] == ["a.safetensors", "b.safetensors"]
    assert json.loads(json.dumps(before)) == stamps(tmp_path, "*.safetensors")
    (tmp_path / "a.safetensors").write_text("xy")
    assert stamps(tmp_path, "*.safetensors") != before
    assert stamps(tmp_path / "a.safetensors")[0][:2] == ["a.safetensors", 2]
    assert stamps("Qwen/Qwen3-VL-4B-Instruct", "*.safetensors") == []
