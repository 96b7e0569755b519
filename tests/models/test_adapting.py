"""What is trained, part by part: LoRA, whole layers, last blocks, rates, and the table that shows it."""

import copy
import logging
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText

from vtg.config.model_settings import LoraConfig, ModelConfig, PartsConfig
from vtg.data.encoding import encode
from vtg.data.padding import collate
from vtg.decoding.adapter_merging import iter_merged_weights
from vtg.errors import ConfigError
from vtg.memory.parameters import count, empty_model
from vtg.models.adapting import prepare_training, warn_of_rounding
from vtg.models.families import family_of
from vtg.models.loading import load_model
from vtg.models.part_table import part_rows, part_table
from vtg.tasks.span_task import SpanTask, TaskConfig

LORA, FULL = LoraConfig(r=4, alpha=8), LoraConfig(enabled=False)


@pytest.fixture(scope="module")
def tiny():
    return load_model(ModelConfig(path="tiny"))


def adapted(tiny, parts: PartsConfig, lora: LoraConfig = LORA):
    return prepare_training(copy.deepcopy(tiny[0]), parts, lora)


def batch_of(tiny, make_clip) -> dict[str, torch.Tensor]:
    conversation = SpanTask(TaskConfig()).conversation("a dog", duration_s=2.0, spans=[(0.5, 1.0)])
    features = encode(tiny[1], conversation, make_clip([0.0, 0.6, 1.0], size=(64, 32)))
    return collate([features], pad_token_id=tiny[1].tokenizer.pad_token_id)


def logits_of(model, batch) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**batch).logits


def trained_names(model) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_a_part_trained_in_full_beside_lora_is_saved_with_the_adapter_and_switched_off_with_it(
    tiny, make_clip, tmp_path
):
    batch = batch_of(tiny, make_clip)
    plain = logits_of(copy.deepcopy(tiny[0]), batch)
    model = adapted(tiny, PartsConfig(projector="full"))
    assert torch.allclose(logits_of(model, batch), plain, atol=1e-5)
    with torch.no_grad():
        for name in trained_names(model):
            model.get_parameter(name).add_(0.02)
    changed = logits_of(model, batch)
    assert (changed - plain).abs().max() > 0.05
    with model.disable_adapter():
        assert torch.allclose(logits_of(model, batch), plain, atol=1e-5)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(copy.deepcopy(tiny[0]), tmp_path)
    assert torch.allclose(logits_of(again, batch), changed, atol=1e-5)
    merged = again.merge_and_unload()
    assert torch.allclose(logits_of(merged, batch), changed, atol=1e-4)


def test_a_whole_language_model_beside_lora_on_the_tower_keeps_its_tied_head_tied(tiny, make_clip, tmp_path):
    batch = batch_of(tiny, make_clip)
    model = adapted(tiny, PartsConfig(vision="lora", language="full"))
    model.train()(**batch).loss.backward()
    part_of = family_of(model.config).part_of
    got = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert got == trained_names(model)
    assert all("lora_" in name for name in got if part_of(name) == "vision")
    torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.1).step()
    changed = logits_of(model, batch)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(copy.deepcopy(tiny[0]), tmp_path)
    assert torch.allclose(logits_of(again, batch), changed, atol=1e-4)


@pytest.fixture(scope="module")
def untied(tiny):
    """A model with a head of its own."""
    config = copy.deepcopy(tiny[0].config)
    config.tie_word_embeddings = False
    torch.manual_seed(0)
    return AutoModelForImageTextToText.from_config(config), tiny[1]


