"""Conversations about still pictures against what transformers itself makes of them."""

import pytest
import torch
from PIL import Image

from vtg.data.encoding import turn_end_id, vision_token_ids
from vtg.data.picture_encoding import encode_pictures
from vtg.decoding.prompt_sequence import Prompt
from vtg.errors import SampleError
from vtg.evaluation.answering import answering_engine

CHAT = [
    {
        "role": "user",
        "content": [
            {"type": "image"},
            {"type": "text", "text": "<1.0 seconds>"},
            {"type": "image"},
            {"type": "text", "text": "When does it get dark?"},
        ],
    }
]
PICTURES = [
    Image.linear_gradient("L").resize((96, 64)).convert("RGB"),
    Image.radial_gradient("L").resize((64, 128)).convert("RGB"),
]


@pytest.mark.parametrize("model_type", ["qwen3_vl", "qwen2_5_vl", "qwen3_5"])
def test_pictures_are_placed_and_answered_as_by_transformers(model_type: str, tiny_vlm):
    model, processor = tiny_vlm(model_type).model, tiny_vlm(model_type).processor
    features = encode_pictures(processor, CHAT, PICTURES)
    inputs = {name: features[name][None] for name in ("input_ids", "attention_mask", "mm_token_type_ids")}
    inputs |= {name: features[name] for name in ("pixel_values", "image_grid_thw")}
    grid = features["image_grid_thw"]
    placed, _ = model.model.get_rope_index(inputs["input_ids"], inputs["mm_token_type_ids"], image_grid_thw=grid)
    assert torch.equal(features["position_ids"][1:], placed[:, 0])
    ends, never = turn_end_id(processor), vision_token_ids(processor)
    with torch.no_grad():
        own = model.generate(**inputs, max_new_tokens=8, do_sample=False, eos_token_id=ends, suppress_tokens=never)
    [[found]] = answering_engine(model, processor, max_new_tokens=8, at_once=1).complete([Prompt(features)])
    assert found.tokens == own[0, len(features["input_ids"]) :].tolist()


def test_a_conversation_may_have_no_picture_and_must_fit(qwen3_vl):
    text = [{"role": "user", "content": [{"type": "text", "text": "Plan it."}]}]
    features = encode_pictures(qwen3_vl.processor, text, [])
    assert torch.equal(features["position_ids"], torch.arange(len(features["input_ids"])).expand(4, -1))
    with pytest.raises(SampleError, match="of 2 pictures\\), but the model takes 9; show it fewer frames"):
        encode_pictures(qwen3_vl.processor, CHAT, PICTURES, max_length=9)
