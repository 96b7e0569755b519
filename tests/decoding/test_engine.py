"""The engine writes what `generate` writes, with every prompt's keys held once, and no more of them than it may."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import greedy_config
from torch._dynamo.utils import counters
from transformers.cache_utils import DynamicLayer
from trl.trainer.utils import add_fused_lm_head

from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import encode, patch_factor, turn_end_id, vision_token_ids
from vtg.decoding.engine import DecodingEngine
from vtg.decoding.key_pool import OwnStates
from vtg.decoding.paged_attention import Shape
from vtg.decoding.prompt_sequence import Prompt
from vtg.decoding.sampling import sample
from vtg.decoding.shared_prefix import encode_video, share_prompts, shared_batch
from vtg.decoding.slots import Completion
from vtg.decoding.token_choice import Sampling
from vtg.tasks.span_task import SpanTask

pytestmark = pytest.mark.filterwarnings("error:.*removed in version 6:FutureWarning")

TASK = SpanTask(TaskConfig())
LENGTH = 12


@pytest.fixture(scope="module")
def prompts(vlm, make_clip) -> list[Prompt]:
    """Of different lengths, the last of two pages; the second has padding frames."""
    factor = patch_factor(vlm.processor)
    clips = [
        make_clip([0.0, 0.5, 1.0, 1.5], size=(2 * factor, 2 * factor), seed=1),
        replace(make_clip([0.2], size=(factor, factor), seed=2), pad=5),
        make_clip((np.arange(44) * 0.7).tolist(), size=(2 * factor, 3 * factor), seed=3),
    ]
    queries = ("a red circle", "a", "someone sits down, then stands up again")
    found = [
        Prompt(encode(vlm.processor, TASK.conversation(query, duration_s=9.0), clip), duration_s=9.0)
        for query, clip in zip(queries, clips, strict=True)
    ]
    lengths = [len(one.features["input_ids"]) for one in found]
    assert len(set(lengths)) == 3 and lengths[2] > 129 and (found[1].features["attention_mask"] == 0).any()
    return found


@pytest.fixture(scope="module")
def model(vlm) -> Any:
    """A PeftModel whose adapter says something, as in training, in evaluation mode."""
    torch.manual_seed(3)
    plain = copy.deepcopy(vlm.model)
    add_fused_lm_head(plain, outputs=("log_probs", "entropy"))
    share_prompts(plain)
    linear = r".*language_model.*(q|k|v|o|up|down|gate)_proj"
    return get_peft_model(plain, LoraConfig(r=4, target_modules=linear, init_lora_weights=False)).eval()


def sampling(vlm, **more: Any) -> Sampling:
    given = {
        "max_new_tokens": LENGTH,
        "ends": (turn_end_id(vlm.processor),),
        "suppressed": tuple(vision_token_ids(vlm.processor)),
    }
    return Sampling(**(given | more))


def tokens_of(groups: list[list[Completion]]) -> list[list[int]]:
    return [one.tokens for group in groups for one in group]


def held_bytes(engine: DecodingEngine) -> int:
    """Of all keys, values and states that it holds."""
    pool = engine._stepper.pool
    assert pool is not None
    held = [
        states
        for layer in pool.layers
        for states in (layer.whole.values() if isinstance(layer, OwnStates) else (*layer.own, *layer.pages))
    ]
    return sum(states.nbytes for states in held)


@pytest.mark.parametrize("encoded", [False, True], ids=["pixels", "encoded"])
def test_greedy_tokens_are_those_of_generate(vlm, model, prompts, encoded):
    if encoded:
        prompts = [Prompt(one.features, encode_video(model.get_base_model(), one.features)) for one in prompts]
    pad = vlm.processor.tokenizer.pad_token_id
    config = greedy_config(vlm.processor, max_new_tokens=LENGTH)
    expected = sample(model, prompts, config, n=2, pad_token_id=pad)
    known = Sampling.of(config)
    assert known is not None and known == sampling(vlm)
    for page in (128, 16):
        engine = DecodingEngine(model, known)
        engine._stepper.page = page
        assert tokens_of(engine.complete(prompts, n=2)) == expected
    assert len({tuple(one) for one in expected}) == len(prompts)


def test_what_a_row_writes_does_not_depend_on_the_rows_beside_it(vlm, model, prompts):
    """Nor on how many there is room for: rows enter as others leave."""
    often = tuple(range(0, len(vlm.processor.tokenizer), 5))  # a fifth of all tokens end a row: rows end at all steps
    engine = DecodingEngine(model, sampling(vlm, ends=often, temperature=2.0))
    expected = engine.complete(prompts, n=6, seed=5)
    at_once, whole = engine.peak, tokens_of(expected)
    assert at_once.rows == 18 and len({len(one) for one in whole}) > 3
    assert all(not set(one[:-1]) & set(often) and (one[-1] in often or len(one) == LENGTH) for one in whole)
    for share in (0.75, 0.62, 0.01):
        key_bytes = int(share * at_once.bytes)
        small = DecodingEngine(model, sampling(vlm, ends=often, temperature=2.0), key_bytes=key_bytes)
        assert small.complete(prompts, n=6, seed=5) == [
            [replace(one, log_probs=pytest.approx(one.log_probs, abs=1e-4)) for one in group] for group in expected
        ]
        assert small.peak.steps > at_once.steps and small.peak.rows < at_once.rows
        # Of a budget that not even one row fits into, one row at a time is what is left.
        assert small.peak.bytes <= key_bytes if share > 0.1 else small.peak.rows == 1
        assert held_bytes(small) <= small.peak.bytes
    assert engine.complete(prompts, n=6, seed=6) != expected
    assert any(len({tuple(one.tokens) for one in group}) > 1 for group in expected)  # a group is no one completion


@torch.no_grad()
def test_sampled_log_probs_are_those_of_the_forward_that_is_trained(vlm, model, prompts):
    """To 1e-4 nats in float32, at temperature 1 and others; over the tokens that may be written."""
    for temperature in (1.0, 0.7):
        engine = DecodingEngine(model, sampling(vlm, temperature=temperature))
        groups = engine.complete(prompts, n=3)
        longest = max(len(one.tokens) for group in groups for one in group)
        padded = torch.zeros(len(prompts), 3, longest, dtype=torch.int64)
        expected, real = torch.zeros(padded.shape), torch.zeros(padded.shape, dtype=torch.bool)
        for at, group in enumerate(groups):
            for row, one in enumerate(group):
                padded[at, row, : len(one.tokens)] = torch.tensor(one.tokens)
                expected[at, row, : len(one.tokens)] = torch.tensor(one.log_probs)
                real[at, row, : len(one.tokens)] = True
        inputs = shared_batch(prompts, list(padded))
        hidden = model.get_base_model().model(**inputs).last_hidden_state
        logits = model.get_base_model().lm_head(hidden).float() / temperature
        logits[..., vision_token_ids(vlm.processor)] = -torch.inf
        found = logits.log_softmax(-1).gather(2, padded.view(-1, longest, 1))[..., 0].view(padded.shape)
        torch.testing.assert_close(found[real], expected[real], rtol=0, atol=1e-4)
        assert real.sum() > 30


def test_under_autocast_log_probs_are_near_those_in_float32(vlm, model, prompts):
    exact, rounded = DecodingEngine(model, sampling(vlm)), DecodingEngine(model, sampling(vlm))
    expected = exact.complete(prompts)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = rounded.complete(prompts)
    # transformers 5.17 keeps values in the type of the keys, which the rotation makes float32.
    layer = DynamicLayer()
    layer.update(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1, dtype=torch.bfloat16))
    assert layer.values is not None
    assert held_bytes(rounded) <= held_bytes(exact)
    assert held_bytes(rounded) < held_bytes(exact) or layer.values.dtype == torch.float32
    for [one], [other] in zip(found, expected, strict=True):
        assert one.log_probs[0] == pytest.approx(other.log_probs[0], abs=0.1) and one.log_probs != other.log_probs


def test_another_video_makes_other_completions(vlm, model, prompts):
    flipped = [
        Prompt(one.features | {"pixel_values_videos": 1 - 2 * one.features["pixel_values_videos"]}) for one in prompts
    ]
    engine = DecodingEngine(model, sampling(vlm, temperature=1.0))
    before, after = (tokens_of(engine.complete(some, n=7)) for some in (prompts, flipped))
    assert before != after


def test_tokens_that_stand_for_pixels_are_not_written_however_likely(vlm, prompts):
    model = copy.deepcopy(vlm.model)
    video_pad = vlm.processor.tokenizer.convert_tokens_to_ids("<|video_pad|>")
    hidden = []
    hook = model.lm_head.register_forward_pre_hook(lambda module, args: hidden.append(args[0][0]))
    DecodingEngine(model, sampling(vlm, max_new_tokens=1)).complete(prompts[:1])
    hook.remove()
    with torch.no_grad():
        # What the tower gives takes the place of its embedding.
        model.lm_head.weight[video_pad] = 100 * hidden[0] / hidden[0].norm()
    for suppressed in ((), tuple(vision_token_ids(vlm.processor))):
        engine = DecodingEngine(model, sampling(vlm, temperature=1.0, suppressed=suppressed))
        first = [one[0] for one in tokens_of(engine.complete(prompts[:1], n=2))]
        assert first == [video_pad] * 2 if not suppressed else not set(first) & set(suppressed)


def test_no_row_ends_before_its_least_length(vlm, model, prompts):
    every = tuple(range(0, len(vlm.processor.tokenizer), 2))
    engine = DecodingEngine(model, sampling(vlm, ends=every, min_new_tokens=4, temperature=2.0))
    lengths = [len(one) for one in tokens_of(engine.complete(prompts, n=4))]
    assert min(lengths) == 5 and max(lengths) > 5


def test_a_model_is_left_as_it_was(vlm, model, prompts):
    config = model.get_base_model().model.language_model.config
    before = config._attn_implementation
    some = DecodingEngine(model, sampling(vlm)).decode(prompts)
    next(some)
    assert config._attn_implementation == before


class Compiled:
    """Runs every step with compiled layers, as graphs record them on a GPU."""

    def run(self, shape: Shape, step: Callable[[bool], None]) -> None:
        step(True)

    def forget(self) -> None: ...


@pytest.mark.soak
def test_compiled_layers_write_what_plain_ones_write_and_are_compiled_once_for_all(vlm, model, prompts):
    asked = sampling(vlm, min_new_tokens=LENGTH)
    plain, compiled = (DecodingEngine(model, asked) for _ in range(2))
    compiled.captured, compiled._stepper.graphs = True, Compiled()  # type: ignore[assignment]
    counters.clear()
    expected, found = (tokens_of(engine.complete(prompts[2:], n=2)) for engine in (plain, compiled))
    assert found == expected
    kinds = set(getattr(model.get_base_model().config.get_text_config(), "layer_types", ["full_attention"]))
    assert counters["stats"]["unique_graphs"] == len(kinds) and not counters["graph_break"]
