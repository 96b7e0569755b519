"""A tiny Molmo2 with random weights, of the real classes: tokens, chat template and video processor as published."""

from transformers import Qwen2Tokenizer

from vtg.demo.tiny_model import ready

FRAME_TOKENS = (
    *("<im_start>", "<im_end>", "<im_patch>", "<im_col>", "<low_res_im_start>", "<|image|>", "<im_low>"),
    *("<frame_start>", "<frame_end>", "<|video|>"),
)
"""In Molmo2's order, after the vocabulary: its head has no rows for them, so that it cannot write them."""

TEMPLATE = (
    "{% for message in messages %}{% if message.content is not string %}{% for part in message.content %}"
    "{% if part.type == 'image' %}{{ '<|image|>' }}{% elif part.type == 'video' %}{{ '<|video|>' }}{% endif %}"
    "{% endfor %}{% endif %}{% endfor %}"
    "{% for message in messages %}{% set text = namespace(value='') %}"
    "{% if message.content is string %}{% set text.value = message.content %}{% else %}"
    "{% for part in message.content %}{% if part.type == 'text' %}"
    "{% set text.value = text.value ~ ('' if not text.value else ' ') ~ part.text %}{% endif %}{% endfor %}{% endif %}"
    "{% if message.role == 'user' %}{% if not loop.first %}{{ '<|im_end|>\\n' }}{% endif %}"
    "{{ '<|im_start|>user\\n' }}{{ text.value }}{{ '<|im_end|>\\n' }}"
    "{% else %} {{ '<|im_start|>assistant\\n' }}{{ text.value }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""Writes what the published one does: all media first, a blank before an answer, no end after the last."""


def build_molmo2(tokenizer: Qwen2Tokenizer):
    """One in float32, and its processor; `tokenizer` gets the tokens around frames."""
    # transformers has them from 5.24 on.
    from transformers import (
        Molmo2Config,
        Molmo2ForConditionalGeneration,
        Molmo2ImageProcessor,
        Molmo2Processor,
        Molmo2VideoProcessor,
    )

    vocabulary, side, patch, width = len(tokenizer), 64, 16, 64
    tokenizer.add_special_tokens({"extra_special_tokens": list(FRAME_TOKENS)}, replace_extra_special_tokens=False)
    tokenizer.bos_token = tokenizer.eos_token  # as the published one has it
    ids = dict(zip(FRAME_TOKENS, tokenizer.convert_tokens_to_ids(list(FRAME_TOKENS)), strict=True))
    config = Molmo2Config(
        text_config=dict(
            vocab_size=vocabulary,
            additional_vocab_size=16,
            hidden_size=width,
            intermediate_size=96,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            max_position_embeddings=32768,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        ),
        vision_config=dict(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=16,
            image_size=[side, side],
            patch_size=patch,
        ),
        adapter_config=dict(
            vision_feature_layer=[2, 0],
            hidden_size=32,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=16,
            intermediate_size=96,
            text_hidden_size=width,
        ),
        image_start_token_id=ids["<im_start>"],
        low_res_image_start_token_id=ids["<low_res_im_start>"],
        image_end_token_id=ids["<im_end>"],
        image_patch_id=ids["<im_patch>"],
        frame_start_token_id=ids["<frame_start>"],
        frame_end_token_id=ids["<frame_end>"],
    )
    size = {"height": side, "width": side}
    processor = Molmo2Processor(
        image_processor=Molmo2ImageProcessor(size=size, patch_size=patch),
        video_processor=Molmo2VideoProcessor(
            size=size, patch_size=patch, pooling_size=[2, 2], image_mean=[0.5] * 3, image_std=[0.5] * 3
        ),
        tokenizer=tokenizer,
        chat_template=TEMPLATE,
    )
    return ready(Molmo2ForConditionalGeneration(config), tokenizer), processor
