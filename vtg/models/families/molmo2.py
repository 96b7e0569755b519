"""Molmo2: before every frame stands its own time, `1.5 <frame_start>`, and every frame is one square of fixed size.

All vision tokens of a clip attend to each other both ways, those of later frames and the tokens that open and close a
frame included; times and the rest of the text attend to what is before them.

Its chat template puts the video first, wherever it stands in the message; a blank before a training answer that no
prompt has, and no end after it. So a training conversation is made of the prompt, the answer and the end of the turn.
"""

from typing import Any

from vtg.models.families.family import FrameOptions, ModelFamily, PixelLimits, TimeStamps
from vtg.models.families.qwen_tokens import ASSISTANT_START, TURN_END
from vtg.models.families.token_cost import TokenCost


def _frame_options(video_processor: Any) -> FrameOptions:
    factor = video_processor.patch_size * video_processor.pooling_size[0]
    return {"factor": factor, "temporal_patch": 1, "side": video_processor.size["height"]}


def _limits(clip: PixelLimits) -> dict[str, Any]:
    # Of `fps` this processor takes as many frames as there are; it thins them to `num_frames` only where `fps` is None.
    return {"fps": None, "max_fps": clip.fps, "num_frames": clip.max_frames}


MOLMO2 = ModelFamily(
    name="molmo2",
    title="Molmo2",
    model_types=("molmo2",),
    processor="Molmo2Processor",
    # A blank parts a frame from the time of the next.
    stamps=TimeStamps(before="{} <frame_start>", after="<frame_end> ", decimals=1),
    assistant_start=ASSISTANT_START,
    turn_end=TURN_END,
    vision_tokens=(
        *("<|video|>", "<|image|>", "<im_patch>", "<im_start>", "<im_end>", "<im_col>", "<low_res_im_start>"),
        *("<im_low>", "<frame_start>", "<frame_end>"),
    ),
    # `12345.6 <frame_start>` and `<frame_end> `: digits and blanks are tokens of their own.
    token_cost=TokenCost(factor=42, temporal_patch=1, side=378, stamp_tokens=11),
    tower=("vision_tower",),
    projector=("multi_modal_projector",),
    language=("language_model", "lm_head"),
    gated_tower=False,
    norms_queries=True,
    processor_limits=_limits,
    processor_differs="resizes them without antialiasing",
    vllm_obstacle="lets the tokens of a clip attend both ways, with which vLLM was not tried",
    both_ways=True,
    mrope=False,
    vision_inputs=("pixel_values_videos", "video_token_pooling", "video_grids"),
    grid_merge=1,
    pooling="video_token_pooling",
    frame_options=_frame_options,
    ends_answer=False,
    stills_as_clips=False,
    transformers=(5, 24),
)
