"""Moments as bars of characters."""

import pytest

from vtg.evaluation.moment_bars import BarLane, moment_bars, sample_bars


def bars(*lanes: BarLane, duration_s: float = 10.0, columns: int = 56, encoding: str = "utf-8") -> list[str]:
    return moment_bars(lanes, duration_s=duration_s, columns=columns, encoding=encoding)


def test_a_moment_fills_its_share_of_the_clip_over_an_axis_of_seconds():
    # 20 characters a bar: two a second.
    truth, answer, axis = bars(BarLane("truth", [(2.0, 5.0)]), BarLane("answer", [(0.0, 1.0), (9.0, 10.0)]))
    assert truth == "  truth   ────██████──────────  2.00 to 5.00 s"
    assert answer == "  answer  ██────────────────██  0.00 to 1.00 s and 1 more"
    assert axis == "          0         5   10.0 s"


def test_an_encoding_without_blocks_gets_plain_characters():
    for encoding in ("ascii", "latin-1", "no such encoding"):
        lines = bars(BarLane("truth", [(2.0, 5.0)]), encoding=encoding)
        assert "####" in lines[0] and "\n".join(lines).isascii()


@pytest.mark.parametrize(
    ("span", "filled"),
    [((3.0, 3.01), 1), ((9.999, 10.0), 1), ((-5.0, 0.5), 1), ((12.0, 15.0), 0), ((-5.0, -1.0), 0), ((5.0, 2.0), 0)],
)
def test_a_short_moment_can_be_seen_and_one_outside_or_reversed_has_no_bar(span, filled):
    assert bars(BarLane("a", [span]))[0].count("█") == filled


def test_an_answer_without_a_moment_says_so_and_infinity_is_no_bar():
    assert bars(BarLane("a", [], "no such moment"))[0].endswith("─  no such moment")
    lines = bars(BarLane("a", [(float("nan"), 2.0), (1.0, float("inf"))], "out_of_range"))
    assert "█" not in lines[0] and lines[0].endswith("(out_of_range)")


@pytest.mark.parametrize("columns", [1, 40, 80, 300])
@pytest.mark.parametrize("duration_s", [0.04, 5.6, 4000.0])
def test_every_width_and_length_has_lines_that_fit(columns, duration_s):
    lines = bars(BarLane("answer", [(0.0, duration_s / 2)]), duration_s=duration_s, columns=columns)
    assert all(len(line) <= max(columns, 50) and len(line) <= 140 for line in lines)
    assert lines[-1].endswith(" s")


def test_samples_go_from_the_best_to_the_worst_with_the_base_above_the_tuned(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    row = {"duration": 10.0, "timestamp": [0.0, 4.0], "status": "ok"}
    ends = {"a": 1.0, "b": 4.0, "c": 3.0, "d": 2.0}
    rows = [
        row | {"qid": qid, "sentence": f"the\u2028moment {qid}\x1b", "prediction": [[0, end]]}
        for qid, end in ends.items()
    ]
    none = row | {"qid": "b", "prediction": [], "status": "malformed"}
    lines = sample_bars(rows, base=[none])
    assert lines[0] == "3 of 4 samples, from the best answer to the worst:"
    assert [line for line in lines if line.startswith("the")] == ["the moment b", "the moment d", "the moment a"]
    assert [line.split()[0] for line in lines[2:6]] == ["truth", "base", "tuned", "0"]
    assert lines[3].endswith("─  malformed")
    without = rows[0] | {"timestamp": [], "prediction": [], "status": "none"}
    assert sample_bars([without])[2].endswith("no such moment") and sample_bars([]) == []
