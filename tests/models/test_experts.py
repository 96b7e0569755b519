"""Mixtures of experts: what of them is trained, the loss that keeps experts evenly used, and what shares a batch."""

import copy
import sys
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy

from vtg.config.model_settings import LoraConfig, PartsConfig
from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import Features, encode
from vtg.data.packing import attention, pack, share
from vtg.data.padding import collate
from vtg.decoding.adapter_merging import iter_merged_weights
from vtg.errors import ConfigError
from vtg.models.adapting import prepare_training
from vtg.models.part_table import part_rows, part_table
from vtg.models.recurrence import is_recurrent
from vtg.models.routing import Routers, token_weights
from vtg.tasks.span_task import SpanTask

LORA, FULL = LoraConfig(r=4, alpha=8), LoraConfig(enabled=False)
TASK = SpanTask(TaskConfig())


@pytest.fixture(scope="module", params=["qwen3_5_moe", "qwen3_vl_moe"])
def vlm(request, tiny_vlm):
    return tiny_vlm(request.param)


@pytest.fixture(scope="module")
def rows(vlm, make_clip) -> list[Features]:
    """Two rows of a clip, and one of another."""
    clips = [make_clip([0.0, 0.5, 1.0, 1.5], seed=1), make_clip([0.0, 0.7], seed=2)]
    asked = [(0, "a man runs away"), (0, "a red circle"), (1, "a")]
    return [
        encode(vlm.processor, TASK.conversation(query, duration_s=9.0, spans=[(at, at + 2.5)]), clips[clip])
        for at, (clip, query) in enumerate(asked)
    ]


def adapted(vlm, lora: LoraConfig = LORA, **parts: Any):
    torch.manual_seed(3)
    model = prepare_training(copy.deepcopy(vlm.model), PartsConfig(**parts), lora)
    with torch.no_grad():  # B matrices begin at zero, and would hide their A
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return model


def loss_of(model, batch: dict[str, Any]) -> torch.Tensor:
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    logits = model(**inputs, use_cache=False).logits[:, :-1]
    return cross_entropy(logits.flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=-100, reduction="sum")


def batches_of(vlm, rows: list[Features]) -> dict[str, dict[str, Any]]:
    more: dict[str, Any] = {"implementation": "sdpa", "dtype": torch.float32, "recurrent": is_recurrent(vlm.model)}
    made = {
        "packed": pack(rows),
        "shared": pack(share(rows)),
        "left": dict(collate(rows, pad_token_id=0, padding_side="left")),
        "right": dict(collate(rows, pad_token_id=0)),
    }
    weights = {name: token_weights(batch) for name, batch in made.items()}
    return {
        name: {"weights": weights[name]} | (attention(batch, **more) if "segments" in batch else batch)
        for name, batch in made.items()
    }


@pytest.mark.parametrize(
    ("lora", "parts", "trained"),
    [
        (LORA, {}, {"language"}),
        (LORA, {"experts": "lora"}, {"language", "experts"}),
        (LORA, {"experts": "full", "router": "full"}, {"language", "experts", "router"}),
        (LORA, {"experts": "lora", "language": "frozen"}, {"experts"}),
        (FULL, {}, {"language", "experts", "embedding"}),
        (FULL, {"experts": "frozen", "router": "full"}, {"language", "router", "embedding"}),
    ],
)
def test_experts_and_routers_are_trained_as_chosen_and_each_has_a_row(vlm, rows, lora, parts, trained):
    model = adapted(vlm, lora, **parts)
    loss_of(model, collate(rows, pad_token_id=0)).backward()
    table = part_rows(model, PartsConfig(), 1e-4)
    assert [row.part for row in table] == ["vision", "projector", "language", "experts", "router", "embedding"]
    assert {row.part for row in table if row.trained} == trained
    with_gradient = {name for name, one in model.named_parameters() if one.grad is not None and one.grad.any()}
    assert with_gradient == {name for name, one in model.named_parameters() if one.requires_grad}
    assert "experts" in part_table(table)
    if "lora" in parts.values():
        assert all(".lora_" in name for name in with_gradient if ".experts." in name)


def test_last_blocks_hold_for_experts_and_routers_too(vlm):
    last = vlm.model.config.text_config.num_hidden_layers - 1
    for lora, how in ((LORA, "lora"), (FULL, "full")):
        model = adapted(vlm, lora, experts=how, router="full", language_blocks=1)
        for part in (".experts.", ".gate."):
            names = [name for name, one in model.named_parameters() if one.requires_grad and part in name]
            assert names and all(f".layers.{last}." in name for name in names)


