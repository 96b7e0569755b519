"""Python code that comes with a model is never run, and never asked about."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from vtg.config.model_settings import ModelConfig
from vtg.demo.tiny_model import TINY_QWEN3_VL
from vtg.errors import ConfigError
from vtg.memory.parameters import empty_model
from vtg.models.loading import load_model, load_processor

MAPS = {
    "config.json": {"AutoConfig": "evil.Config", "AutoModelForImageTextToText": "evil.Model"},
    "processor_config.json": {"AutoProcessor": "evil.Processor"},
    "tokenizer_config.json": {"AutoTokenizer": ["evil.Tokenizer", None]},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the tiny model with a Python file that leaves a mark where it is run; nobody answers prompts."""

    def asked(prompt: str = "") -> str:
        raise AssertionError(f"asked: {prompt}")

    monkeypatch.setattr("builtins.input", asked)
    made = tmp_path / "model"
    shutil.copytree(TINY_QWEN3_VL, made)
    lines = ("from transformers import PreTrainedConfig as Config", "Model = Processor = Tokenizer = Config")
    mark = f"open({str(tmp_path / 'ran')!r}, 'w').close()"
    (made / "evil.py").write_text("\n".join((mark, *lines)) + "\n", encoding="utf-8")
    return made


def tell(folder: Path, name: str, **more: object) -> None:
    known = json.loads((folder / name).read_text(encoding="utf-8"))
    (folder / name).write_text(json.dumps(known | {"auto_map": MAPS[name]} | more), encoding="utf-8")


def load_plainly(path: str) -> None:
    load_model(ModelConfig(path=path))


def count_parameters(path: str) -> None:
    empty_model(path, torch.float32)


@pytest.mark.parametrize("name", MAPS)
def test_a_known_model_that_brings_code_too_loads_without_running_it(name, folder, tmp_path):
    tell(folder, name)
    config = ModelConfig(path=str(folder), patch_factor=load_processor(str(folder)).video_processor.patch_size * 2)
    model, processor = load_model(config)
    assert type(model).__module__.startswith("transformers.") and type(processor).__module__.startswith("transformers.")
    assert not (tmp_path / "ran").exists()


def test_a_processor_that_needs_its_own_code_is_refused_in_one_line(folder, tmp_path):
    tell(folder, "processor_config.json", processor_class="EvilProcessor")
    with pytest.raises(ConfigError) as raised:
        load_processor(str(folder))
    assert str(raised.value) == (
        f"model {str(folder)!r} can only be loaded by Python code that comes with it (auto_map in its config files), "
        "which vtg never runs; give a model that transformers itself knows, or take auto_map out"
    )
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("load", [load_processor, load_plainly, count_parameters])
def test_a_model_that_needs_its_own_code_is_refused_by_its_type(load, folder, tmp_path):
    tell(folder, "config.json", model_type="evil")
    tell(folder, "processor_config.json", processor_class="EvilProcessor")
    with pytest.raises(ConfigError, match=r"^model .* is of the type 'evil', with which vtg was not tried"):
        load(str(folder))
    assert not (tmp_path / "ran").exists()
