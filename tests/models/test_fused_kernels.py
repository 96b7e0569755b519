"""Liger's kernels: chosen by one key, refused where they cannot be, and equal to the model's own."""

import copy
from importlib.util import find_spec

import pytest
import torch

from vtg.config.model_settings import ModelConfig
from vtg.errors import ConfigError
from vtg.models.fused_kernels import MLPS, NORMS, fuse, unfuse, uses_liger
from vtg.models.loading import load_model

HAS_LIGER = find_spec("liger_kernel") is not None
FAMILIES = ("qwen3_vl", "qwen2_5_vl", "qwen3_5", "qwen3_vl_moe")
IDS = torch.arange(20, 148).view(2, 64)


@pytest.mark.skipif(HAS_LIGER, reason="liger-kernel is installed")
def test_without_the_package_the_models_own_kernels_run_and_asking_for_it_says_what_installs_it():
    assert not uses_liger("auto", on_gpu=True)
    with pytest.raises(ConfigError, match=r"model\.kernels = 'liger': liger-kernel is not .*pip install 'vtg\[gpu\]'"):
        load_model(ModelConfig(path="tiny", kernels="liger"))


def test_torch_is_never_liger_and_a_cpu_has_none():
    assert not uses_liger("torch", on_gpu=True) and not uses_liger("auto", on_gpu=False)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_classes_that_are_replaced_are_those_of_the_models(model_type, tiny_vlm):
    language = tiny_vlm(model_type).model.model.language_model
    found = {type(module).__name__ for module in language.modules()}
    norms = {name for name in found if name.endswith("RMSNorm")}
    mlps = {name for name in found if name.endswith("MLP")}
    assert norms and norms <= NORMS.keys() and mlps <= set(MLPS)


def learned(model, ids: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    logits = model(input_ids=ids).logits.float()
    (logits * torch.linspace(-1, 1, logits.numel(), device=logits.device).view_as(logits)).sum().backward()
    return logits.detach(), {name: one.grad.float() for name, one in model.named_parameters() if one.grad is not None}


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_LIGER, reason="pip install 'vtg[gpu]'")
@pytest.mark.parametrize("model_type", FAMILIES)
def test_fused_and_plain_are_equal_in_float32_and_equally_far_from_it_in_bfloat16(model_type, tiny_vlm):
    ids, reference = IDS.cuda(), copy.deepcopy(tiny_vlm(model_type).model).cuda()
    for parameter in reference.parameters():  # the same weights in both types
        parameter.data = parameter.data.bfloat16().float()
    wanted, gradients = learned(reference, ids)
    halved = copy.deepcopy(reference)
    for parameter in halved.parameters():
        parameter.data = parameter.data.bfloat16()
    plain, own = learned(halved, ids)
    try:
        assert fuse(reference) == fuse(halved) > 0
        exact, exact_gradients = learned(reference, ids)
        fused, fused_gradients = learned(halved, ids)
    finally:
        for model in (reference, halved):
            unfuse(model)
    assert apart(exact, wanted) < 1e-4
    assert apart(fused, wanted) < 2 * apart(plain, wanted) + 1e-4

    def joined(named: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat([named[name].flatten() for name in sorted(gradients)])

    assert apart(joined(exact_gradients), joined(gradients)) < 1e-3
    assert apart(joined(fused_gradients), joined(gradients)) < 2 * apart(joined(own), joined(gradients)) + 1e-4
    again, _ = learned(reference, ids)
    assert torch.equal(again, wanted)  # taken out again
