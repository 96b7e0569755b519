"""A CPU decodes with merged adapters, and has the unmerged ones back afterwards, bit for bit."""

import copy
import warnings
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer

from vtg.decoding import adapter_merging
from vtg.decoding.adapter_merging import merged_for_decoding

LINEAR = r".*language_model.*(q|k|v|o|up|down|gate)_proj"


def adapted(plain: Any, target: str = LINEAR, **config: Any) -> PeftModel:
    """With an adapter that says something, as in training, in evaluation mode."""
    torch.manual_seed(5)
    adapter = LoraConfig(r=4, target_modules=target, init_lora_weights=False, **config)
    return get_peft_model(copy.deepcopy(plain), adapter).eval()


def adapters(model: Any) -> list[LoraLayer]:
    """Those that are computed apart; where merged layers stand in for them, they are not there."""
    return [layer for layer in model.modules() if isinstance(layer, LoraLayer)]


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(30, 60)[None]).logits


def held(model: Any) -> dict[str, tuple[torch.Tensor, int]]:
    return {name: (weight.detach().clone(), weight.data_ptr()) for name, weight in model.named_parameters()}


def assert_as_before(model: Any, before: dict[str, tuple[torch.Tensor, int]]) -> None:
    assert adapters(model) and not any(layer.merged for layer in adapters(model))
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name][0]) and weight.data_ptr() == before[name][1], name


@pytest.mark.parametrize("use_dora", [False, True])
def test_merged_it_says_the_same_and_then_is_as_before(vlm, use_dora):
    model = adapted(vlm.model, use_dora=use_dora)
    before, expected = held(model), logits(model)
    assert (expected - logits(vlm.model)).abs().max() > 1e-2  # of the adapter's doing
    with merged_for_decoding(model):
        assert not adapters(model)
        torch.testing.assert_close(logits(model), expected, atol=2e-5, rtol=1e-4)
        with merged_for_decoding(model):  # within another, nothing is left to merge
            pass
        assert not adapters(model)
    assert_as_before(model, before)
    assert torch.equal(logits(model), expected)


def test_biases_of_adapters_are_merged_into_layers_that_have_one(vlm):
    with warnings.catch_warnings(action="ignore"):  # PEFT says that others cannot be merged
        model = adapted(vlm.model, lora_bias=True)
    for name, parameter in model.named_parameters():
        if name.endswith("lora_B.default.bias"):
            parameter.data.normal_(std=0.1)
    before, expected, every = held(model), logits(model), adapters(model)
    with merged_for_decoding(model):
        left: list[Any] = adapters(model)
        assert left == [layer for layer in every if layer.get_base_layer().bias is None]
        torch.testing.assert_close(logits(model), expected, atol=2e-5, rtol=1e-4)
    assert_as_before(model, before)


def test_what_fails_within_leaves_it_as_before(qwen3_vl):
    model = adapted(qwen3_vl.model)
    before = held(model)
    with pytest.raises(KeyboardInterrupt), merged_for_decoding(model):
        raise KeyboardInterrupt
    assert_as_before(model, before)


def test_what_would_not_say_the_same_is_left_unmerged(qwen3_vl, monkeypatch):
    halved = adapted(copy.deepcopy(qwen3_vl.model).bfloat16())
    every = adapters(halved)
    with merged_for_decoding(halved):
        assert adapters(halved) == every

    model = adapted(qwen3_vl.model)
    every = adapters(model)
    with torch.autocast("cpu", dtype=torch.bfloat16), merged_for_decoding(model):
        assert adapters(model) == every

    base = logits(qwen3_vl.model)
    with model.disable_adapter(), merged_for_decoding(model):
        assert adapters(model) == every and torch.equal(logits(model), base)

    tied = adapted(qwen3_vl.model, "lm_head")
    expected = logits(tied)
    with merged_for_decoding(tied):
        assert len(adapters(tied)) == 1 and torch.equal(logits(tied), expected)

    monkeypatch.setattr(adapter_merging, "MOST_COPIED", 1000)
    with merged_for_decoding(model):
        assert adapters(model) == every
