"""On a GPU, where steps are CUDA graphs, the engine writes what it writes step by step on the CPU."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import encode, patch_factor, turn_end_id, vision_token_ids
from vtg.decoding.engine import DecodingEngine
from vtg.decoding.prompt_sequence import Prompt
from vtg.decoding.token_choice import Sampling
from vtg.tasks.span_task import SpanTask

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

TASK = SpanTask(TaskConfig())
LENGTH = 16


def prompts_of(vlm, make_clip, device: str) -> list[Prompt]:
    """Of one page and of several."""
    factor = patch_factor(vlm.processor)
    found = []
    for count in (4, 60, 30):
        clip = make_clip((np.arange(count) * 0.5).tolist(), size=(2 * factor, 2 * factor), seed=count)
        features = encode(vlm.processor, TASK.conversation("a red circle", duration_s=clip.duration_s), clip)
        found.append(Prompt({key: value.to(device) for key, value in features.items()}))
    return found


@pytest.fixture(scope="module")
def model(vlm) -> Any:
    torch.manual_seed(3)
    linear = r".*language_model.*(q|k|v|o|up|down|gate)_proj"
    # Trained rows as well, as temporal tokens have.
    adapter = {"r": 4, "target_modules": linear, "init_lora_weights": False}
    config = LoraConfig(**adapter, trainable_token_indices={"embed_tokens": [5, 9, 11]})  # type: ignore[arg-type]
    return get_peft_model(copy.deepcopy(vlm.model), config).eval()


@pytest.mark.parametrize("temperature", [None, 1.0])
def test_graphs_write_what_plain_steps_write(vlm, model, make_clip, temperature):
    """Rows of some prompts end, others enter: every size of step is recorded, replayed and left."""
    often = tuple(range(0, len(vlm.processor.tokenizer), 9))
    sampling = Sampling(
        max_new_tokens=LENGTH,
        ends=often if temperature else (turn_end_id(vlm.processor),),
        temperature=temperature,
        suppressed=tuple(vision_token_ids(vlm.processor)),
    )
    plain = DecodingEngine(model.cpu(), sampling)
    expected = plain.complete(prompts_of(vlm, make_clip, "cpu"), n=4, seed=1)
    there = model.to("cuda")
    for graphs, share, compiled_after in ((False, 4.0, None), (True, 4.0, None), (True, 1.0, None), (True, 4.0, 1)):
        key_bytes = int(share * plain.peak.bytes)
        engine = DecodingEngine(there, sampling, graphs=graphs, key_bytes=key_bytes, compiled_after=compiled_after)
        for _ in range(3):  # the first records, the others replay
            found = engine.complete(prompts_of(vlm, make_clip, "cuda"), n=4, seed=1)
            pairs = [pair for a, b in zip(found, expected, strict=True) for pair in zip(a, b, strict=True)]
            same = sum(one.tokens == other.tokens for one, other in pairs)
            # A draw next to the border of two tokens may fall on its other side.
            assert same >= len(pairs) - 1, (graphs, share, compiled_after, same)
    weight = next(parameter for name, parameter in there.named_parameters() if "lora_B" in name)
    with torch.no_grad():
        weight += 1.0  # in place, as an optimizer does: graphs must see it
    changed = engine.complete(prompts_of(vlm, make_clip, "cuda"), n=4, seed=1)
    assert [one.tokens for group in changed for one in group] != [one.tokens for group in found for one in group]
    with torch.no_grad():
        weight -= 1.0


def test_log_probs_in_bfloat16_are_near_those_in_float32(vlm, model, make_clip):
    sampling = Sampling(max_new_tokens=LENGTH, ends=(turn_end_id(vlm.processor),), temperature=1.0)
    there, prompts = model.to("cuda"), prompts_of(vlm, make_clip, "cuda")
    sampling = Sampling(
        max_new_tokens=LENGTH,
        ends=(turn_end_id(vlm.processor),),
        suppressed=tuple(vision_token_ids(vlm.processor)),
    )
    exact = DecodingEngine(there, sampling).complete(prompts)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        rounded = DecodingEngine(there, sampling).complete(prompts)
    for [one], [other] in zip(exact, rounded, strict=True):
        assert abs(one.log_probs[0] - other.log_probs[0]) < 0.1
