"""The sizes of the hub models that conf/model names, so that their memory can be estimated offline."""

from typing import Any

from transformers import PretrainedConfig, Qwen2_5_VLConfig, Qwen3VLConfig


def _qwen3_vl(
    *, hidden: int, ffn: int, layers: int, heads: int, tied: bool, tower: tuple[int, int, int], deepstack: list[int]
) -> dict[str, Any]:
    depth, width, inner = tower
    return {
        "text_config": {
            "vocab_size": 151936,
            "hidden_size": hidden,
            "intermediate_size": ffn,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            # The same in all three sizes, as head_dim is: a token of KV cache costs 2B as much a layer as 8B.
            "num_key_value_heads": 8,
            "head_dim": 128,
            "tie_word_embeddings": tied,
        },
        "vision_config": {
            "depth": depth,
            "hidden_size": width,
            "intermediate_size": inner,
            "num_heads": 16,
            "out_hidden_size": hidden,
            "num_position_embeddings": 2304,  # a 48 x 48 grid of learned positions, interpolated to the frame
            "deepstack_visual_indexes": deepstack,
        },
        "tie_word_embeddings": tied,
    }


def _qwen2_5_vl(
    *, vocab: int, hidden: int, ffn: int, layers: int, heads: int, key_heads: int, tied: bool
) -> dict[str, Any]:
    return {
        "text_config": {
            "vocab_size": vocab,
            "hidden_size": hidden,
            "intermediate_size": ffn,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": key_heads,
            "tie_word_embeddings": tied,
        },
        "vision_config": {
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": hidden,
        },
        "tie_word_embeddings": tied,
    }


# (depth, width, MLP width): 2B and 4B see through one vision tower, 8B through a larger one.
_SMALL_TOWER, _LARGE_TOWER = (24, 1024, 4096), (27, 1152, 4304)

# What these sizes add up to is tested against the parameter counts on the hub's model pages.
PUBLISHED_CONFIGS: dict[str, tuple[type[PretrainedConfig], dict[str, Any]]] = {
    "Qwen/Qwen3-VL-2B-Instruct": (
        Qwen3VLConfig,
        _qwen3_vl(hidden=2048, ffn=6144, layers=28, heads=16, tied=True, tower=_SMALL_TOWER, deepstack=[5, 11, 17]),
    ),
    "Qwen/Qwen3-VL-4B-Instruct": (
        Qwen3VLConfig,
        _qwen3_vl(hidden=2560, ffn=9728, layers=36, heads=32, tied=True, tower=_SMALL_TOWER, deepstack=[5, 11, 17]),
    ),
    "Qwen/Qwen3-VL-8B-Instruct": (
        Qwen3VLConfig,
        _qwen3_vl(hidden=4096, ffn=12288, layers=36, heads=32, tied=False, tower=_LARGE_TOWER, deepstack=[8, 16, 24]),
    ),
    "Qwen/Qwen2.5-VL-3B-Instruct": (
        Qwen2_5_VLConfig,
        _qwen2_5_vl(vocab=151936, hidden=2048, ffn=11008, layers=36, heads=16, key_heads=2, tied=True),
    ),
    "Qwen/Qwen2.5-VL-7B-Instruct": (
        Qwen2_5_VLConfig,
        _qwen2_5_vl(vocab=152064, hidden=3584, ffn=18944, layers=28, heads=28, key_heads=4, tied=False),
    ),
}
"""Hub name → config class and those values of its config.json that memory depends on."""


def published_config(name: str) -> PretrainedConfig | None:
    """The config of a hub model, as far as memory depends on it; None for a name that is not in `PUBLISHED_CONFIGS`."""
    if name not in PUBLISHED_CONFIGS:
        return None
    cls, numbers = PUBLISHED_CONFIGS[name]
    return cls(**numbers)
