"""What the model's layers do not allow is refused before its weights are read."""

import re
import shutil

import pytest
import rl_runs
import sft_runs
from transformers import AutoConfig

from vtg.config.model_settings import LoraConfig, ModelConfig, PartsConfig
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.errors import ConfigError
from vtg.models.adapting import prepare_training
from vtg.models.checkpoint import Settings, resolve_checkpoint, save_settings
from vtg.models.loading import load_model
from vtg.training.model_check import check_model

WRONG = {
    "lora.target_modules=[qkv_proj]": "lora.target_modules = ['qkv_proj']: ['qkv_proj'] match no linear layer",
    "parts.language_blocks=99": "parts.language_blocks = 99: there are ",
    "parts.experts=lora": "parts.experts = 'lora': the model is dense",
    "parts.head=full": "parts.head = 'full': the head of this model is tied to the embeddings",
    "parts.vision_lr=1e-5": "parts.vision_lr = 1e-05: no parameter of the vision group is trained",
}


@pytest.mark.parametrize("word", WRONG)
def test_what_the_layers_do_not_allow_needs_no_weights_to_be_found(word, tiny_dir, demo_dir, tmp_path):
    folder = tmp_path / "without_weights"
    folder.mkdir()
    for file in tiny_dir("qwen3_vl").iterdir():
        if file.suffix in (".json", ".jinja", ".txt"):
            (folder / file.name).write_bytes(file.read_bytes())
    (folder / "model.safetensors").touch()  # whoever reads it fails
    config = sft_runs.compose(sft_runs.overrides(demo_dir, tmp_path / "run", f"model.path={folder}", word))
    with pytest.raises(ConfigError, match=re.escape(WRONG[word])):
        check_model(config)


def test_an_adapter_of_a_model_of_another_size_needs_no_weights_to_be_refused(demo_dir, tmp_path):
    model, processor = load_model(ModelConfig(path="tiny"))
    adapter, base = tmp_path / "adapter", tmp_path / "base"
    prepare_training(model, PartsConfig(), LoraConfig(r=4)).save_pretrained(adapter)
    processor.save_pretrained(adapter)
    shutil.copytree(resolve_checkpoint("tiny"), base)
    (base / "model.safetensors").write_bytes(b"")
    config = AutoConfig.from_pretrained(base)
    config.text_config.intermediate_size *= 2
    config.save_pretrained(base)
    save_settings(Settings(ModelConfig(path=str(base)), VideoConfig(), TaskConfig()), adapter)
    words = sft_runs.overrides(demo_dir, tmp_path / "run", f"model.path={adapter}")
    with pytest.raises(ConfigError, match=f"^{adapter}: the adapter does not fit its base model {base}: "):
        check_model(sft_runs.compose(words))


def test_vllm_is_not_given_a_mixture_of_experts(tiny_dir, demo_dir, tmp_path):
    words = rl_runs.overrides(demo_dir, tmp_path / "run", f"model.path={tiny_dir('qwen3_vl_moe')}")
    check_model(rl_runs.compose(words))
    with pytest.raises(ConfigError, match=r"rollout\.engine = 'vllm': \S+ is a mixture of experts, with which vLLM"):
        check_model(rl_runs.compose([*words, "rollout.engine=vllm"]))


def test_that_experts_are_not_quantized_is_said_before_they_are_loaded(tiny_dir, demo_dir, tmp_path, caplog):
    pytest.importorskip("bitsandbytes")
    words = sft_runs.overrides(demo_dir, tmp_path / "run", f"model.path={tiny_dir('qwen3_vl_moe')}", "lora=qlora")
    check_model(sft_runs.compose(words))
    assert "bitsandbytes leaves experts as they are, 28 % of this model's parameters" in caplog.text


def test_rows_that_zero_3_would_share_out_are_refused_beside_lora(tmp_path):
    words = ["data=demo", "task=tokens", "deepspeed=zero3", f"output_dir={tmp_path}"]
    with pytest.raises(ConfigError, match="the rows of temporal tokens were not tried under ZeRO-3; set deepspeed"):
        check_model(sft_runs.compose(words))
