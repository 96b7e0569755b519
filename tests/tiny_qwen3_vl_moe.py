"""A tiny Qwen3-VL of experts: of every layer of the language model but the first, the MLP is a mixture of eight."""

from transformers import Qwen2Tokenizer, Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration, Qwen3VLProcessor

from vtg.demo.tiny_model import build_qwen3_vl, ready, vision_ids


def build_qwen3_vl_moe(tokenizer: Qwen2Tokenizer) -> tuple[Qwen3VLMoeForConditionalGeneration, Qwen3VLProcessor]:
    """One with random weights, in float32, and the processor of the dense model, which is of the same class."""
    width = 64
    config = Qwen3VLMoeConfig(
        text_config=dict(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=96,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            num_experts=8,
            num_experts_per_tok=2,
            moe_intermediate_size=32,
            mlp_only_layers=[0],  # so that both kinds of MLP are met
            max_position_embeddings=32768,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [6, 5, 5]},
        ),
        vision_config=dict(
            depth=2,
            hidden_size=32,
            intermediate_size=64,
            num_heads=2,
            out_hidden_size=width,
            num_position_embeddings=64,
            deepstack_visual_indexes=[0],
        ),
        tie_word_embeddings=True,
        **vision_ids(tokenizer),  # type: ignore[arg-type]
    )
    return ready(Qwen3VLMoeForConditionalGeneration(config), tokenizer), build_qwen3_vl(tokenizer)[1]
