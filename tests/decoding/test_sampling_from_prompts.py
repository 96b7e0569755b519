"""Completions of a prompt that was run once are those of a prompt run for each of them."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig
from trl.trainer.utils import add_fused_lm_head

from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import encode, patch_factor
from vtg.data.padding import collate
from vtg.decoding.sampling import sample
from vtg.decoding.shared_prefix import Prompt, encode_video, share_prompts, shared_batch
from vtg.evaluation.generate import vision_token_ids
from vtg.tasks.span_task import SpanTask

pytestmark = pytest.mark.filterwarnings("error:.*removed in version 6:FutureWarning")

TASK = SpanTask(TaskConfig())
LENGTH = 12


@pytest.fixture(scope="module")
def prompts(vlm, make_clip) -> list[Prompt]:
    """Of different lengths; the second has padding frames."""
    factor = patch_factor(vlm.processor)
    clips = [
        make_clip([0.0, 0.5, 1.0, 1.5], size=(2 * factor, 2 * factor), seed=1),
        replace(make_clip([0.2], size=(factor, factor), seed=2), pad=5),
        make_clip((np.arange(10) * 0.7).tolist(), size=(2 * factor, 3 * factor), seed=3),
    ]
    queries = ("a red circle", "a", "someone sits down, then stands up again")
    found = [
        Prompt(encode(vlm.processor, TASK.conversation(query, duration_s=9.0), clip))
        for query, clip in zip(queries, clips, strict=True)
    ]
    lengths = [len(one.features["input_ids"]) for one in found]
    assert len(set(lengths)) == 3 and (found[1].features["attention_mask"] == 0).any()
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


def writing(vlm, **more: Any) -> GenerationConfig:
    tokenizer = vlm.processor.tokenizer
    given = {
        "max_new_tokens": LENGTH,
        "do_sample": True,
        "top_k": 0,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": [tokenizer.convert_tokens_to_ids("<|im_end|>")],
        "suppress_tokens": vision_token_ids(vlm.processor),
        "disable_compile": True,
    }
    return GenerationConfig(**(given | more))


def written(vlm, model: Any, prompts: list[Prompt], config: GenerationConfig, **how: Any) -> list[list[int]]:
    torch.manual_seed(11)
    return sample(model, prompts, config, pad_token_id=vlm.processor.tokenizer.pad_token_id, **how)


@pytest.mark.parametrize("encoded", [False, True], ids=["pixels", "encoded"])
def test_a_shared_prompt_gives_the_tokens_of_one_run_for_each_completion(vlm, model, prompts, encoded):
    if encoded:
        prompts = [Prompt(one.features, encode_video(model.get_base_model(), one.features)) for one in prompts]
    for config in (writing(vlm), writing(vlm, do_sample=False), writing(vlm, temperature=0.6, top_p=0.9)):
        shared = written(vlm, model, prompts, config, n=3)
        assert shared == written(vlm, model, prompts, config, n=3, share=False)
        assert len(shared) == 3 * len(prompts)
        groups = [shared[at : at + 3] for at in range(0, len(shared), 3)]
        if config.do_sample:
            assert any(len({tuple(one) for one in group}) > 1 for group in groups)  # a group is no one completion
        else:
            assert all(one == group[0] for group in groups for one in group)
            assert [group[0] for group in groups] == [
                row for prompt in prompts for row in written(vlm, model, [prompt], config, n=1)
            ]  # whatever stands beside it in the batch, and however long


def test_another_video_makes_other_completions(vlm, model, prompts):
    """Of seven samplings of each prompt under the same seed; a blind rollout would give the same."""
    flipped = [
        Prompt(one.features | {"pixel_values_videos": 1 - 2 * one.features["pixel_values_videos"]}) for one in prompts
    ]
    for share in (True, False):
        before = written(vlm, model, prompts, writing(vlm, top_k=0), n=7, share=share)
        assert before != written(vlm, model, flipped, writing(vlm, top_k=0), n=7, share=share)


@torch.no_grad()
def test_generation_gave_its_tokens_the_log_probs_that_the_loss_takes(vlm, model, prompts):
    n, pad = 3, vlm.processor.tokenizer.pad_token_id
    batch = collate([one.features for one in prompts for _ in range(n)], pad_token_id=pad, padding_side="left")
    del batch["labels"]
    torch.manual_seed(11)
    config = writing(vlm, return_dict_in_generate=True, output_logits=True, suppress_tokens=None)
    out = model.generate(**batch, generation_config=config)
    logits = torch.stack(out.logits, dim=1).float()
    tokens = out.sequences[:, batch["input_ids"].shape[1] :]
    ended = (tokens == config.eos_token_id[0]).cumsum(1) - (tokens == config.eos_token_id[0]).long() > 0
    generated = logits.log_softmax(-1).gather(2, tokens[..., None])[..., 0].masked_fill(ended, 0)
    inputs = shared_batch(prompts, list(tokens.split(n)), dtype=torch.float32)
    labels = tokens.masked_fill(ended, -100)
    taken = model(**inputs, shift_labels=labels, fused_lm_head=True).log_probs
    assert (~ended).sum() > 2 * len(tokens)
    torch.testing.assert_close(taken, generated, rtol=0, atol=1e-4)


def test_a_completion_ends_with_the_first_token_that_ends_it(vlm, model, prompts):
    tokenizer = vlm.processor.tokenizer
    often = set(range(0, len(tokenizer), 3))  # a third of all tokens: some completions end soon, others not at all
    config = writing(vlm, eos_token_id=sorted(often), temperature=2.0)
    completions = written(vlm, model, prompts, config, n=8)
    for one in completions:
        assert 1 <= len(one) <= LENGTH
        assert not any(token in often for token in one[:-1])
        assert one[-1] in often or len(one) == LENGTH
    assert len({len(one) for one in completions}) > 2
    one_end = writing(vlm, eos_token_id=completions[0][0])  # an id, not a list: so the plain models have it
    assert written(vlm, model, prompts, one_end, n=8)[0] == completions[0][:1]


@pytest.mark.parametrize("share", [True, False])
def test_tokens_that_stand_for_pixels_are_not_written_however_likely(vlm, prompts, share):
    model = copy.deepcopy(vlm.model)
    share_prompts(model)
    video_pad = vlm.processor.tokenizer.convert_tokens_to_ids("<|video_pad|>")
    for prompt in prompts[:1]:
        batch = collate([prompt.features], pad_token_id=0)
        del batch["labels"]
        with torch.no_grad():
            hidden = model.model(**batch).last_hidden_state[0, -1]
            model.lm_head.weight[video_pad] = (
                100 * hidden / hidden.norm()
            )  # what the tower gives replaces its embedding
    tempted = written(vlm, model, prompts[:1], writing(vlm, suppress_tokens=None), n=2, share=share)
    assert all(one[0] == video_pad for one in tempted)
    kept = written(vlm, model, prompts[:1], writing(vlm), n=2, share=share)
    assert not {token for one in kept for token in one} & set(vision_token_ids(vlm.processor))
