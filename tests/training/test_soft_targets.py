"""Soft targets over times: the mass of neighbouring times, over temporal tokens and digit by digit."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vtg.tasks.answer_forms.bins import BinsCodec
from vtg.tasks.answer_forms.relative import RelativeCodec
from vtg.tasks.answer_forms.seconds import SecondsCodec
from vtg.tasks.answer_forms.tokens import TokensCodec
from vtg.training.sft.soft_targets import END, TRUNCATION, Neighbours
from vtg.training.sft.written_times import TimeGrid

FORMS = {
    "seconds": SecondsCodec(),
    "whole seconds": SecondsCodec(decimals=0),
    "hundredths": SecondsCodec(decimals=2),
    "relative": RelativeCodec(),
    "bins": BinsCodec(num_bins=120),
    "tokens": TokensCodec(num_bins=200),
}


def written(steps: int, grid: TimeGrid) -> str:
    whole, fraction = divmod(steps, 10**grid.decimals)
    return f"{whole}." + f"{fraction:0{grid.decimals}d}" if grid.decimals else f"{whole}."


def every_time(around: Neighbours) -> dict[int, float]:
    """The share of each time, one by one: its cell under the normal distribution, cut off and normalised."""
    reach = math.ceil(TRUNCATION * around.sigma)
    low, high = max(around.low, around.steps - reach, 0), min(around.grid.last, around.steps + reach)

    def below(step: float) -> float:
        return 0.5 * (1 + math.erf((step - around.steps) / around.sigma / math.sqrt(2)))

    cells = {step: below(step + 0.5) - below(step - 0.5) for step in range(low, high + 1)}
    return {step: cell / sum(cells.values()) for step, cell in cells.items()}


@st.composite
def neighbours(draw) -> Neighbours:
    duration_s = draw(st.floats(2.0, 400.0))
    grid = TimeGrid.of(FORMS[draw(st.sampled_from(sorted(FORMS)))], duration_s)
    steps = draw(st.integers(0, grid.last))
    low = draw(st.integers(0, steps))
    return Neighbours(grid, steps, draw(st.sampled_from([0.3, 1.0, 5.0])) / grid.step_s, low)


@given(neighbours())
def test_a_digit_has_the_share_of_all_times_that_are_written_with_the_digits_before_it_and_that_one(around):
    shares = every_time(around)
    text, found = written(around.steps, around.grid), around.over_digits()
    point = text.index(".")
    # Without decimals what ends the number stands for the point, and is the last of its tokens.
    assert len(found) == (len(text) if around.grid.decimals else point + 1)
    for at, row in enumerate(found):
        prefix = text[:at]
        own = {step: share for step, share in shares.items() if written(step, around.grid).startswith(prefix)}
        for choice, share in enumerate(row):
            next_token = "." if choice == END else str(choice)
            wanted = sum(s for step, s in own.items() if written(step, around.grid).startswith(prefix + next_token))
            assert share == pytest.approx(wanted / sum(own.values()), abs=1e-9)


@given(neighbours())
def test_the_shares_along_the_digits_of_a_time_multiply_to_its_share_among_all_times(around):
    text, product = written(around.steps, around.grid), 1.0
    for token, row in zip(text, around.over_digits(), strict=False):
        product *= row[END if token == "." else int(token)]
    assert product == pytest.approx(every_time(around)[around.steps], rel=1e-6)


@given(neighbours())
def test_over_temporal_tokens_the_target_is_every_times_share(around):
    found = around.over_grid(around.grid.last + 1)
    wanted = every_time(around)
    assert float(found.sum()) == pytest.approx(1.0, abs=1e-5)
    for step, share in wanted.items():
        assert float(found[step]) == pytest.approx(share, abs=1e-6)
    assert int((found > 0).sum()) <= len(wanted)


def test_an_end_has_no_mass_before_what_its_start_allows_and_nothing_lies_beyond_the_clip():
    grid = TimeGrid.of(SecondsCodec(), 10.0)
    end = Neighbours(grid, steps=41, sigma=20.0, low=40)
    assert float(end.over_grid(grid.last + 1)[:40].sum()) == 0.0
    assert [share > 0 for share in end.over_digits()[0]] == [False, True, False, False, *[True] * 6, False]
    assert Neighbours(grid, steps=99, sigma=20.0).window == (39, 100)


def test_a_small_deviation_leaves_the_time_itself():
    around = Neighbours(TimeGrid.of(SecondsCodec(), 60.0), steps=123, sigma=0.01)
    assert [row.index(1.0) for row in around.over_digits()] == [1, 2, END, 3]
    assert torch.equal(around.over_grid(601).nonzero()[:, 0], torch.tensor([123]))
