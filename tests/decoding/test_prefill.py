"""Prompts that are read in one call leave the keys and values, and are answered, as those that are read alone."""

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_models import greedy_config

from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import encode, patch_factor
from vtg.data.pixels import join_videos
from vtg.data.question_encoding import encode_questions
from vtg.decoding.engine import DecodingEngine
from vtg.decoding.prefill import CACHE, RECURRENT, Layers, Prefill, cache_of
from vtg.decoding.prompt_sequence import Prompt
from vtg.decoding.sampling import sample
from vtg.decoding.shared_prefix import encode_video, share_prompts
from vtg.decoding.token_choice import Sampling
from vtg.evaluation.answering import clip_prompts
from vtg.models.families import family_of
from vtg.models.recurrence import is_recurrent
from vtg.tasks.span_task import SpanTask

QUERIES = ("a red circle", "a", "someone sits down, then stands up again", "it")


@pytest.fixture(params=["qwen3_vl", "qwen2_5_vl", "qwen3_5", "molmo2"])
def model_and_processor(request, tiny_vlm) -> tuple[Any, Any]:
    """A model that takes layouts."""
    vlm = tiny_vlm(request.param)
    model = copy.deepcopy(vlm.model)
    share_prompts(model)
    return model, vlm.processor


@pytest.fixture
def model_and_prompts(model_and_processor, make_clip) -> tuple[Any, Any, list[Prompt]]:
    """That model, its processor, and prompts of unlike lengths, the second with padding frames."""
    (model, processor), task = model_and_processor, SpanTask(TaskConfig())
    side = 2 * patch_factor(processor)
    clips = [make_clip([0.5 * at for at in range(count)], size=(side, side), seed=count) for count in (4, 1, 6, 2)]
    if not family_of(processor).both_ways:  # Molmo2, whose frames are no pairs
        clips[1] = replace(clips[1], pad=3)
    asked = zip(QUERIES, clips, strict=True)
    return model, processor, [Prompt(encode(processor, task.conversation(q, duration_s=4.0), c)) for q, c in asked]


@pytest.fixture(params=["encoded", "pixels"])
def questions(request, model_and_processor, make_clip) -> list[Prompt]:
    """Four about each of two clips of one size, which are encoded, or as pixels for a tower that is trained."""
    (model, processor), task = model_and_processor, SpanTask(TaskConfig())
    side, asked = 2 * patch_factor(processor), [task.conversation(query, duration_s=2.0) for query in QUERIES]
    clips = [make_clip([0.0, 0.5, 1.0, 1.5], size=(side, side), seed=seed) for seed in (1, 2)]
    features: list[Any] = [one for clip in clips for one in encode_questions(processor, asked, clip)]
    encoded = list(clip_prompts(model, features, [2.0] * len(features)))
    assert len({one.common for one in encoded}) == 1 and encoded[0].common > 0
    pixels = [Prompt(one, duration_s=2.0, common=encoded[0].common) for one in features]
    return encoded if request.param == "encoded" else pixels


def assert_read_as_alone(model: Any, found: Iterable[Layers], prompts: Sequence[Prompt]) -> None:
    """Whether keys and values are those of each prompt that is read alone, in one call."""
    for prompt, layers in zip(prompts, found, strict=True):
        attended = prompt.features["attention_mask"][:-1].bool()
        for one, other in zip(layers, Prefill(model)(replace(prompt, common=0)), strict=True):
            for name in () if hasattr(other, RECURRENT) else ("keys", "values"):
                mine, alone = getattr(one, name), getattr(other, name)
                assert mine.shape == alone.shape
                torch.testing.assert_close(mine[:, :, attended], alone[:, :, attended], rtol=0, atol=1e-4)


@torch.no_grad()
def read_by(model: Any, action: Callable[[], Any]) -> tuple[Any, list[int]]:
    """What an action returns, and the tokens of each call of the language model with more than one."""
    read: list[int] = []
    hook = model.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: read.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
    )
    try:
        return action(), [one for one in read if one > 1]
    finally:
        hook.remove()


def test_one_call_leaves_what_each_prompt_leaves_alone(model_and_prompts):
    model, _, prompts = model_and_prompts
    lengths = [len(one.features["input_ids"]) - 1 for one in prompts]
    _, read = read_by(model, lambda: [Prefill(model)(prompt) for prompt in prompts])
    assert read == lengths
    together, read = read_by(model, lambda: list(Prefill(model).every(prompts)))
    assert read == (lengths if is_recurrent(model) else [sum(lengths)])
    with torch.no_grad():
        assert_read_as_alone(model, together, prompts)


def test_of_prompts_of_a_clip_what_is_common_is_read_once_in_the_call_of_all(model_and_prompts, questions):
    model, _, others = model_and_prompts
    if questions[0].encoded is not None:
        others = [replace(one, encoded=encode_video(model, one.features)) for one in others]
    # Of the first clip some that follow its others, and some that others come before.
    mixed = [*questions[:3], others[0], questions[4], others[1], others[2], *questions[5:], *questions[2:4]]
    common, ends = questions[0].common, {id(one): len(one.features["input_ids"]) - 1 for one in mixed}
    shared = sum(count - 1 for count in Counter(id(one.shown) for one in mixed if one.common).values())
    found, read = read_by(model, lambda: list(Prefill(model, together=10**6).every(mixed)))
    if not is_recurrent(model):
        assert read == [sum(ends[id(one)] for one in mixed) - shared * common]
    with torch.no_grad():
        assert_read_as_alone(model, found, mixed)
        by_calls = Prefill(model, together=2 * common).every(mixed)
        assert_read_as_alone(model, by_calls, mixed)


