"""Rows of temporal tokens in the embeddings and head of real models: their first values, training, saving, merging."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vtg.config.model_settings import LoraConfig, ModelConfig, PartsConfig
from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import patch_factor
from vtg.errors import ConfigError
from vtg.memory.parameters import count, empty_model
from vtg.models.adapting import prepare_training
from vtg.models.loading import load_model, load_processor
from vtg.models.part_table import part_rows
from vtg.models.time_tokens import INITIAL_ROWS, vectors
from vtg.tasks.time_vocabulary import time_vocabulary

BINS = 20
TASK = TaskConfig(answer="tokens", num_bins=BINS)
FULL, LORA = LoraConfig(enabled=False), LoraConfig(r=2)
# Tied embeddings, and a head of its own that is shorter than the embeddings.
FAMILIES = ("qwen3_vl", "qwen2_5_vl", "qwen3_5", "molmo2")


def load(path, task=TASK, seed=0):
    factor = patch_factor(load_processor(str(path)))
    model, processor = load_model(
        ModelConfig(path=str(path), patch_factor=factor, dtype="float32"), task=task, seed=seed
    )
    times = time_vocabulary(processor.tokenizer, task)
    return model, processor, list(times.ids) if times else []


def rows(model, ids):
    return [weight[ids].detach().clone() for weight in vectors(model)]


@pytest.mark.parametrize("init", INITIAL_ROWS)
def test_new_rows_begin_as_they_are_told_and_known_ones_stay(init, tiny_dir):
    plain, _, _ = load(tiny_dir("molmo2"), TaskConfig())
    model, processor, ids = load(tiny_dir("molmo2"), replace(TASK, token_init=init))
    for weight, known in zip(vectors(model), vectors(plain), strict=True):
        assert torch.equal(weight[: len(known)], known) or len(known) > ids[0]  # free rows of the embeddings are used
        new, old = weight[ids].detach(), known[: ids[0]].detach()
        cosines = torch.cosine_similarity(new[:-1], new[1:])
        if init == "sinusoidal":
            torch.testing.assert_close(new.norm(dim=1), old.norm(dim=1).mean().expand(BINS))
            assert cosines.min() > 0.9 > torch.cosine_similarity(new[:-9], new[9:]).max()
        elif init == "mean":
            torch.testing.assert_close(new, old.mean(0).expand(BINS, -1))
        elif init == "random":
            assert 0.8 < float(new.std() / old.std()) < 1.2 and cosines.max() < 0.9
        else:
            digits = processor.tokenizer.convert_tokens_to_ids(["1", "7"])
            torch.testing.assert_close(new[17], weight[digits].mean(0).detach())
            torch.testing.assert_close(new[7], weight[digits[1]].detach())


def test_random_rows_are_the_same_for_the_same_seed_alone():
    first, again, other = (load("tiny", replace(TASK, token_init="random"), seed=seed) for seed in (1, 1, 2))
    ids = first[2]
    assert torch.equal(rows(first[0], ids)[0], rows(again[0], ids)[0])
    assert not torch.equal(rows(first[0], ids)[0], rows(other[0], ids)[0])


def step(model, ids):
    """One step of plain SGD on text with temporal tokens."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    tokens = torch.tensor([[5, *ids, 6, *ids]], device=model.device)
    model(input_ids=tokens, attention_mask=torch.ones_like(tokens), labels=tokens).loss.backward()
    torch.optim.SGD(trained, lr=1.0).step()


@pytest.mark.parametrize("model_type", FAMILIES)
def test_rows_that_lora_trains_are_saved_with_the_adapter_loaded_and_merged(model_type, tiny_dir, tmp_path):
    model, processor, ids = load(tiny_dir(model_type))
    before, tables = rows(model, ids), [weight.detach().clone() for weight in vectors(model)]
    adapted = prepare_training(model, PartsConfig(), LORA, time_tokens=ids)
    step(adapted, ids)
    adapted.save_pretrained(tmp_path / "adapter")
    processor.save_pretrained(tmp_path / "adapter")
    size = (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size
    assert size < sum(table.nbytes for table in tables) + 60_000  # its rows alone, and not whole tables

    loaded, processor, found = load(tmp_path / "adapter")
    assert found == ids
    merged = loaded.merge_and_unload()
    for weight, old, table in zip(vectors(merged), before, tables, strict=True):
        assert (weight[ids] != old).any(1).all()
        others = [at for at in range(len(table)) if at not in ids]
        assert torch.equal(weight[others].detach(), table[others])  # those of a head that no token has too
    trained = rows(merged, ids)
    merged.save_pretrained(tmp_path / "merged")
    processor.save_pretrained(tmp_path / "merged")
    again, _, found = load(tmp_path / "merged")
    assert found == ids
    for new, old in zip(rows(again, ids), trained, strict=True):
        assert torch.equal(new, old)


def test_all_forwards_of_a_model_with_trained_rows_read_and_write_them():
    model, _, ids = load("tiny")
    torch.manual_seed(0)
    adapted = prepare_training(model, PartsConfig(), LORA, time_tokens=ids)
    step(adapted, ids)
    tokens = torch.tensor([[5, *ids]])
    with torch.no_grad():
        logits = adapted(input_ids=tokens).logits
        with adapted.disable_adapter():
            assert (adapted(input_ids=tokens).logits[0, :, ids] - logits[0, :, ids]).abs().max() > 1e-3
        merged = adapted.merge_and_unload()
        # Sums of large numbers in another order, of which some are next to nothing.
        assert (merged(input_ids=tokens).logits - logits).abs().max() <= 1e-4 * logits.abs().max()


def untied(folder: Path) -> Path:
    """The tiny model with a head of its own."""
    model, processor, _ = load("tiny", TaskConfig())
    model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach() * 1.5)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "parts",
    [
        PartsConfig(),
        PartsConfig(embedding="full"),
        PartsConfig(head="full"),
        PartsConfig(embedding="full", head="full"),
    ],
)
def test_a_head_of_its_own_learns_its_rows_whatever_else_of_it_is_trained(parts, tmp_path):
    folder = untied(tmp_path / "base")
    model, processor, ids = load(folder)
    before = rows(model, ids)
    assert len(before) == 2 and not torch.equal(*before)
    adapted = prepare_training(model, parts, LORA, time_tokens=ids)
    step(adapted, ids)
    adapted.save_pretrained(tmp_path / "adapter")
    processor.save_pretrained(tmp_path / "adapter")
    merged = load(tmp_path / "adapter")[0].merge_and_unload()
    for weight, old in zip(vectors(merged), before, strict=True):
        assert (weight[ids] != old).any(1).all()


