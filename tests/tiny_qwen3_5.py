"""A tiny Qwen3.5 with random weights, for tests: every layer of the real classes, Gated DeltaNet included.

Its chat template is Qwen3.5's without tools: thoughts are written before an answer, and thinking can be switched off.
"""

import math
from typing import Any

import torch
from transformers import (
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5MoeConfig,
    Qwen3_5MoeForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from vtg.demo.tiny_model import CHAT_TEMPLATE, ready, vision_ids

THOUGHTS = ("<think>", "</think>")
"""Tokens of their own in Qwen3.5's vocabulary, which are text and not special."""

_ANSWER = "{{ '<|im_start|>' + message.role + '\\n' }}\n"
_PROMPT = "{{ '<|im_start|>assistant\\n' }}"

QWEN3_5_TEMPLATE = CHAT_TEMPLATE.replace(
    _ANSWER, _ANSWER + "{%- if message.role == 'assistant' -%}{{ '<think>\\n\\n</think>\\n\\n' }}{%- endif -%}\n"
).replace(
    _PROMPT,
    _PROMPT + "{%- if enable_thinking is defined and enable_thinking is false -%}{{ '<think>\\n\\n</think>\\n\\n' }}"
    "{%- else -%}{{ '<think>\\n' }}{%- endif -%}",
)
"""As that of the sizes that think unless they are told not to."""


def build_qwen3_5(
    tokenizer: Qwen2Tokenizer, *, experts: int = 0
) -> tuple[Qwen3_5ForConditionalGeneration | Qwen3_5MoeForConditionalGeneration, Qwen3VLProcessor]:
    """A tiny Qwen3.5 in float32, and its processor; `tokenizer` gets the tokens around thoughts.

    `experts`: of a mixture in place of each MLP of the language model, 0 for the dense model.
    """
    tokenizer.add_tokens(list(THOUGHTS))
    width = 64
    text: dict[str, Any] = dict(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=96,
        num_hidden_layers=4,  # three Gated DeltaNet layers, then one of attention
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        max_position_embeddings=32768,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.5,
            "mrope_section": [4, 2, 2],
            "mrope_interleaved": True,
        },
    )
    vision = dict(
        depth=2,
        hidden_size=32,
        intermediate_size=64,
        num_heads=2,
        out_hidden_size=width,
        num_position_embeddings=64,
    )
    shared: dict[str, Any] = dict(vision_config=vision, tie_word_embeddings=True, **vision_ids(tokenizer))
    if experts:
        text |= dict(
            num_experts=experts,
            num_experts_per_tok=2,
            moe_intermediate_size=32,
            shared_expert_intermediate_size=32,
        )
        model = Qwen3_5MoeForConditionalGeneration(Qwen3_5MoeConfig(text_config=text, **shared))
    else:
        model = Qwen3_5ForConditionalGeneration(Qwen3_5Config(text_config=text, **shared))
    for name, parameter in model.named_parameters():
        if name.endswith("A_log"):
            # transformers draws rates by which a state is forgotten after two tokens: nothing would hang on what a
            # layer carries over. Trained models have heads that remember; here from 5 to 500 tokens.
            torch.nn.init.uniform_(parameter, math.log(0.0015), math.log(0.15))
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=16, image_mean=[0.5] * 3, image_std=[0.5] * 3),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(cap_pixels_per_frame=True),
        chat_template=QWEN3_5_TEMPLATE,
    )
    return ready(model, tokenizer), processor
