"""A model that is not here, cannot be fetched, or was never tried, is refused in one line before torch is imported."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vtg.demo.tiny_model import TINY_QWEN3_VL
from vtg.errors import ConfigError, RunError
from vtg.models.hub import find_model

ROOT = Path(__file__).parents[2]
NAME = "Qwen/Qwen3-VL-2B-Instruct"
NOWHERE = "http://127.0.0.1:9"  # the port of discard, where nobody listens


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environ = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"} | environment
    command = (sys.executable, "-X", "importtime", *command)
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environ, check=False)


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (["train_sft.py", f"model.path={NAME}"], "model.path"),
        (["train_rl.py", f"model.path={NAME}"], "model.path"),
        (["-m", "vtg.doctor", f"model.path={NAME}"], "model.path"),
        (["-m", "vtg.predict", f"checkpoint={NAME}", "data=demo"], "checkpoint"),
    ],
)
def test_a_hub_that_does_not_answer_is_asked_once_and_the_error_says_how_to_fetch(command, key, tmp_path):
    done = run(*command, HF_ENDPOINT=NOWHERE, HF_HOME=str(tmp_path))
    lines = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert lines == [
        f"error: {key} = {NAME!r}: neither a folder nor a model that was fetched to this machine, and {NOWHERE} does "
        f"not answer (HF_HUB_OFFLINE=1: do not ask it); fetch it where there is a network (hf download {NAME} "
        f"--local-dir FOLDER) and give that folder: {key}=FOLDER"
    ]
    assert done.returncode == 2
    assert not any(line.endswith((" torch", " transformers")) for line in done.stderr.splitlines())


def test_what_was_fetched_before_is_used_where_the_hub_does_not_answer(tmp_path):
    repository = tmp_path / "hub" / "models--Qwen--Qwen3-VL-2B-Instruct"
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    shutil.copy(TINY_QWEN3_VL / "config.json", repository / "snapshots" / "abc" / "config.json")
    code = (
        f"from vtg.models.hub import find_model\nfind_model({NAME!r})\n"
        "from huggingface_hub.constants import HF_HUB_OFFLINE\nprint(HF_HUB_OFFLINE)"
    )
    done = run("-c", code, HF_ENDPOINT=NOWHERE, HF_HOME=str(tmp_path))
    assert done.stdout == "True\n", done.stderr


def test_offline_is_said_where_it_was_asked_for(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match="and HF_HUB_OFFLINE is set; fetch it where there is a network"):
        find_model("nobody/nothing")


@pytest.fixture(scope="module")
def qwen2_vl(tmp_path_factory) -> Path:
    """A tiny Qwen2-VL with random weights, and the processor of a Qwen3-VL."""
    from transformers import AutoProcessor, Qwen2VLConfig, Qwen2VLForConditionalGeneration

    folder = tmp_path_factory.mktemp("models") / "tiny_qwen2_vl"
    text = {
        **{"vocab_size": 1024, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2},
        **{"num_attention_heads": 2, "num_key_value_heads": 1, "bos_token_id": None, "eos_token_id": None},
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
    }
    vision = {"depth": 1, "embed_dim": 32, "hidden_size": 64, "num_heads": 2}
    Qwen2VLForConditionalGeneration(Qwen2VLConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    AutoProcessor.from_pretrained(TINY_QWEN3_VL).save_pretrained(folder)
    return folder


def test_a_family_that_was_not_tried_is_refused_by_its_type(qwen2_vl):
    from vtg.memory.parameters import empty_model
    from vtg.models.loading import load_processor

    said = (
        rf"model '{qwen2_vl}' is of the type 'qwen2_vl', with which vtg was not tried: .*; supported types: qwen3_5 "
        r"\(Qwen3\.5\), qwen3_5_moe \(Qwen3\.5\), qwen3_vl \(Qwen3-VL\), qwen3_vl_moe \(Qwen3-VL\), "
        r"qwen2_5_vl \(Qwen2\.5-VL\)"
    )
    for refuse in (find_model, load_processor, lambda path: empty_model(path, None)):
        with pytest.raises(ConfigError, match=said):
            refuse(str(qwen2_vl))
    done = run("train_sft.py", f"model.path={qwen2_vl}")
    lines = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert len(lines) == 1 and "is of the type 'qwen2_vl'" in lines[0] and done.returncode == 2


def test_a_config_that_is_none_is_named(tmp_path):
    (tmp_path / "model.safetensors").touch()
    for text in ("", "[1]", "{"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ConfigError, match=r"config\.json: not the config of a model"):
            find_model(str(tmp_path))
    find_model("tiny")


@pytest.mark.parametrize("size", [0, 4, 2000])
def test_a_safetensors_file_that_is_not_whole_is_named(size, tmp_path):
    from vtg.config.model_settings import ModelConfig
    from vtg.models.loading import load_model

    shutil.copytree(TINY_QWEN3_VL, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    os.truncate(file, size)
    with pytest.raises(RunError) as error:
        load_model(ModelConfig(path=str(tmp_path / "model")))
    assert str(error.value).startswith(f"{file}: not a whole safetensors file (")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["model_type"] == "qwen3_vl"