@pytest.mark.parametrize(
    ("parts", "model", "trained"),
    [
        ({"embedding": "full"}, "tiny", {"language", "embedding"}),
        ({"embedding": "full"}, "untied", {"language", "embedding"}),
        ({"head": "full"}, "untied", {"language", "head"}),
        ({"embedding": "full", "head": "full", "language_blocks": 1}, "untied", {"language", "embedding", "head"}),
    ],
)
def test_embeddings_and_head_beside_lora_are_saved_loaded_and_merged_with_it(
    request, parts, model, trained, make_clip, tmp_path
):
    plain = request.getfixturevalue(model)
    batch = batch_of(plain, make_clip)
    before = logits_of(copy.deepcopy(plain[0]), batch)
    model = adapted(plain, PartsConfig(**parts))
    rows = {row.part: row for row in part_rows(model, PartsConfig(), 1e-4)}
    assert {part for part, row in rows.items() if row.trained} == trained
    model.train()(**batch).loss.backward()
    assert {name for name, one in model.named_parameters() if one.grad is not None} == trained_names(model)
    torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.5).step()
    changed = logits_of(model, batch)
    assert (changed - before).abs().max() > 0.01
    with model.disable_adapter():
        assert torch.allclose(logits_of(model, batch), before, atol=1e-5)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(copy.deepcopy(plain[0]), tmp_path, is_trainable=True)
    assert torch.allclose(logits_of(again, batch), changed, atol=1e-5)
    assert trained_names(again) == trained_names(model)  # what a run that goes on from it trains
    synced = dict(iter_merged_weights(again))
    merged = again.merge_and_unload()
    assert torch.allclose(logits_of(merged, batch), changed, atol=1e-4)
    expected = dict(merged.named_parameters(remove_duplicate=False))
    assert synced.keys() == expected.keys()  # what vLLM is given
    assert all(torch.equal(synced[name], expected[name]) for name in expected)
    assert (merged.lm_head.weight is merged.get_input_embeddings().weight) == merged.config.tie_word_embeddings
    merged.save_pretrained(tmp_path / "merged")
    saved = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged")
    assert torch.allclose(logits_of(saved, batch), changed, atol=1e-4)


def test_a_frozen_head_and_embeddings_stay_as_they_are_in_full_training(untied):
    model = adapted(untied, PartsConfig(embedding="frozen", head="frozen"), FULL)
    assert {row.part for row in part_rows(model, PartsConfig(), 1e-4) if row.trained} == {"language"}


def test_a_pattern_that_matches_a_part_without_lora_is_an_error_that_names_a_layer(tiny):
    lora = replace(LORA, target_modules=r"(q_proj|qkv)$")
    for how in ("frozen", "full"):
        with pytest.raises(
            ConfigError, match=rf"matches \d+ layers such as model\.visual\.\S+qkv, but parts\.vision is {how}; set p"
        ):
            adapted(tiny, PartsConfig(vision=how), lora)
    adapted(tiny, PartsConfig(vision="lora"), lora)


@pytest.mark.parametrize("lora", [LORA, FULL])
def test_of_the_last_blocks_only_those_and_what_follows_them_are_trained(tiny, lora):
    how = "lora" if lora.enabled else "full"
    model = adapted(tiny, PartsConfig(vision=how, vision_blocks=1, language_blocks=2), lora)
    plain = model.get_base_model() if lora.enabled else model
    text, tower = plain.config.text_config.num_hidden_layers, plain.config.vision_config.depth
    names = trained_names(model)
    blocks = {int(name.split(".layers.")[1].split(".")[0]) for name in names if ".layers." in name}
    assert blocks == {text - 2, text - 1}
    assert {int(name.split(".blocks.")[1].split(".")[0]) for name in names if ".blocks." in name} == {tower - 1}
    assert not any("embed" in name for name in names)
    assert lora.enabled or any(name.endswith("language_model.norm.weight") for name in names)


def test_more_blocks_than_there_are_is_an_error_that_says_how_many(tiny):
    with pytest.raises(ConfigError, match=r"parts\.language_blocks = 99: there are \d+; set at most \d+, or null"):
        adapted(tiny, PartsConfig(language_blocks=99))


