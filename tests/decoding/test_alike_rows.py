"""Continuations of a prompt are decoded as one row for as long as they are alike, and come out as they do apart."""

from typing import Any

import numpy as np
import pytest
from tiny_models import greedy_config

from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import encode, patch_factor
from vtg.decoding.engine import DecodingEngine
from vtg.decoding.prompt_sequence import Prompt
from vtg.decoding.slots import Completion, Row
from vtg.decoding.stepper import Stepper
from vtg.decoding.token_choice import Sampling
from vtg.tasks.span_task import SpanTask

N = 6


@pytest.fixture(scope="module")
def prompts(vlm, make_clip) -> list[Prompt]:
    side, task = 2 * patch_factor(vlm.processor), SpanTask(TaskConfig())
    clips = [make_clip((np.arange(2 + 2 * seed) * 0.5).tolist(), size=(side, side), seed=seed) for seed in (1, 2)]
    asked = [task.conversation(query, duration_s=4.0) for query in ("a red circle", "someone sits down")]
    return [Prompt(encode(vlm.processor, one, clip)) for one, clip in zip(asked, clips, strict=True)]


@pytest.fixture
def rows_of_steps(monkeypatch) -> list[tuple[int, int]]:
    """Of every step: how many rows it computes, and for how many continuations."""
    seen: list[tuple[int, int]] = []
    step = Stepper.step

    def noted(self: Stepper, shape: Any, **given: Any) -> Any:
        written = step(self, shape, **given)
        seen.append((shape.rows, len(written[0])))
        return written

    monkeypatch.setattr(Stepper, "step", noted)
    return seen


def sampling_of(processor: Any, *, every: int) -> Sampling:
    """So cold that continuations part late; one token in `every` ends them."""
    return Sampling(max_new_tokens=10, ends=tuple(range(0, len(processor.tokenizer), every)), temperature=0.15)


def close(found: list[Completion], wanted: list[Completion]) -> bool:
    alike = all(
        one.tokens == other.tokens and one.log_probs == pytest.approx(other.log_probs, abs=1e-4)
        for one, other in zip(found, wanted, strict=True)
    )
    return alike and len(found) == len(wanted)


def test_a_step_has_a_row_for_each_beginning_that_differs(vlm, prompts, rows_of_steps):
    engine = DecodingEngine(vlm.model, sampling_of(vlm.processor, every=20))
    found = engine.complete(prompts, n=N, seed=3)
    steps, rows_of_steps[:] = list(rows_of_steps), []
    # The rows that the same draws belong to, each a prompt of its own.
    apart = engine.complete([prompt for prompt in prompts for _ in range(N)], n=1, seed=3)
    assert close([one for group in found for one in group], [one for [one] in apart])
    expected = []
    for at in range(len(steps)):
        going_on = [[one.tokens[:at] for one in group if len(one.tokens) > at] for group in found]
        going_on = [group for group in going_on if group]
        widths = [len({tuple(tokens) for tokens in group}) for group in going_on]
        expected.append((len(going_on) * max(widths), sum(map(len, going_on))))
    assert steps == expected
    assert steps[0] == (2, 2 * N) and any(2 < rows < asked for rows, asked in steps)
    assert sum(rows for rows, _ in steps) < sum(rows for rows, _ in rows_of_steps)


def test_where_some_wait_for_room_completions_are_the_same(vlm, prompts):
    sampling = sampling_of(vlm.processor, every=8)
    roomy = DecodingEngine(vlm.model, sampling)
    wanted = roomy.complete(prompts, n=N, seed=5)
    narrow = DecodingEngine(vlm.model, sampling, key_bytes=int(0.6 * roomy.peak.bytes))
    found = narrow.complete(prompts, n=N, seed=5)
    assert all(map(close, found, wanted))
    assert narrow.peak.bytes <= 0.6 * roomy.peak.bytes and narrow.peak.rows < roomy.peak.rows == 2 * N


def test_those_that_waited_begin_as_one_row_too(vlm, prompts, rows_of_steps):
    sampling = Sampling(max_new_tokens=4, ends=(), temperature=0.15)
    roomy = DecodingEngine(vlm.model, sampling)
    wanted = roomy.complete(prompts[:1], n=N, seed=5)
    pool = roomy._stepper.pool
    assert pool is not None
    rows_of_steps.clear()
    half = DecodingEngine(vlm.model, sampling, key_bytes=roomy.peak.bytes - N // 2 * pool.row_bytes)
    assert close(half.complete(prompts[:1], n=N, seed=5)[0], wanted[0])
    # Four tokens of the first half, and four of the second.
    assert len(rows_of_steps) == 8 and [rows_of_steps[at] for at in (0, 4)] == [(1, N // 2)] * 2


def test_greedy_continuations_stay_one_row(vlm, prompts, rows_of_steps):
    sampling = Sampling.of(greedy_config(vlm.processor, max_new_tokens=5))
    assert sampling is not None
    for group in DecodingEngine(vlm.model, sampling).complete(prompts, n=3):
        assert len({tuple(one.tokens) for one in group}) == 1
        assert len({id(one.tokens) for one in group}) == 3  # lists of their own
    assert all(rows <= 2 for rows, _ in rows_of_steps)


def test_a_row_parts_by_its_next_tokens():
    row = Row([0, 2, 5], place=4, tokens=[7], log_probs=[-0.5])
    parts = row.write([9, 8, 9], [-1.0, -2.0, -1.0])
    assert parts[0] is row and [one.continuations for one in parts] == [[0, 5], [2]]
    assert [one.tokens for one in parts] == [[7, 9], [7, 8]]
    assert [one.log_probs for one in parts] == [[-0.5, -1.0], [-0.5, -2.0]]
    assert [one.place for one in parts] == [4, 4]
