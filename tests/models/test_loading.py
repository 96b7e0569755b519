import json
import re
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from vtg.config.model_settings import LoraConfig, ModelConfig, PartsConfig
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.data.encoding import encode, patch_factor
from vtg.data.padding import collate
from vtg.demo.tiny_model import TINY_QWEN3_VL
from vtg.errors import ConfigError, RunError
from vtg.models.adapting import prepare_training
from vtg.models.attention import choose_attention
from vtg.models.checkpoint import Settings, save_settings
from vtg.models.families import family_of
from vtg.models.loading import (
    base_weights,
    choose_dtype,
    load_model,
    load_processor,
    tokens_per_second,
)
from vtg.models.patch_embed import PatchProjection
from vtg.tasks.span_task import SpanTask

LORA = LoraConfig(r=4, alpha=8)
FULL = LoraConfig(enabled=False)
PARTS = PartsConfig()
CPU = torch.device("cpu")


def config_of(family: str, folder: Path, **chosen) -> ModelConfig:
    """`folder`: of the tiny model of that family, where it is not the one that ships."""
    factors = {"qwen2_5_vl": 28, "qwen3_5": 32}
    settings = {"path": str(folder), "patch_factor": factors[family]} if family in factors else {"path": "tiny"}
    return ModelConfig(**({"dtype": "float32"} | settings | chosen))


@pytest.fixture(params=["qwen3_vl", "qwen2_5_vl", "qwen3_5"])
def model_config(request, qwen2_5_vl_dir, qwen3_5_dir) -> ModelConfig:
    return config_of(request.param, qwen3_5_dir if request.param == "qwen3_5" else qwen2_5_vl_dir)


def batch_of(model, processor, make_clip) -> dict[str, torch.Tensor]:
    factor = patch_factor(processor)
    clip = make_clip([0.0, 0.6, 1.0], size=(2 * factor, factor))
    features = encode(processor, SpanTask(TaskConfig()).conversation("a dog", duration_s=2.0, spans=[(0.5, 1.0)]), clip)
    batch = collate([features], pad_token_id=processor.tokenizer.pad_token_id)
    return {key: value.to(model.device) for key, value in batch.items()}


def logits_of(model, processor, make_clip) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(**batch_of(model, processor, make_clip)).logits


def parts_of(model, names) -> set[str]:
    return {family_of(model.config).part_of(name) for name in names}


def trained_parts(model) -> set[str]:
    return parts_of(model, [name for name, parameter in model.named_parameters() if parameter.requires_grad])


def test_a_loaded_model_computes_what_the_plain_one_does(model_config, make_clip):
    model, processor = load_model(model_config)
    assert any(isinstance(module, PatchProjection) for module in model.modules())
    assert patch_factor(processor) == model_config.patch_factor
    folder = TINY_QWEN3_VL if model_config.path == "tiny" else model_config.path
    plain = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    assert torch.allclose(
        logits_of(model, processor, make_clip).cpu(), logits_of(plain, processor, make_clip), atol=1e-4
    )


def test_the_models_own_temporal_rate_is_used(qwen3_vl, qwen2_5_vl):
    assert tokens_per_second(qwen2_5_vl.model) == qwen2_5_vl.model.config.vision_config.tokens_per_second == 2
    assert tokens_per_second(qwen3_vl.model) == 2


def test_a_wrong_patch_factor_is_refused_before_training():
    with pytest.raises(
        ConfigError, match=r"model\.patch_factor = 28, but one vision token of tiny is 32 .*set model\.patch_factor=32"
    ):
        load_model(ModelConfig(path="tiny", patch_factor=28))


@pytest.mark.skipif(find_spec("flash_attn") is not None, reason="FlashAttention is installed")
def test_an_attention_that_is_not_installed_is_refused_with_the_way_out():
    with pytest.raises(
        ConfigError, match=r"model\.attention = 'flash_attention_2': cannot be used here .*=auto, or ins"
    ):
        load_model(ModelConfig(path="tiny", patch_factor=32, attention="flash_attention_2"))


def test_auto_is_the_right_choice_for_a_cpu():
    assert choose_dtype("auto", CPU) is torch.float32 and choose_attention("auto", CPU) == "sdpa"
    assert choose_dtype("bfloat16", CPU) is torch.bfloat16 and choose_attention("eager", CPU) == "eager"


