"""Which layers compute their activations again, and that gradients do not tell."""

import copy
from collections import Counter

import pytest
import torch

from vtg.config.model_settings import LoraConfig, ModelConfig, PartsConfig
from vtg.models.activation_checkpointing import keep_last_half
from vtg.models.adapting import prepare_training
from vtg.models.loading import load_model

IDS = torch.arange(20, 60).view(2, 20)


@pytest.fixture(scope="module")
def tiny():
    return load_model(ModelConfig(path="tiny"))[0]


def learned(tiny, way: str) -> tuple[list[int], dict[str, torch.Tensor]]:
    """How often each decoder layer's norm ran in a step, and the gradients."""
    torch.manual_seed(0)
    model = prepare_training(copy.deepcopy(tiny), PartsConfig(), LoraConfig(r=4)).train()
    layers, runs = model.get_base_model().model.language_model.layers, Counter[int]()
    for at, layer in enumerate(layers):
        # Inside the layer: what is recomputed calls its forward alone, no hook of its own.
        layer.input_layernorm.register_forward_hook(lambda *_, at=at: runs.update([at]))
    if way != "none":
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    if way == "selective":
        assert keep_last_half(model) >= len(layers) // 2
    model(input_ids=IDS).logits.square().mean().backward()
    grads = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    return [runs[at] for at in range(len(layers))], grads


def test_with_selective_checkpointing_the_first_half_of_the_layers_runs_twice(tiny):
    count = tiny.config.text_config.num_hidden_layers
    assert count >= 2
    wanted = {"none": [1] * count, "full": [2] * count}
    wanted["selective"] = [2] * (count // 2) + [1] * (count - count // 2)
    found = {way: learned(tiny, way) for way in wanted}
    assert {way: runs for way, (runs, _) in found.items()} == wanted
    for _, grads in found.values():
        assert grads.keys() == found["none"][1].keys()
        for name, grad in grads.items():
            assert torch.equal(grad, found["none"][1][name]), name