@torch.no_grad()
def test_nothing_is_computed_after_the_last_layers_keys(model_and_prompts):
    model, _, (prompt, *_) = model_and_prompts
    inputs, end = prompt.inputs(), len(prompt.features["input_ids"]) - 1
    whole = cache_of(model)
    model.model(
        **{name: inputs[name][None, :end] for name in ("input_ids", "attention_mask", "mm_token_type_ids")},
        position_ids=inputs["position_ids"][..., None, :end],
        **join_videos([inputs]),
        use_cache=True,
        **{CACHE: whole},
    )
    ran: Counter[int] = Counter()
    layers = model.model.language_model.layers
    hooks = [layer.register_forward_hook(lambda *_, at=at: ran.update([at])) for at, layer in enumerate(layers)]
    found = [Prefill(model)(prompt), next(Prefill(model).every([prompt]))]
    for hook in hooks:
        hook.remove()
    assert ran == {at: 2 for at in range(len(layers) - 1)}  # the last one never ends
    for read in found:
        for one, other in zip(read, whole.layers, strict=True):
            for name in () if hasattr(other, RECURRENT) else ("keys", "values"):
                torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=1e-5)


def test_a_call_has_no_more_tokens_than_it_may(model_and_prompts):
    model, _, prompts = model_and_prompts
    a, b, c, d = (len(one.features["input_ids"]) - 1 for one in prompts)
    some = Prefill(model, together=a + b)
    assert read_by(model, lambda: list(some.every(prompts)))[1] == (
        [a, b, c, d] if is_recurrent(model) else [a + b, c, d]
    )


def test_a_clip_that_a_call_has_no_room_for_or_that_was_read_for_the_last_prompt_is_read_before_its_questions(
    model_and_prompts,
):
    model, _, prompts = model_and_prompts
    a, b, c, d = (len(one.features["input_ids"]) - 1 for one in prompts)
    shared = replace(prompts[2], common=c - 3)
    mixed = [*prompts[:2], shared, shared, prompts[3]]
    apart, packs = [a, b, c - 3, 3, 3, d], not is_recurrent(model)
    few, many = Prefill(model, together=c + 2), Prefill(model, together=10**6)
    assert a + b > c + 2
    assert read_by(model, lambda: list(few.every(mixed)))[1] == apart
    assert read_by(model, lambda: list(many.every(mixed)))[1] == ([a + b + c + 3 + d] if packs else apart)
    assert read_by(model, lambda: list(many.every([shared, shared])))[1] == [3, 3]
    many.forget()
    # One that none follows yet, and one that comes later.
    one, other = (read_by(model, lambda: list(many.every([shared]))) for _ in range(2))
    assert one[1] == ([c] if packs else [c - 3, 3]) and other[1] == [3]
    with torch.no_grad():
        assert_read_as_alone(model, [*one[0], *other[0]], [shared, shared])
    # Of prompts that begin as nobody else nothing is kept, and what is known stays.
    assert read_by(model, lambda: list(many.every([*prompts[:2], shared])))[1] == ([a + b, 3] if packs else [a, b, 3])


def test_the_engine_answers_as_where_prompts_are_read_one_by_one(model_and_prompts):
    model, processor, prompts = model_and_prompts
    config = greedy_config(processor, max_new_tokens=6)
    expected = sample(model, prompts, config, n=1, pad_token_id=processor.tokenizer.pad_token_id)
    known = Sampling.of(config)
    assert known is not None
    engine, plain = DecodingEngine(model, known), DecodingEngine(model, known, prefill_tokens=1)
    (found, read), (one_by_one, read_alone) = (
        read_by(model, lambda engine=engine: engine.complete(prompts)) for engine in (engine, plain)
    )
    assert [one.tokens for [one] in found] == expected
    assert len(read_alone) == 4 and len(read) == (4 if is_recurrent(model) else 1)
    for [one], [other] in zip(found, one_by_one, strict=True):
        assert one.tokens == other.tokens and one.log_probs == pytest.approx(other.log_probs, abs=1e-4)


def test_the_engine_reads_questions_about_some_clips_in_one_call(model_and_processor, questions):
    model, processor = model_and_processor
    known = Sampling.of(greedy_config(processor, max_new_tokens=6))
    assert known is not None
    engine = DecodingEngine(model, known)
    found, read = read_by(model, lambda: engine.complete(questions))
    assert len(read) == (10 if is_recurrent(model) else 1)
    apart = DecodingEngine(model, known, prefill_tokens=1).complete([replace(one, common=0) for one in questions])
    for [one], [other] in zip(found, apart, strict=True):
        assert one.tokens == other.tokens and one.log_probs == pytest.approx(other.log_probs, abs=1e-4)
    assert engine._stepper.prompts._known is None  # weights may be others at the next call
