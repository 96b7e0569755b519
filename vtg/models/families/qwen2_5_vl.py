"""Qwen2.5-VL: temporal M-RoPE ids, `tokens_per_second` of them a second, tell the time of a patch's first frame."""

from typing import Any

from vtg.models.families.family import ModelFamily, PixelLimits
from vtg.models.families.qwen_tokens import ASSISTANT_START, TURN_END, VISION_TOKENS
from vtg.models.families.token_cost import TokenCost


def _limits(clip: PixelLimits) -> dict[str, Any]:
    # This processor counts the pixels of one frame, and of the tokens of a clip it takes 0.9.
    return {
        "size": {"shortest_edge": clip.min_pixels, "longest_edge": clip.max_pixels},
        "max_video_tokens": -(-clip.total_pixels * 10 // (9 * clip.token_pixels * clip.temporal_patch)),
    }


QWEN2_5_VL = ModelFamily(
    name="qwen2_5_vl",
    title="Qwen2.5-VL",
    model_types=("qwen2_5_vl",),
    processor="Qwen2_5_VLProcessor",
    stamps=None,
    assistant_start=ASSISTANT_START,
    turn_end=TURN_END,
    vision_tokens=VISION_TOKENS,
    token_cost=TokenCost(factor=28, temporal_patch=2, side=None, stamp_tokens=0),
    tower=("visual",),
    projector=("visual.merger",),
    language=("language_model", "lm_head"),
    gated_tower=True,
    norms_queries=False,
    processor_limits=_limits,
    processor_differs="tells the model an average rate instead of the time of every frame",
    vllm_obstacle="is told the time by position ids, which vLLM makes of an average frame rate",
)
