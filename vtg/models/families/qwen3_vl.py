"""Qwen3-VL: before every temporal patch stands `<1.2 seconds>`, the mean time of its two frames.

Its mixtures of experts (`qwen3_vl_moe`) have the same processor, times and names of parts.
"""

from typing import Any

from vtg.models.families.family import ModelFamily, PixelLimits, TimeStamps
from vtg.models.families.qwen_tokens import ASSISTANT_START, TURN_END, VISION_TOKENS
from vtg.models.families.token_cost import TokenCost


def _limits(clip: PixelLimits) -> dict[str, Any]:
    # This processor counts the pixels of all frames together, and the tokens of one frame.
    return {
        "size": {"shortest_edge": clip.min_pixels, "longest_edge": clip.total_pixels},
        "max_video_tokens": clip.max_pixels // clip.token_pixels,
    }


QWEN3_VL = ModelFamily(
    name="qwen3_vl",
    title="Qwen3-VL",
    model_types=("qwen3_vl", "qwen3_vl_moe"),
    processor="Qwen3VLProcessor",
    stamps=TimeStamps(before="<{} seconds><|vision_start|>", after="<|vision_end|>", decimals=1),
    assistant_start=ASSISTANT_START,
    turn_end=TURN_END,
    vision_tokens=VISION_TOKENS,
    # `<12345.6 seconds>`: 10 tokens, start and end of vision: 2.
    token_cost=TokenCost(factor=32, temporal_patch=2, side=None, stamp_tokens=12),
    tower=("visual",),
    projector=("visual.merger", "visual.deepstack_merger_list"),
    language=("language_model", "lm_head"),
    gated_tower=False,
    norms_queries=True,
    processor_limits=_limits,
    processor_differs="enlarges frames of fewer than {min_pixels} pixels less",
)
