"""Settings of what is trained, and of quantized weights, that cannot be."""

import json

import pytest
from test_values import composed

from vtg.config import part_rules
from vtg.config.model_settings import LoraConfig, PartsConfig
from vtg.config.part_rules import methods
from vtg.errors import ConfigError

WRONG = {
    "parts.vision=tuned": "parts.vision = 'tuned': must be one of frozen, lora, full",
    "lora=none parts.vision=lora": "parts.vision = 'lora', but lora=none; set parts.vision=full, or choose a lora: ",
    "parts.language=full": "lora is on, but no part is trained with it",
    "parts.language_blocks=0": "parts.language_blocks = 0: must be at least 1, or null for all",
    "parts.vision_blocks=2": "parts.vision_blocks = 2, but the part is frozen; set parts.vision=lora or full",
    "parts.projector_lr=-1": "parts.projector_lr = -1.0: must be 0 or more",
    "parts.head=lora": "parts.head = 'lora': must be one of auto, frozen, full",
    "parts.language=frozen parts.embedding=full": "lora is on, but no part is trained with it",
    "lora=none parts.experts=lora": "parts.experts = 'lora', but lora=none; set parts.experts=full, or choose a lora: ",
    "lora=dora parts.experts=lora": "lora.use_dora = true: PEFT's adapters of experts (parts.experts=lora) have",
    "lora.dropout=0.1 parts.experts=lora": "lora.dropout = 0.1: PEFT's adapters of experts (parts.experts=lora) have",
    "parts.router_loss=0.001": "parts.router_loss = 0.001: the routers are frozen, so that nothing would learn from it",
    "parts.router_loss=-1": "parts.router_loss = -1.0: must be 0 or more",
    "parts.router=lora": "parts.router = 'lora': must be one of frozen, full",
    "model.freeze_vision=false": "model.freeze_vision: there is no such key; set parts.vision (frozen, lora or full)",
    "+vision_lr=1e-6": "vision_lr: there is no such key; set parts.vision_lr",
}

QUANTIZED = {
    "lora=none": "model.quantization = '4bit': quantized weights cannot be trained in full (lora=none)",
    "parts.language=full parts.vision=lora": (
        "model.quantization = '4bit': quantized weights cannot be trained in full (parts.language=full)"
    ),
    "deepspeed=zero3": "model.quantization = '4bit': ZeRO-3 cannot share out quantized weights; set deepspeed=zero2",
}


@pytest.mark.parametrize("words", WRONG)
def test_what_cannot_be_trained_is_refused_by_its_key(words):
    with pytest.raises(ConfigError) as error:
        composed(*(f"+{word}" if word.startswith("model.freeze") else word for word in words.split()))
    assert str(error.value).startswith(WRONG[words])


@pytest.fixture
def installed(monkeypatch):
    """Answers of the package's metadata, so that the rules behind it are tested without it too."""
    monkeypatch.setattr(part_rules, "version", lambda name: "0.50.2")


@pytest.mark.parametrize("words", QUANTIZED)
def test_quantized_weights_that_cannot_be_are_refused_before_they_load(words, installed):
    with pytest.raises(ConfigError) as error:
        composed("model.quantization=4bit", *words.split())
    assert str(error.value).startswith(QUANTIZED[words])


def test_a_deepspeed_file_of_stage_3_is_refused_with_quantized_weights_too(installed, tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"zero_optimization": {"stage": 3}}))
    with pytest.raises(ConfigError, match="ZeRO-3 cannot share out quantized weights"):
        composed("lora=qlora", f"deepspeed.file={file}")


def test_vllm_is_not_given_quantized_weights(installed):
    with pytest.raises(ConfigError, match=r"model\.quantization = '4bit': vLLM would be given merged weights"):
        composed("lora=qlora", "rollout.engine=vllm", program="rl")


def test_without_bitsandbytes_or_with_an_old_one_the_error_is_what_to_install(monkeypatch):
    def none(name: str) -> str:
        raise part_rules.PackageNotFoundError(name)

    monkeypatch.setattr(part_rules, "version", none)
    with pytest.raises(ConfigError, match=r"is not installed; pip install 'bitsandbytes>=0\.50', or set model\.quan"):
        composed("lora=qlora")
    monkeypatch.setattr(part_rules, "version", lambda name: "0.45.5")
    with pytest.raises(ConfigError, match=r"bitsandbytes 0\.45\.5 is too old; pip install"):
        composed("lora=qlora")


def test_named_choices_of_lora_compose(installed):
    sizes = {"r8": (8, 16), "r16": (16, 32), "default": (16, 32), "r64": (64, 128)}
    for name, size in sizes.items():
        lora = composed(f"lora={name}").lora
        assert (lora.r, lora.alpha) == size and lora.enabled
    assert composed("lora=dora").lora.use_dora
    assert composed("lora=qlora").model.quantization == "4bit"
    assert composed("lora=qlora", "model=tiny", "model.quantization=8bit").model.quantization == "8bit"


def test_the_language_model_follows_lora_and_a_rate_of_0_freezes():
    frozen = dict.fromkeys(("vision", "projector", "experts", "router", "embedding", "head"), "frozen")
    assert methods(PartsConfig(), LoraConfig()) == frozen | {"language": "lora"}
    whole = dict.fromkeys(("language", "experts", "embedding", "head"), "full")
    assert methods(PartsConfig(), LoraConfig(enabled=False)) == frozen | whole
    chosen = methods(PartsConfig(vision="full", vision_lr=0.0, embedding="full", experts="lora"), LoraConfig())
    assert (chosen["vision"], chosen["embedding"], chosen["experts"]) == ("frozen", "full", "lora")
