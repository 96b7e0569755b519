"""Prompts that are read in one call leave the keys and values, and are answered, as those that are read alone."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_models import greedy_config

from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import encode, patch_factor
from vtg.decoding.engine import DecodingEngine
from vtg.decoding.prefill import RECURRENT, Prefill
from vtg.decoding.sampling import sample
from vtg.decoding.shared_prefix import Prompt, share_prompts
from vtg.decoding.token_choice import Sampling
from vtg.models.recurrence import is_recurrent
from vtg.tasks.span_task import SpanTask

QUERIES = ("a red circle", "a", "someone sits down, then stands up again", "it")


@pytest.fixture(params=["qwen3_vl", "qwen2_5_vl", "qwen3_5", "molmo2"])
def model_and_prompts(request, tiny_vlm, make_clip) -> tuple[Any, Any, list[Prompt]]:
    """A model that takes layouts, its processor, and prompts of unlike lengths, the second with padding frames."""
    vlm, task = tiny_vlm(request.param), SpanTask(TaskConfig())
    model, side = copy.deepcopy(vlm.model), 2 * patch_factor(vlm.processor)
    share_prompts(model)
    clips = [make_clip([0.5 * at for at in range(count)], size=(side, side), seed=count) for count in (4, 1, 6, 2)]
    if request.param != "molmo2":  # whose frames are no pairs
        clips[1] = replace(clips[1], pad=3)
    asked = zip(QUERIES, clips, strict=True)
    prompts = [Prompt(encode(vlm.processor, task.conversation(q, duration_s=4.0), clip)) for q, clip in asked]
    return model, vlm.processor, prompts


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
    alone, read = read_by(model, lambda: [Prefill(model)(prompt) for prompt in prompts])
    assert read == lengths
    together, read = read_by(model, lambda: list(Prefill(model).every(prompts)))
    assert read == (lengths if is_recurrent(model) else [sum(lengths)])
    for prompt, found, expected in zip(prompts, together, alone, strict=True):
        attended = prompt.features["attention_mask"][:-1].bool()
        for one, other in zip(found, expected, strict=True):
            if not hasattr(other, RECURRENT):
                torch.testing.assert_close(one.keys[:, :, attended], other.keys[:, :, attended], rtol=0, atol=1e-4)
                torch.testing.assert_close(one.values[:, :, attended], other.values[:, :, attended], rtol=0, atol=1e-4)


def test_a_call_has_no_more_tokens_than_it_may_and_prompts_of_a_clip_are_not_packed(model_and_prompts):
    model, _, prompts = model_and_prompts
    a, b, c, d = (len(one.features["input_ids"]) - 1 for one in prompts)
    some = Prefill(model, together=a + b)
    assert read_by(model, lambda: list(some.every(prompts)))[1] == (
        [a, b, c, d] if is_recurrent(model) else [a + b, c, d]
    )
    shared = replace(prompts[2], encoded=prompts[2].features["pixel_values_videos"], common=c - 3)
    every = Prefill(model, together=10**6)
    expected = [a, b, c - 3, 3, 3, d] if is_recurrent(model) else [a + b, c - 3, 3, 3, d]
    assert read_by(model, lambda: list(every.every([*prompts[:2], shared, shared, prompts[3]])))[1] == expected


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
    # The first alone: it says what a token takes.
    assert len(read_alone) == 4 and len(read) == (4 if is_recurrent(model) else 2)
    for [one], [other] in zip(found, one_by_one, strict=True):
        assert one.tokens == other.tokens and one.log_probs == pytest.approx(other.log_probs, abs=1e-4)
