"""Tiny Qwen-VL models of the real classes: real config, real processor, real special tokens, a few million weights.

The tiny Qwen3-VL that ships in `tiny_qwen3_vl/` is built here and trained by `python -m vtg.demo.pretrain`; the tiny
Qwen2.5-VL has random weights and serves tests. Both load with transformers alone.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex as TokenizersRegex
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

TINY_QWEN3_VL = Path(__file__).parent / "tiny_qwen3_vl"
"""The pretrained tiny model's folder, as `from_pretrained` reads it."""

SPECIAL_TOKENS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"),
    *("<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)
"""Qwen's special tokens, in Qwen's order."""

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' }}
{%- if message.content is string -%}{{ message.content }}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'video' -%}{{ '<|vision_start|><|video_pad|><|vision_end|>' }}
{%- elif part.type == 'image' -%}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}
{%- elif part.type == 'text' -%}{{ part.text }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{ '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""
"""ChatML as Qwen-VL writes it, without tools and system defaults."""


# 1024 tokens: each adds a row of the embedding, which is the largest weight of a model this small.
def train_tokenizer(texts: Iterable[str], *, vocab_size: int = 1024) -> Qwen2Tokenizer:
    """A byte-level BPE tokenizer of Qwen's class and pre-tokenisation (single digits), learned from `texts`."""
    tokenizer = Tokenizer(models.BPE())
    # Qwen's own rule splits numbers into digits: times are read and written digit by digit, as in the real models.
    split = pre_tokenizers.Split(TokenizersRegex(PRETOKENIZE_REGEX), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    return Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=[tuple(merge) for merge in learned["merges"]],  # type: ignore[arg-type]
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",  # never met: bytes cover all text
        extra_special_tokens=list(SPECIAL_TOKENS),
        model_max_length=32768,
    )


def build_qwen3_vl(tokenizer: Qwen2Tokenizer) -> tuple[Qwen3VLForConditionalGeneration, Qwen3VLProcessor]:
    """A tiny Qwen3-VL with random weights, in float32, and its processor."""
    ids = vision_ids(tokenizer)
    width = 192
    config = Qwen3VLConfig(
        text_config=dict(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=512,
            num_hidden_layers=5,  # one more than the auxiliary losses of pretraining speak to
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=48,
            max_position_embeddings=32768,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [8, 8, 8]},
        ),
        vision_config=dict(
            depth=2,
            hidden_size=96,
            intermediate_size=192,
            num_heads=3,
            out_hidden_size=width,
            num_position_embeddings=64,
            deepstack_visual_indexes=[0],  # a DeepStack path, so that tests go through its merger too
        ),
        tie_word_embeddings=True,
        **ids,  # type: ignore[arg-type]
    )
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=16, image_mean=[0.5] * 3, image_std=[0.5] * 3),
        tokenizer=tokenizer,
        # Budgets hold for each frame, as vtg plans them: see vtg.export.standalone for what the processor can be told.
        video_processor=Qwen3VLVideoProcessor(cap_pixels_per_frame=True),
        chat_template=CHAT_TEMPLATE,
    )
    return ready(Qwen3VLForConditionalGeneration(config), tokenizer), processor


def build_qwen2_5_vl(tokenizer: Qwen2Tokenizer) -> tuple[Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor]:
    """A tiny Qwen2.5-VL with random weights, in float32, and its processor."""
    ids = vision_ids(tokenizer)
    width = 64
    config = Qwen2_5_VLConfig(
        text_config=dict(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=32768,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,  # the config's default ids lie beyond this vocabulary
            eos_token_id=tokenizer.eos_token_id,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
        ),
        vision_config=dict(
            depth=2,
            hidden_size=32,
            intermediate_size=64,
            num_heads=2,
            out_hidden_size=width,
            fullatt_block_indexes=[1],
            window_size=56,
            tokens_per_second=2,
        ),
        tie_word_embeddings=True,
        **ids,  # type: ignore[arg-type]
    )
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=CHAT_TEMPLATE,
    )
    return ready(Qwen2_5_VLForConditionalGeneration(config), tokenizer), processor


def vision_ids(tokenizer: Qwen2Tokenizer) -> dict[str, int]:
    """The ids of the tokens around and in place of pixels, as configs call them."""
    names = dict(
        image_token_id="<|image_pad|>",
        video_token_id="<|video_pad|>",
        vision_start_token_id="<|vision_start|>",
        vision_end_token_id="<|vision_end|>",
    )
    return {key: tokenizer.get_vocab()[token] for key, token in names.items()}


def ready(model, tokenizer: Qwen2Tokenizer):
    """The model, told where answers end."""
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model
