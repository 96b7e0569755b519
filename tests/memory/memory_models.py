"""Models with random weights of which memory is measured: the tiny ones, and larger ones whose activations outweigh."""

from pathlib import Path

import torch
from tiny_models import save_tiny


def build_medium(folder: Path) -> Path:
    """A random Qwen3-VL of 66 million parameters, with the tiny one's processor."""
    from transformers import AutoProcessor, Qwen3VLConfig, Qwen3VLForConditionalGeneration

    from vtg.demo.tiny_model import TINY_QWEN3_VL

    config = Qwen3VLConfig.from_pretrained(TINY_QWEN3_VL).to_dict()
    config["text_config"] |= {
        "vocab_size": 16384,
        "hidden_size": 512,
        "intermediate_size": 1536,
        "num_hidden_layers": 10,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [12, 10, 10]},
    }
    config["text_config"].pop("layer_types", None)
    config["vision_config"] |= {
        "depth": 8,
        "hidden_size": 384,
        "intermediate_size": 1536,
        "num_heads": 6,
        "out_hidden_size": 512,
        "num_position_embeddings": 256,
        "deepstack_visual_indexes": [1, 3, 5],
    }
    torch.manual_seed(0)
    Qwen3VLForConditionalGeneration(Qwen3VLConfig.from_dict(config)).save_pretrained(folder)
    AutoProcessor.from_pretrained(TINY_QWEN3_VL).save_pretrained(folder)
    return folder


def build_larger(model_type: str, folder: Path, *, width: int = 64) -> Path:
    """A random model of a family, wider and deeper than its tiny one, so that activations outweigh the rest.

    `width`: of Molmo2's tower.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

    save_tiny(model_type, folder)
    config = AutoConfig.from_pretrained(folder)
    text = config.text_config
    text.hidden_size = 256
    if model_type == "molmo2":
        tower, adapter = config.vision_config, config.adapter_config
        tower.num_hidden_layers, tower.hidden_size, tower.intermediate_size = 8, width, 3 * width
        tower.head_dim = adapter.head_dim = width // 2
        adapter.vision_feature_layer, adapter.hidden_size, adapter.intermediate_size = [7, 5], width, 768
        adapter.text_hidden_size = 256
    else:
        config.vision_config.out_hidden_size = 256
    text.num_hidden_layers, text.intermediate_size = 8, 768
    text.num_attention_heads, text.num_key_value_heads, text.head_dim = 8, 2, 32
    if model_type.startswith("qwen3_5"):
        text.layer_types = (["linear_attention"] * 3 + ["full_attention"]) * 2
        text.linear_num_key_heads, text.linear_num_value_heads = 4, 8
        text.linear_key_head_dim = text.linear_value_head_dim = 32
    if model_type == "qwen2_5_vl":
        text.layer_types = ["full_attention"] * 8
        text.rope_parameters = text.rope_parameters | {"mrope_section": [4, 6, 6]}
    if "moe" in model_type:
        text.num_experts, text.num_experts_per_tok, text.moe_intermediate_size = 16, 4, 192
        if model_type == "qwen3_5_moe":
            text.shared_expert_intermediate_size = 192
    torch.manual_seed(0)
    AutoModelForImageTextToText.from_config(config).save_pretrained(folder)
    AutoProcessor.from_pretrained(folder).save_pretrained(folder)
    return folder


def build(model: str, folder: Path) -> str:
    """What `model.path` is for a model of `CASES`, built in `folder` where it does not come with the package."""
    if model == "tiny" or folder.is_dir():
        return "tiny" if model == "tiny" else str(folder)
    if model == "medium":
        return str(build_medium(folder))
    if model == "molmo2 with a wide tower":
        return str(build_larger("molmo2", folder, width=512))
    if model.startswith("larger "):
        return str(build_larger(model.removeprefix("larger "), folder))
    save_tiny(model, folder)
    return str(folder)
