"""The figures of the gym's tables, from answers whose scores are known."""

import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from gym_tables import blind_scores, interval, tables

from vtg.storage.json_files import write_jsonl


def row(video: str, duration_s: float, span: list[float], form: str = "once") -> dict:
    return {
        "video": f"videos/{video}.mp4",
        "duration": duration_s,
        "timestamp": span,
        "sentence": "the red circle",
        "qid": f"{video}_{span}",
        "form": form,
    }


TEST = [row("test_0", 20.0, [0.0, 5.0]), row("test_0", 20.0, [5.0, 15.0], "nth"), row("long_0", 60.0, [30.0, 60.0])]


def result(case: tuple[str, str, str, str], seed: int, ious: list[float]) -> dict:
    form, init, loss, adapts = case
    name = "-".join(part for part in case if part)
    return {
        "case": name, "form": form, "init": init, "loss": loss, "adapts": adapts, "seed": seed, "ious": ious,
        "mIoU": sum(ious) / len(ious), "R1@0.5": 50.0, "parse_failures": 1.0, "base_mIoU": 7.0,
    }  # fmt: skip


def test_an_interval_over_seeds_is_that_of_student():
    assert interval([12.34]) == "12.3"
    # Mean 2, standard deviation 1, three seeds: 4.303 / sqrt(3).
    assert interval([1.0, 2.0, 3.0]) == f"2.0 ± {4.303 / math.sqrt(3):.1f}"
    assert interval([1.0, 2.0, 3.0], signed=True).startswith("+2.0 ±")
    assert interval([5.0, 5.0]) == "5.0 ± 0.0"


def test_a_case_is_compared_with_the_baseline_seed_by_seed():
    baseline, other = ("seconds", "", "cross_entropy", "full"), ("tokens", "mean", "combined", "lora")
    results = [result(baseline, seed, [10.0 + seed, 20.0, 30.0]) for seed in (0, 1)]
    # Three points more in each question of either seed: seeds differ, differences do not.
    results += [result(other, seed, [13.0 + seed, 23.0, 33.0]) for seed in (1, 0)]
    lines = tables(results, {"whole clip": {"mIoU": 4.0, "R1@0.5": 2.0}}, TEST).splitlines()
    assert "| tokens | mean | combined | lora | 2 | 23.2 ± 2.1 | 50.0 ± 0.0 | 1.0 | +3.0 ± 0.0 |" in lines
    assert any(line.startswith("| seconds | - | cross_entropy | full | 2 |") and "baseline" in line for line in lines)
    assert "| whole clip, blind | - | - | - | - | 4.0 | 2.0 | - | - |" in lines
    head, _, *cells = lines[lines.index("") + 1 :]
    assert head == (
        "| mIoU of | once (2) | nth (1) | clips as in training, to 20 s (2) | longer clips (1) | 4 to 8 s (1) | "
        "moments over 8 s (2) |"
    )
    assert cells[0] == "| seconds-cross_entropy-full | 20.2 | 20.0 | 15.2 | 30.0 | 10.5 | 25.0 |"


def test_blind_answers_are_scored_on_the_same_questions(tmp_path: Path):
    write_jsonl(tmp_path / "test.jsonl", TEST)
    write_jsonl(tmp_path / "train.jsonl", [row("train_0", 10.0, [2.5, 7.5]), row("train_1", 40.0, [10.0, 30.0])])
    scores = blind_scores(tmp_path / "train.jsonl", tmp_path / "test.jsonl")
    # 5 of 20 s, 10 of 20 s, 30 of 60 s.
    assert scores["whole clip"]["mIoU"] == pytest.approx(100 * (0.25 + 0.5 + 0.5) / 3)
    assert scores["whole clip"]["R1@0.5"] == pytest.approx(200 / 3)
    # The middle half of the clip: none of the first, all of the second, a third of the union of the last.
    assert scores["training prior"]["mIoU"] == pytest.approx(100 * (0 + 1 + 1 / 3) / 3)
