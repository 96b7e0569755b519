"""What does not belong together in a checkpoint is told before weights load."""

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoConfig

from vtg.config.model_settings import LoraConfig, ModelConfig, PartsConfig
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.errors import ConfigError
from vtg.models.adapting import prepare_training
from vtg.models.checkpoint import Settings, resolve_checkpoint, save_settings
from vtg.models.loading import load_model, load_processor


@pytest.fixture
def other_base(tmp_path) -> Path:
    """A folder like the tiny model's, with MLPs twice as wide, and weights that nobody can read."""
    folder = tmp_path / "other"
    shutil.copytree(resolve_checkpoint("tiny"), folder)
    (folder / "model.safetensors").write_bytes(b"")
    config = AutoConfig.from_pretrained(folder)
    config.text_config.intermediate_size *= 2
    config.save_pretrained(folder)
    return folder


@pytest.fixture
def adapter(tmp_path) -> Path:
    model, processor = load_model(ModelConfig(path="tiny"))
    folder = tmp_path / "adapter"
    prepare_training(model, PartsConfig(), LoraConfig(r=4)).save_pretrained(folder)
    processor.save_pretrained(folder)
    save_settings(Settings(ModelConfig(path="tiny"), VideoConfig(), TaskConfig()), folder)
    return folder


def on(adapter: Path, base: Path) -> ModelConfig:
    document = json.loads((adapter / "vtg.json").read_text())
    document["model"]["path"] = str(base)
    (adapter / "vtg.json").write_text(json.dumps(document))
    return ModelConfig(path=str(adapter))


def test_an_adapter_of_a_model_of_another_size_is_refused(adapter, other_base):
    width = AutoConfig.from_pretrained(other_base).text_config.intermediate_size
    with pytest.raises(ConfigError) as error:
        load_model(on(adapter, other_base))
    assert str(error.value).startswith(f"{adapter}: the adapter does not fit its base model {other_base}: its model.")
    assert f"has {width // 2} inputs, that of the model {width}; it was trained on another one" in str(error.value)


def test_tokens_without_embeddings_are_refused(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(resolve_checkpoint("tiny"), folder)
    (folder / "model.safetensors").write_bytes(b"")
    processor = load_processor("tiny")
    rows = AutoConfig.from_pretrained(folder).text_config.vocab_size
    processor.tokenizer.add_tokens([f"<moment{number}>" for number in range(rows)])
    processor.save_pretrained(folder)
    with pytest.raises(ConfigError, match=rf"has the token '<moment\d+>' \(id \d+\), but the model has {rows} embed"):
        load_model(ModelConfig(path=str(folder)))


def test_what_fits_is_loaded(adapter):
    model, _ = load_model(ModelConfig(path=str(adapter)))
    assert any("lora_" in name for name, _ in model.named_parameters())
