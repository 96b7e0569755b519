import json
from dataclasses import replace
from pathlib import Path

import pytest

from vtg.config.model_settings import ModelConfig
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.demo.tiny_model import TINY_QWEN3_VL
from vtg.models.checkpoint import (
    SETTINGS_FILE,
    Settings,
    adapter_base,
    base_model,
    has_weights,
    last_checkpoint,
    read_settings,
    resolve_checkpoint,
    save_settings,
)

SETTINGS = Settings(
    ModelConfig(path="some/base", quantization="4bit"),
    VideoConfig(fps=3.5),
    TaskConfig(answer="bins", template="{query}?"),
)


def make_model(folder: Path) -> Path:
    """What a plain model folder looks like from outside."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text("")
    return folder


def make_adapter(folder: Path, base: str = "some/base") -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    return folder


def test_settings_come_back_as_they_were_saved(tmp_path):
    save_settings(SETTINGS, tmp_path)
    assert read_settings(tmp_path) == SETTINGS
    assert [path.name for path in tmp_path.iterdir()] == [SETTINGS_FILE]


def test_a_checkpoint_names_no_folders_of_this_machine(tmp_path):
    save_settings(SETTINGS, tmp_path)
    file = tmp_path / SETTINGS_FILE
    found = json.loads(file.read_text())
    found["video"] |= {"fetch_dir": "/home/me", "fetch_gb": 0.0, "cache_dir": "/home/me", "decoder": "decord"}
    file.write_text(json.dumps(found))
    assert read_settings(tmp_path) == SETTINGS


def test_a_folder_without_settings_is_a_plain_model(tmp_path):
    assert read_settings(tmp_path) is None


@pytest.mark.parametrize(
    "text", ["{", "{}", '{"model": {}, "video": {"speed": 1}, "task": {}}', '{"model": 1, "video": {}, "task": {}}']
)
def test_a_foreign_settings_file_is_named(tmp_path, text):
    (tmp_path / SETTINGS_FILE).write_text(text)
    with pytest.raises(
        ValueError, match=r"vtg\.json: not the settings of a vtg checkpoint .*train again or remove the file"
    ):
        read_settings(tmp_path)


def test_tiny_is_the_shipped_folder():
    assert resolve_checkpoint("tiny") == str(TINY_QWEN3_VL)
    assert has_weights(Path(resolve_checkpoint("tiny")))


def test_a_folder_with_weights_is_itself(tmp_path):
    for folder in (make_model(tmp_path / "model"), make_adapter(tmp_path / "adapter")):
        assert resolve_checkpoint(str(folder)) == str(folder)


def test_a_run_directory_is_its_best_checkpoint_or_else_its_last_whole_one(tmp_path):
    for step in (2, 10):
        (make_adapter(tmp_path / f"checkpoint-{step}") / "trainer_state.json").write_text("{}")
    make_adapter(tmp_path / "checkpoint-11")  # broken off before the trainer's state was written
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert resolve_checkpoint(str(tmp_path)) == str(tmp_path / "checkpoint-10")
    (tmp_path / "best").mkdir()
    assert resolve_checkpoint(str(tmp_path)) == str(tmp_path / "checkpoint-10")
    (tmp_path / "best" / "adapter_config.json").write_text("{}")
    assert resolve_checkpoint(str(tmp_path)) == str(tmp_path / "best")


def test_a_folder_without_weights_is_an_error(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert last_checkpoint(tmp_path) is None
    with pytest.raises(ValueError, match=r"holds neither a model nor best/ nor checkpoint-\*/; train first"):
        resolve_checkpoint(str(tmp_path))


@pytest.mark.parametrize("path", ["./gone", "/gone/too", "outputs/gone", "~/gone", "a/b/c", "../gone"])
def test_what_looks_like_a_missing_folder_is_never_asked_for_on_the_hub(path):
    with pytest.raises(ValueError, match=r"no such folder \(looked in .*\); check the path"):
        resolve_checkpoint(path)


def test_a_file_is_no_model_folder(tmp_path):
    (tmp_path / "model.py").touch()
    with pytest.raises(ValueError, match=r"model\.py': is a file; give the folder of a model or a run"):
        resolve_checkpoint(str(tmp_path / "model.py"))


def test_a_hub_name_stays_as_it_is():
    assert resolve_checkpoint("Qwen/Qwen3-VL-4B-Instruct") == "Qwen/Qwen3-VL-4B-Instruct"


def test_the_base_of_an_adapter_is_what_its_training_run_named(tmp_path):
    adapter = make_adapter(tmp_path / "run" / "best", base="/where/it/lay/then")
    assert adapter_base(str(adapter)) == "/where/it/lay/then"
    save_settings(SETTINGS, adapter)
    assert adapter_base(str(adapter)) == "some/base"
    config = ModelConfig(path=str(tmp_path / "run"), dtype="float16")
    assert base_model(config) == replace(config, path="some/base")


def test_a_plain_model_is_its_own_base(tmp_path):
    config = ModelConfig(path=str(make_model(tmp_path / "model")))
    assert base_model(config) == config
    assert base_model(ModelConfig(path="tiny")).path == "tiny"