@pytest.mark.parametrize(
    ("parts", "lora", "message"),
    [
        ({"vision_lr": 1e-5}, LORA, r"parts\.vision_lr = 1e-05: no parameter of the vision group is trained; set par"),
        ({"projector_weight_decay": 0.1}, FULL, r"parts\.projector_weight_decay = 0\.1: no parameter of the proj"),
        ({"embedding_lr": 1e-5}, LORA, r"parts\.embedding_lr = 1e-05: .* set parts\.embedding=full, or set parts\.emb"),
        (
            {"head": "full"},
            LORA,
            r"parts\.head = 'full': the head of this model is tied .* set parts\.embedding=full for",
        ),
        (
            {"head": "frozen"},
            FULL,
            r"parts\.head = 'frozen': the head of this model is tied to the embeddings, which ar",
        ),
        (
            {"experts": "lora"},
            LORA,
            r"parts\.experts = 'lora': the model is dense, it has no experts and routers; remove",
        ),
        ({"router": "full"}, FULL, r"parts\.router = 'full': the model is dense"),
        ({"router_loss": 0.1}, FULL, r"parts\.router_loss = 0\.1: the model is dense"),
        ({"experts_lr": 1e-5}, FULL, r"parts\.experts_lr = 1e-05: the model is dense"),
        ({"head_lr": 1e-5}, FULL, r"parts\.head_lr = 1e-05: no parameter of the head group .*not tied"),
        ({"language": "frozen"}, LORA, r"nothing would be trained"),
    ],
)
def test_a_rate_or_decay_of_a_group_that_is_not_trained_is_an_error(tiny, parts, lora, message):
    with pytest.raises(ConfigError, match=message):
        adapted(tiny, PartsConfig(**parts), lora)


def test_a_rate_of_zero_freezes(tiny):
    model = adapted(tiny, PartsConfig(vision="full", vision_lr=0, embedding_lr=0), FULL)
    trained = {row.part: row.trained for row in part_rows(model, PartsConfig(), 1e-4)}
    assert trained["vision"] == trained["embedding"] == 0 < trained["language"]


CASES = [
    (PartsConfig(), LORA),
    (PartsConfig(projector="full"), FULL),
    (PartsConfig(projector="full", vision="lora", vision_blocks=1), LORA),
]


@pytest.mark.parametrize(("parts", "lora"), CASES)
def test_the_table_and_the_memory_estimate_count_the_same(tiny, parts, lora):
    rows = part_rows(adapted(tiny, parts, lora), parts, 1e-4)
    counts = count(empty_model("tiny", torch.float32), parts, lora)
    assert sum(row.parameters for row in rows) == counts.parameters
    assert sum(row.trained for row in rows) == counts.trained_parameters
    assert [row.part for row in rows] == ["vision", "projector", "language", "embedding"]  # the head is tied


def test_the_table_says_what_is_trained_and_how_fast(tiny):
    parts = PartsConfig(projector="full", projector_lr=2e-6)
    lines = part_table(part_rows(adapted(tiny, parts, FULL), parts, 1e-4)).splitlines()
    assert lines[0].split("  ")[0] == "part"
    words = {line.split()[0]: line.split()[1:] for line in lines[1:]}
    assert words["vision"][1:] == ["0", "frozen"]
    assert words["projector"][0] == words["projector"][1] and words["projector"][2] == "2e-06"
    assert words["language"][2] == words["embedding"][2] == "0.0001"
    assert len(words["all"]) == 2


def test_weights_trained_in_half_precision_are_warned_of_unless_the_optimizer_keeps_float32(caplog):
    halved = load_model(ModelConfig(path="tiny", dtype="bfloat16"))
    warn_of_rounding(adapted(halved, PartsConfig()), keeps_float32=False)  # adapters are float32
    whole = adapted(halved, PartsConfig(projector="full"))
    warn_of_rounding(whole, keeps_float32=True)
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]
    warn_of_rounding(whole, keeps_float32=False)
    assert "weights are trained in bfloat16, base_model.model.model.visual.merger" in caplog.text
    assert "set model.dtype=float32" in caplog.text
    scaled = adapted(load_model(ModelConfig(path="tiny", dtype="float16")), PartsConfig(), FULL)
    with pytest.raises(ConfigError, match=r"model.dtype = 'float16': \d+ weights are trained in float16, "):
        warn_of_rounding(scaled, keeps_float32=False)
