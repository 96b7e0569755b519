"""Adapters compute in the type of what they read: the numbers of autocast, to the bit, without it."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model

from vtg.config.model_settings import LoraConfig as Lora
from vtg.config.model_settings import ModelConfig, PartsConfig
from vtg.models.adapter_precision import AdapterMatrix, compute_in_input_type
from vtg.models.adapting import prepare_training
from vtg.models.loading import load_model

IDS = torch.arange(20, 60).view(2, 20)


@pytest.fixture(scope="module")
def halved():
    """The tiny model in bfloat16."""
    return load_model(ModelConfig(path="tiny", dtype="bfloat16"))[0]


def with_adapters(model, **options):
    """PEFT's own, as it makes them, but that they change something."""
    names = [name for name, one in model.named_modules() if isinstance(one, torch.nn.Linear) and "language" in name]
    torch.manual_seed(0)
    built = get_peft_model(copy.deepcopy(model), LoraConfig(r=4, target_modules=names, **options))
    for name, parameter in built.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.02)
    return built


def learned(model) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    logits = model(input_ids=IDS).logits.float()
    weights = torch.linspace(-1, 1, logits.numel()).view_as(logits)
    (logits * weights).mean().backward()
    return logits, {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


def test_logits_and_gradients_are_those_of_autocast_to_the_bit(halved):
    plain, ours = with_adapters(halved), with_adapters(halved)
    compute_in_input_type(ours)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        wanted, gradients = learned(plain)
    found, own = learned(ours)
    assert torch.equal(found, wanted)
    assert own.keys() == gradients.keys() and all("lora_" in name for name in own)
    for name, gradient in own.items():
        assert gradient.dtype == torch.float32 and torch.equal(gradient, gradients[name]), name


def test_adapters_that_training_adds_compute_so_and_stay_float32(halved):
    built = prepare_training(copy.deepcopy(halved), PartsConfig(), Lora(r=4))
    matrices = [one for name, one in built.named_modules() if name.endswith("default") and "lora_" in name]
    matrices = [one for one in matrices if isinstance(one, torch.nn.Linear)]
    assert matrices and all(type(one) is AdapterMatrix for one in matrices)
    assert {one.weight.dtype for one in matrices} == {torch.float32}
    assert built(input_ids=IDS).logits.dtype == torch.bfloat16


def test_dora_computes_as_peft_has_it(halved):
    plain, ours = (with_adapters(halved, use_dora=True) for _ in range(2))
    compute_in_input_type(ours)
    assert not any(isinstance(one, AdapterMatrix) for one in ours.modules())
    assert torch.equal(ours(input_ids=IDS).logits, plain(input_ids=IDS).logits)
