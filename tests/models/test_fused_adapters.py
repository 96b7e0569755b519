"""Adapters compute in the type of what they read and add to their layer's output: PEFT's numbers, or nearer ones."""

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import Linear

from vtg.config.model_settings import LoraConfig as Lora
from vtg.config.model_settings import ModelConfig, PartsConfig
from vtg.models.adapting import prepare_training
from vtg.models.fused_adapters import AdaptedLinear, AdapterMatrix, fuse_adapters, unfuse_adapters
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


def apart(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    """The norm of the difference of gradients over that of the gradients."""
    assert found.keys() == wanted.keys()
    differences = sum(float((found[name].double() - one.double()).square().sum()) for name, one in wanted.items())
    return (differences / sum(float(one.double().square().sum()) for one in wanted.values())) ** 0.5


@pytest.mark.parametrize("options", [{}, {"use_rslora": True, "lora_alpha": 3}, {"lora_bias": True}])
def test_in_float32_logits_and_gradients_are_pefts(halved, options):
    plain = with_adapters(copy.deepcopy(halved).float(), **options)
    ours = copy.deepcopy(plain)
    fuse_adapters(ours)
    assert any(isinstance(one, AdaptedLinear) for one in ours.modules())
    wanted, gradients = learned(plain)
    found, own = learned(ours)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    assert all("lora_" in name for name in own) and apart(own, gradients) < 1e-4


def test_in_bfloat16_a_layer_rounds_once(halved):
    plain, ours = with_adapters(halved), with_adapters(halved)
    fuse_adapters(ours)
    layer: Any = next(one for one in ours.modules() if type(one) is AdaptedLinear)
    other: Any = next(one for one in plain.modules() if type(one) is Linear)
    x = torch.linspace(-3, 3, 40 * layer.in_features, dtype=torch.bfloat16).view(40, -1).sin()
    with torch.no_grad():
        read, scaling = layer.lora_A["default"](x), layer.scaling["default"]
        added = scaling * read.double() @ layer.lora_B["default"].weight.bfloat16().double().t()
        exact = layer.get_base_layer()(x).double() + added
        with torch.autocast("cpu", dtype=torch.bfloat16):
            of_peft = (other(x).double() - exact).norm()
        assert (layer(x).double() - exact).norm() < of_peft


def test_in_bfloat16_a_model_is_near_to_float32(halved):
    ours = with_adapters(halved)
    exact = copy.deepcopy(ours).float()
    fuse_adapters(ours)
    found, own = learned(ours)
    wanted, gradients = learned(exact)
    assert {one.dtype for one in own.values()} == {torch.float32}
    # bfloat16 has 8 bits: a rounding is 2e-3, and how many meet is up to the processor's products.
    assert (found - wanted).norm() < 0.02 * wanted.norm()
    assert apart(own, gradients) < 0.05


def test_other_ways_through_a_layer_are_pefts(halved):
    model = with_adapters(copy.deepcopy(halved).float()).eval()
    fuse_adapters(model)
    with torch.no_grad():
        adapted = model(input_ids=IDS).logits
        with model.disable_adapter():
            torch.testing.assert_close(model(input_ids=IDS).logits, copy.deepcopy(halved).float()(input_ids=IDS).logits)
        model.merge_adapter()
        torch.testing.assert_close(model(input_ids=IDS).logits, adapted, atol=1e-3, rtol=1e-3)
        model.unmerge_adapter()
        # An adapter that was added since is computed by PEFT, beside one that is fused.
        base: Any = model.base_model
        model.add_adapter("other", LoraConfig(r=4, target_modules=base.peft_config["default"].target_modules))
        base.set_adapter(["default", "other"])
        torch.testing.assert_close(model(input_ids=IDS).logits, adapted, atol=1e-3, rtol=1e-3)
        unfuse_adapters(model)
        assert not any(isinstance(one, (AdapterMatrix, AdaptedLinear)) for one in model.modules())
        torch.testing.assert_close(model(input_ids=IDS).logits, adapted, atol=1e-3, rtol=1e-3)


def test_under_zero_3_the_output_of_a_layer_is_not_changed_in_place(halved):
    model = with_adapters(copy.deepcopy(halved).float()).eval()
    fuse_adapters(model)
    layer: Any = next(one for one in model.modules() if type(one) is AdaptedLinear)
    outputs = []
    layer.get_base_layer().register_forward_hook(lambda module, args, output: outputs.append((output, output.clone())))
    x = torch.linspace(-1, 1, 3 * layer.in_features).view(1, 3, -1)
    with torch.no_grad():
        in_place = layer(x)
        for matrix in layer.lora_B.values():
            matrix.weight.ds_id = 0  # as DeepSpeed marks what it partitions
        beside = layer(x)
    assert torch.equal(in_place, beside)
    assert not torch.equal(*outputs[0]) and torch.equal(*outputs[1])


def test_adapters_that_training_adds_compute_so_and_stay_float32(halved):
    built = prepare_training(copy.deepcopy(halved), PartsConfig(), Lora(r=4))
    matrices = [one for name, one in built.named_modules() if name.endswith("default") and "lora_" in name]
    matrices = [one for one in matrices if isinstance(one, torch.nn.Linear)]
    assert matrices and all(type(one) is AdapterMatrix for one in matrices)
    assert {one.weight.dtype for one in matrices} == {torch.float32}
    assert built(input_ids=IDS).logits.dtype == torch.bfloat16


def test_dora_computes_as_peft_has_it(halved):
    plain, ours = (with_adapters(halved, use_dora=True) for _ in range(2))
    fuse_adapters(ours)
    assert not any(isinstance(one, AdapterMatrix) for one in ours.modules())
    assert torch.equal(ours(input_ids=IDS).logits, plain(input_ids=IDS).logits)