def test_tied_embeddings_in_full_beside_lora_carry_the_rows(tmp_path):
    model, processor, ids = load("tiny")
    before = rows(model, ids)[0]
    adapted = prepare_training(model, PartsConfig(embedding="full"), LORA, time_tokens=ids)
    step(adapted, ids)
    adapted.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    merged = load(tmp_path)[0].merge_and_unload()
    assert (rows(merged, ids)[0] != before).any(1).all()


def test_full_training_learns_the_rows_or_is_refused():
    model, _, ids = load("tiny")
    before = rows(model, ids)[0]
    step(prepare_training(model, PartsConfig(), FULL, time_tokens=ids), ids)
    assert (rows(model, ids)[0] != before).any(1).all()
    with pytest.raises(ConfigError) as caught:
        prepare_training(model, PartsConfig(embedding="frozen"), FULL, time_tokens=ids)
    assert str(caught.value) == (
        "task.answer = 'tokens': parts.embedding is frozen, so that the 20 temporal tokens would never be learned; set "
        "parts.embedding=full, or train with LoRA (lora=default), which trains their rows"
    )


@pytest.mark.parametrize("lora", [LORA, FULL])
def test_the_table_has_the_rows_apart_and_the_memory_estimate_counts_them(lora):
    model, _, ids = load("tiny")
    parts = PartsConfig(embedding_lr=3e-4) if lora is FULL else PartsConfig(time_tokens_lr=3e-4)
    built = prepare_training(model, parts, lora, time_tokens=ids)
    table = {row.part: row for row in part_rows(built, parts, 1e-3, time_tokens=BINS)}
    width = model.config.text_config.hidden_size
    assert (table["time_tokens"].trained, table["time_tokens"].learning_rate) == (BINS * width, 3e-4)
    counts = count(empty_model("tiny", torch.float32), parts, lora, time_tokens=BINS)
    assert counts.trained_parameters == sum(row.trained for row in table.values())
    assert counts.parameters == sum(row.parameters for row in table.values())


def test_what_does_not_fit_an_adapter_is_told_before_weights_load(tmp_path):
    model, processor, ids = load("tiny")
    prepare_training(model, PartsConfig(), LORA, time_tokens=ids).save_pretrained(tmp_path / "tokens")
    processor.save_pretrained(tmp_path / "tokens")
    with pytest.raises(
        ConfigError, match=r"task.num_bins = 21: .* was trained with 20 temporal tokens, <0> to <19>; set"
    ):
        load(tmp_path / "tokens", replace(TASK, num_bins=21))

    path = tmp_path / "tokens" / "adapter_config.json"
    config = json.loads(path.read_text())
    [(layer, listed)] = config["trainable_token_indices"].items()
    path.write_text(json.dumps(config | {"trainable_token_indices": {layer: listed[:-1]}}))
    with pytest.raises(
        ConfigError, match=r"has 20 rows of temporal tokens, adapter_config\.json names others; copy both"
    ):
        load(tmp_path / "tokens")

    model, plain, _ = load("tiny", TaskConfig())
    prepare_training(model, PartsConfig(), LORA).save_pretrained(tmp_path / "plain")
    processor.save_pretrained(tmp_path / "plain")
    with pytest.raises(ConfigError, match=r"its tokenizer has the token '<19>' .*, but the model has 625 embeddings"):
        load(tmp_path / "plain", TaskConfig())
    plain.save_pretrained(tmp_path / "plain")
    with pytest.raises(
        ConfigError, match=r"is an adapter without temporal tokens, and none can be added to it; merge it"
    ):
        load(tmp_path / "plain")