@pytest.mark.parametrize("parts", [{"experts": "lora"}, {"experts": "full", "router": "full"}])
def test_adapted_experts_are_saved_loaded_merged_and_synced_whole(vlm, rows, parts, tmp_path):
    batch = collate(rows[:1], pad_token_id=0)
    plain = loss_of(vlm.model, batch).detach()
    model = adapted(vlm, **parts)
    loss_of(model, batch).backward()
    torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.05).step()
    model.eval()
    changed = loss_of(model, batch).detach()
    assert abs(changed - plain) > 0.01
    with model.disable_adapter():
        torch.testing.assert_close(loss_of(model, batch).detach(), plain, rtol=1e-5, atol=1e-5)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(copy.deepcopy(vlm.model), tmp_path, is_trainable=True)
    torch.testing.assert_close(loss_of(again, batch).detach(), changed, rtol=1e-5, atol=1e-5)
    assert {name for name, one in again.named_parameters() if one.requires_grad} == {
        name for name, one in model.named_parameters() if one.requires_grad
    }
    synced = dict(iter_merged_weights(again))
    torch.testing.assert_close(loss_of(again, batch).detach(), changed, rtol=1e-5, atol=1e-5)
    merged: Any = again.merge_and_unload()
    torch.testing.assert_close(loss_of(merged, batch).detach(), changed, rtol=1e-4, atol=1e-4)
    expected = dict(merged.named_parameters(remove_duplicate=False))
    assert synced.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(synced[name], expected[name], rtol=1e-5, atol=1e-6)


def test_packed_shared_and_padded_batches_of_adapted_experts_are_their_rows_alone(vlm, rows):
    model = adapted(vlm, experts="lora", router="full")
    trained = [one for one in model.parameters() if one.requires_grad]
    wanted, gradients = torch.zeros(()), [torch.zeros_like(one) for one in trained]
    for row in rows:
        loss = loss_of(model, collate([row], pad_token_id=0))
        wanted = wanted + loss.detach()
        gradients = [a + b for a, b in zip(gradients, torch.autograd.grad(loss, trained), strict=True)]
    for name, batch in batches_of(vlm, rows).items():
        del batch["weights"]
        loss = loss_of(model, batch)
        assert abs(loss - wanted) <= 1e-5 * wanted, name
        for mine, other in zip(torch.autograd.grad(loss, trained), gradients, strict=True):
            assert (mine - other).norm() <= 1e-4 * other.norm() + 1e-6, name


def test_the_router_loss_is_that_of_transformers_on_the_tokens_that_are_there(vlm, rows):
    model = adapted(vlm, router="full")
    reference = sys.modules[type(vlm.model).__module__].load_balancing_loss_func
    text = vlm.model.config.text_config
    alone = []
    for row in rows:
        inputs = collate([row], pad_token_id=0)
        del inputs["labels"]
        alone.append(model(**inputs, output_router_logits=True, use_cache=False).router_logits)
    logits = tuple(torch.cat(layers) for layers in zip(*alone, strict=True))
    wanted = reference(logits, text.num_experts, text.num_experts_per_tok)
    routers = Routers(model)
    gates = [name for name, one in model.named_parameters() if ".gate." in name and one.requires_grad]
    assert len(gates) == len(logits)  # some layers of the tiny Qwen3-VL are dense
    parameters = [model.get_parameter(name) for name in gates]
    theirs = torch.autograd.grad(wanted, parameters)
    for name, batch in batches_of(vlm, rows).items():
        weights = batch.pop("weights")
        batch.pop("labels")
        with routers.recorded() as recorded:
            model(**batch, use_cache=False)
        found = routers.balance(recorded, weights)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=0.0, msg=name)
        for mine, other in zip(torch.autograd.grad(found, parameters), theirs, strict=True):
            assert (mine - other).norm() <= 1e-4 * other.norm(), name


def test_forwards_outside_or_without_gradient_are_not_recorded(vlm, rows):
    model = copy.deepcopy(vlm.model)
    routers = Routers(model)
    batch = collate(rows[:1], pad_token_id=0)
    with routers.recorded() as recorded, torch.no_grad():
        loss_of(model, batch)
    loss_of(model, batch)
    assert not recorded


def test_names_of_recurrent_layers_choose_adapters_and_names_of_experts_say_where_those_are_chosen(tiny_vlm):
    vlm = tiny_vlm("qwen3_5_moe")
    names = [f"{name}.lora_A" for name in ("in_proj_qkv", "linear_attn.out_proj")]
    model = adapted(vlm, LoraConfig(r=4, target_modules=["in_proj_qkv", "linear_attn.out_proj"]))
    found = {name.split(".default")[0] for name, one in model.named_parameters() if "lora_A" in name}
    assert len(found) == 6 and all(name.endswith(tuple(names)) for name in found)
    with pytest.raises(ConfigError, match=r"\['gate_up_proj'\] match no linear layer .* chosen by parts\.experts=lora"):
        adapted(vlm, LoraConfig(target_modules=["gate_up_proj"]))
