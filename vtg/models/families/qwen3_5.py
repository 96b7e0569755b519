"""Qwen3.5 (and 3.6, 3.8, which load as the same class): times as Qwen3-VL tells them; three of four layers of its
language model are Gated DeltaNet, a convolution of four tokens and a recurrent state; there is no DeepStack.

Its processor is Qwen3-VL's by class; the chat template, which can switch thinking off, tells them apart. It is switched
off: the template then writes an empty thought before the answer, in a training conversation as after a prompt. With
it on, a prompt would end inside a thought that no training conversation has. `task.think` asks for one in the answer.
"""

from vtg.models.families.family import ModelFamily
from vtg.models.families.qwen3_vl import QWEN3_VL
from vtg.models.families.qwen_tokens import ASSISTANT_START, TURN_END, VISION_TOKENS

QWEN3_5 = ModelFamily(
    name="qwen3_5",
    title="Qwen3.5",
    model_types=("qwen3_5", "qwen3_5_moe"),
    processor=QWEN3_VL.processor,
    stamps=QWEN3_VL.stamps,
    assistant_start=ASSISTANT_START,
    empty_thought="<think>\n\n</think>\n\n",
    turn_end=TURN_END,
    vision_tokens=VISION_TOKENS,
    token_cost=QWEN3_VL.token_cost,
    tower=("visual",),
    projector=("visual.merger",),
    language=("language_model", "lm_head"),
    gated_tower=False,
    norms_queries=True,
    processor_limits=QWEN3_VL.processor_limits,
    processor_differs=QWEN3_VL.processor_differs,
    vllm_obstacle="has recurrent layers, with which vLLM was not tried",
    template_mark="enable_thinking",
    template_options={"enable_thinking": False},
    recurrent="linear_attn",
)