def test_lora_reaches_every_linear_layer_of_the_language_model_and_no_other(model_config):
    model = prepare_training(load_model(model_config)[0], PARTS, LORA)
    adapted = {name.partition(".lora_A")[0] for name, _ in model.named_modules() if name.endswith("lora_A.default")}
    assert adapted and parts_of(model, adapted) == {"language"}
    linear = [
        name
        for name, module in model.get_base_model().model.language_model.named_modules()
        if isinstance(getattr(module, "base_layer", module), torch.nn.Linear) and ".lora_" not in name
    ]
    assert len(adapted) == len([name for name in linear if not name.endswith(".base_layer")])
    assert all("lora_" in name for name, parameter in model.named_parameters() if parameter.requires_grad)


@pytest.mark.parametrize(
    ("chosen", "parts"),
    [
        ([], {"language"}),
        (["projector"], {"language", "projector"}),
        (["vision"], {"language", "vision"}),
        (["projector", "vision"], {"language", "projector", "vision"}),
    ],
)
@pytest.mark.parametrize("lora", [LORA, FULL])
def test_freezing_is_per_part(model_config, chosen, parts, lora):
    settings = PartsConfig(**dict.fromkeys(chosen, "full" if lora is FULL else "lora"))
    model = prepare_training(load_model(model_config)[0], settings, lora)
    assert trained_parts(model) == parts
    if lora is FULL:
        still = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
        assert not parts_of(model, still) & parts


def test_a_frozen_part_gets_no_gradient_and_the_others_do(model_config, make_clip):
    loaded, processor = load_model(model_config)
    model = prepare_training(loaded, PartsConfig(projector="full"), FULL)
    model(**batch_of(model, processor, make_clip)).loss.backward()
    with_gradient = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    assert parts_of(model, with_gradient) == {"language", "projector"}


def test_lora_layers_can_be_chosen_by_a_pattern():
    settings = ModelConfig(path="tiny")
    model = prepare_training(
        load_model(settings)[0], PARTS, replace(LORA, target_modules=r"language_model.*[qv]_proj$")
    )
    adapted = {name.split(".")[-2] for name, _ in model.named_modules() if name.endswith(".lora_A")}
    assert adapted == {"q_proj", "v_proj"}


def test_a_pattern_that_matches_nothing_says_what_there_is():
    settings = ModelConfig(path="tiny")
    with pytest.raises(
        ConfigError, match=r"lora\.target_modules = 'query_key': matches no linear layer.*gate_proj.*q_proj"
    ):
        prepare_training(load_model(settings)[0], PARTS, replace(LORA, target_modules="query_key"))


def test_the_options_of_lora_reach_the_adapter():
    settings = ModelConfig(path="tiny")
    lora = LoraConfig(r=3, alpha=5, dropout=0.25, use_rslora=True, use_dora=True)
    adapter = prepare_training(load_model(settings)[0], PARTS, lora).peft_config["default"]
    assert (adapter.r, adapter.lora_alpha, adapter.lora_dropout) == (3, 5, 0.25)
    assert adapter.use_rslora and adapter.use_dora


@pytest.fixture
def adapter(model_config, make_clip, tmp_path) -> tuple[Path, torch.Tensor]:
    """A saved adapter that changes the model, and the logits of the adapted model."""
    loaded, processor = load_model(model_config)
    model = prepare_training(loaded, PARTS, LORA)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    folder = tmp_path / "run" / "best"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    save_settings(Settings(model_config, VideoConfig(), TaskConfig()), folder)
    return folder, logits_of(model, processor, make_clip)


def test_an_adapter_comes_back_with_the_same_logits_and_can_be_switched_off(adapter, model_config, make_clip):
    folder, expected = adapter
    settings = replace(model_config, path=str(folder.parent))
    model, processor = load_model(settings)
    assert isinstance(model, PeftModel)
    assert torch.allclose(logits_of(model, processor, make_clip), expected, atol=1e-5)
    plain = logits_of(load_model(model_config)[0], processor, make_clip)
    assert not torch.allclose(expected, plain, atol=1e-2)
    with base_weights(model, continued=False):
        assert torch.allclose(logits_of(model, processor, make_clip), plain, atol=1e-5)
    with base_weights(model, continued=True):
        assert torch.allclose(logits_of(model, processor, make_clip), expected, atol=1e-5)
    assert prepare_training(model, PARTS, LORA) is model
    assert trained_parts(model) == {"language"}


@pytest.mark.parametrize("renamed_part", ["language_model", r"layers\.[03]\.self_attn\.q_proj"])
def test_an_adapter_of_which_a_part_has_another_name_is_refused(adapter, model_config, renamed_part):
    folder, _ = adapter
    weights = folder / "adapter_model.safetensors"
    renamed = {re.sub(renamed_part, "renamed", key): value for key, value in load_file(weights).items()}
    save_file(renamed, weights)
    with (
        pytest.warns(UserWarning, match="missing adapter keys"),
        pytest.raises(
            RunError, match=r"the adapter's weights did not reach the model .*another base model or another version"
        ),
    ):
        load_model(replace(model_config, path=str(folder)))


