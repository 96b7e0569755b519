"""Questions about one clip hold the keys of its part of the prompt once, and are answered as those that do not."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from tiny_models import greedy_config

from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import encode, patch_factor
from vtg.data.question_encoding import encode_questions
from vtg.decoding import flight
from vtg.decoding.engine import DecodingEngine
from vtg.decoding.prompt_sequence import Prompt
from vtg.decoding.sampling import sample
from vtg.decoding.step_tensors import USERS
from vtg.decoding.token_choice import Sampling
from vtg.evaluation.answering import clip_prompts
from vtg.tasks.span_task import SpanTask

PAGE = 8
QUERIES = (
    "a red circle",
    "a",
    "someone sits down, then stands up again",
    *(f"it is seen {at} times" for at in range(7)),
)


@pytest.fixture
def questions(vlm, make_clip) -> list[Any]:
    """Of one clip more than share a page, of another two, of a third one."""
    task, side = SpanTask(TaskConfig()), 2 * patch_factor(vlm.processor)
    clips = [make_clip([0.5 * at for at in range(6)], size=(side, side), seed=seed) for seed in (1, 2, 3)]
    asked = [task.conversation(query, duration_s=3.0) for query in QUERIES]
    counts = zip(clips[:2], (len(asked), 2), strict=True)
    made = [one for clip, count in counts for one in encode_questions(vlm.processor, asked[:count], clip)]
    return [*made, encode(vlm.processor, asked[0], clips[2])]


@pytest.fixture
def shares_wherever_it_can(monkeypatch) -> None:
    """Whatever is computed in vain for it, as these prompts are short."""
    monkeypatch.setattr(flight, "MOST_COMPUTED_ELSEWHERE", float("inf"))


def engine_of(model: Any, sampling: Sampling, **more: Any) -> DecodingEngine:
    engine = DecodingEngine(model, sampling, **more)
    engine._stepper.page = PAGE
    return engine


def pages_of(prompts: Sequence[Prompt]) -> int:
    """That they take, were none shared."""
    return sum(-(-(len(one.features["input_ids"]) - 1) // PAGE) for one in prompts)


@pytest.mark.usefixtures("shares_wherever_it_can")
def test_questions_of_a_clip_share_its_pages_and_answers_are_those_of_generate(vlm, questions):
    model, processor = vlm
    prompts = list(clip_prompts(model, questions, [3.0] * len(questions)))
    config = greedy_config(processor, max_new_tokens=6)
    expected = sample(
        model, [Prompt(one) for one in questions], config, n=1, pad_token_id=processor.tokenizer.pad_token_id
    )
    known = Sampling.of(config)
    assert known is not None
    shared, apart = engine_of(model, known), engine_of(model, known)
    found = shared.complete(prompts)
    assert [one.tokens for [one] in found] == expected
    # The same prompts, none of which is known to begin as another.
    alone = apart.complete([replace(one, common=0) for one in prompts])
    for [one], [other] in zip(found, alone, strict=True):
        assert one.tokens == other.tokens and one.log_probs == pytest.approx(other.log_probs, abs=1e-4)
    assert shared.peak.rows == apart.peak.rows == len(prompts) and len(QUERIES) > USERS
    whole = prompts[0].common // PAGE
    assert whole > 1
    # Of the first clip two groups hold its pages, for no more than `USERS` share one; of the second one.
    saved = whole * (len(QUERIES) - 2 + 1)
    pool = shared._stepper.pool
    assert pool is not None
    assert shared.peak.bytes == pool.bytes_of(pages=1 + pages_of(prompts) - saved, rows=len(prompts))
    assert apart.peak.bytes == pool.bytes_of(pages=1 + pages_of(prompts), rows=len(prompts))


@pytest.mark.usefixtures("shares_wherever_it_can")
def test_where_rows_come_and_go_pages_stay_as_long_as_one_that_shares_them(vlm, questions):
    """Within budgets in which some questions wait; each writes several completions, which end at all steps."""
    model, processor = vlm
    prompts = list(clip_prompts(model, questions, [3.0] * len(questions)))
    often = tuple(range(0, len(processor.tokenizer), 5))
    sampling = Sampling(max_new_tokens=8, ends=often, temperature=2.0)
    apart = engine_of(model, sampling)
    expected = apart.complete([replace(one, common=0) for one in prompts], n=2, seed=4)
    for share in (1.0, 0.35):
        engine = engine_of(model, sampling, key_bytes=int(share * apart.peak.bytes))
        assert engine.complete(prompts, n=2, seed=4) == [
            [replace(one, log_probs=pytest.approx(one.log_probs, abs=1e-4)) for one in group] for group in expected
        ]
        assert engine.peak.bytes <= share * apart.peak.bytes


@pytest.mark.usefixtures("shares_wherever_it_can")
def test_clips_of_one_size_that_the_tower_sees_itself_share_no_pages(vlm, make_clip):
    """Where it is trained, prompts have no encoded clip, but pixels: alike in what is common, and of another clip."""
    model, processor = vlm
    task, side = SpanTask(TaskConfig()), 2 * patch_factor(vlm.processor)
    asked = [task.conversation(query, duration_s=3.0) for query in QUERIES[:2]]
    clips = [make_clip([0.5 * at for at in range(6)], size=(side, side), seed=seed) for seed in (1, 2)]
    questions: list[Any] = [one for clip in clips for one in encode_questions(processor, asked, clip)]
    common = int(questions[0]["mm_token_type_ids"].nonzero()[-1]) + 1
    prompts = [Prompt(one, common=common) for one in questions]
    sampling = Sampling.of(greedy_config(processor, max_new_tokens=6))
    assert sampling is not None
    shared, apart = engine_of(model, sampling), engine_of(model, sampling)
    found = shared.complete(prompts)
    expected = apart.complete([replace(one, common=0) for one in prompts])
    for [one], [other] in zip(found, expected, strict=True):
        assert one.tokens == other.tokens and one.log_probs == pytest.approx(other.log_probs, abs=1e-4)
    pool = shared._stepper.pool
    assert pool is not None
    saved = 2 * (common // PAGE)  # by one question of each clip
    assert shared.peak.bytes == pool.bytes_of(pages=1 + pages_of(prompts) - saved, rows=len(prompts))


@pytest.mark.parametrize("shares", [True, False])
def test_pages_are_shared_where_little_more_is_computed_for_it(vlm, make_clip, shares):
    """Of many pages nearly all are common, of two every other one."""
    model, processor = vlm
    side = 2 * patch_factor(processor)
    clip, task = make_clip([0.5 * at for at in range(80)], size=(side, side)), SpanTask(TaskConfig())
    asked = [task.conversation(query, duration_s=40.0) for query in QUERIES[:2]]
    questions: list[Any] = encode_questions(processor, asked, clip)
    prompts = list(clip_prompts(model, questions, [40.0] * 2))
    engine = engine_of(model, Sampling(max_new_tokens=2, ends=(1,)))
    page = engine._stepper.page = PAGE if shares else prompts[0].common
    engine.complete(prompts)
    each = [-(-(len(one.features["input_ids"]) - 1) // page) for one in prompts]
    whole = prompts[0].common // page
    assert whole and (2 * (sum(each) - whole) <= 1.25 * sum(each)) == shares
    pool = engine._stepper.pool
    assert pool is not None
    assert engine.peak.bytes == pool.bytes_of(pages=1 + sum(each) - shares * whole, rows=2)