def test_an_adapter_that_was_saved_before_it_learned_anything_loads(adapter, model_config):
    folder, _ = adapter
    weights = folder / "adapter_model.safetensors"
    untrained = {key: value * 0 if "lora_B" in key else value for key, value in load_file(weights).items()}
    save_file(untrained, weights)
    model, _ = load_model(replace(model_config, path=str(folder)))
    assert not any(value.any() for name, value in model.named_parameters() if "lora_B" in name)


@pytest.fixture(scope="module")
def real_shape_dir(tmp_path_factory, qwen3_vl) -> Path:
    """A model with the hyper-parameters of Qwen3-VL-4B, but two text and three vision layers, a narrow feed-forward,
    the tiny vocabulary and random weights, saved in shards beside the processor."""
    tiny = qwen3_vl.model.config
    config = Qwen3VLConfig(
        text_config=dict(
            vocab_size=tiny.text_config.vocab_size,
            hidden_size=2560,
            intermediate_size=512,
            num_hidden_layers=2,
            num_attention_heads=32,
            num_key_value_heads=8,
            head_dim=128,
            max_position_embeddings=262144,
            pad_token_id=tiny.text_config.pad_token_id,
            tie_word_embeddings=True,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 5000000.0,
                "mrope_section": [24, 20, 20],
                "mrope_interleaved": True,
            },
        ),
        vision_config=dict(
            depth=3,
            hidden_size=1024,
            intermediate_size=512,
            num_heads=16,
            out_hidden_size=2560,
            num_position_embeddings=2304,
            deepstack_visual_indexes=[0, 1],
        ),
        tie_word_embeddings=True,
        **{
            f"{kind}_token_id": getattr(tiny, f"{kind}_token_id")
            for kind in ("image", "video", "vision_start", "vision_end")
        },
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        model = Qwen3VLForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(torch.float32)
    folder = tmp_path_factory.mktemp("models") / "real_shape"
    model.save_pretrained(folder, max_shard_size="60MB")
    qwen3_vl.processor.save_pretrained(folder)
    return folder


def test_a_sharded_model_of_the_real_shape_loads_and_runs(real_shape_dir, make_clip):
    shards = list(real_shape_dir.glob("model-*.safetensors"))
    index = json.loads((real_shape_dir / "model.safetensors.index.json").read_text())
    assert len(shards) >= 2
    settings = ModelConfig(path=str(real_shape_dir), dtype="bfloat16", attention="sdpa")
    model, processor = load_model(settings)
    assert model.dtype == torch.bfloat16 and model.config.text_config.hidden_size == 2560
    assert set(index["weight_map"]) <= set(model.state_dict())
    for shard in shards:
        for name, value in load_file(shard).items():
            assert torch.equal(model.state_dict()[name].cpu(), value), name
    batch = batch_of(model, processor, make_clip)
    batch["pixel_values_videos"] = batch["pixel_values_videos"].to(model.dtype)
    other = batch | {"pixel_values_videos": batch["pixel_values_videos"].flip(0)}
    with torch.no_grad():
        logits, turned = model(**batch).logits, model(**other).logits
    assert logits.shape == (1, batch["input_ids"].shape[1], model.config.text_config.vocab_size)
    assert torch.isfinite(logits).all() and not torch.equal(logits, turned)
    adapted = prepare_training(model, PARTS, LORA)
    assert trained_parts(adapted) == {"language"}


def test_the_shipped_tiny_model_is_what_tiny_means():
    model, _ = load_model(ModelConfig(path="tiny"))
    assert Path(model.config.name_or_path) == TINY_QWEN3_VL


def test_weights_of_one_family_with_the_chat_template_of_another_are_refused(qwen3_5_dir, tmp_path):
    folder = tmp_path / "mixed"
    shutil.copytree(qwen3_5_dir, folder)
    shutil.copy(TINY_QWEN3_VL / "chat_template.jinja", folder / "chat_template.jinja")
    with pytest.raises(ConfigError) as error:
        load_processor(str(folder))
    assert str(error.value) == (
        f"model {str(folder)!r} is of the type 'qwen3_5', but its processor and chat template are those of a Qwen3-VL; "
        "copy processor_config.json and chat_template.jinja of the model it was made from"
    )
