"""Questions about one clip share what they begin with, and are answered as each alone is."""

import copy
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import greedy_config

from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import encode, patch_factor
from vtg.data.question_encoding import encode_questions
from vtg.decoding.prompt_sequence import Prompt
from vtg.decoding.sampling import forward_log_probs, sample
from vtg.evaluation.answering import answering_engine, clip_prompts
from vtg.tasks.span_task import SpanTask

QUERIES = ("a person sits down", "it", "the door is opened, then closed again")
ROOM = 8


@pytest.fixture
def questions(vlm, make_clip) -> list:
    """Three about one clip, one about another, and one about the first again, which is read anew."""
    task, side = SpanTask(TaskConfig()), 2 * patch_factor(vlm.processor)
    clips = [make_clip([0.0, 0.5, 1.0, 1.5, 2.0, 2.5], size=(side, side), seed=seed) for seed in (1, 2)]
    asked = [task.conversation(query, duration_s=3.0) for query in QUERIES]
    first = encode_questions(vlm.processor, asked, clips[0])
    return [*first, encode(vlm.processor, asked[1], clips[1]), encode(vlm.processor, asked[2], clips[0])]


def test_answers_with_a_shared_beginning_are_those_of_generate(vlm, questions):
    torch.manual_seed(3)
    linear = r".*language_model.*(q|k|v|o|up|down|gate)_proj"
    config = LoraConfig(r=4, target_modules=linear, init_lora_weights=False)  # the answers of tiny models are alike
    model = get_peft_model(copy.deepcopy(vlm.model), config).eval()
    pad = vlm.processor.tokenizer.pad_token_id
    config = greedy_config(vlm.processor, max_new_tokens=ROOM)
    expected = [sample(model, [Prompt(one)], config, n=1, pad_token_id=pad)[0] for one in questions]
    read = []
    hook = model.get_base_model().model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: read.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
    )
    try:
        answers = answering_engine(model, vlm.processor, max_new_tokens=ROOM, at_once=2)
        found = {one.request: one for one in answers.decode(clip_prompts(model, questions, [3.0] * 5))}
    finally:
        hook.remove()
    assert [found[at].tokens for at in range(5)] == expected
    for at, question in enumerate(questions):
        told = forward_log_probs(model, Prompt(question), expected[at], pad_token_id=pad, share=False)
        assert found[at].log_probs == pytest.approx(told, abs=1e-4)
    assert len({tuple(one.log_probs) for one in found.values()}) >= 4  # the last asks what the third does
    lengths = [len(one["input_ids"]) - 1 for one in questions]
    common = int(questions[0]["mm_token_type_ids"].nonzero()[-1]) + 1
    prefilled = sum(one for one in read if one > 1)
    assert prefilled == sum(lengths) - 2 * common  # of three questions about a clip, two find it read
    prompts = answers._stepper.prompts
    assert prompts._known is None  # weights may be others at the next call


def test_as_many_questions_are_in_flight_as_take_what_so_many_of_the_first_do(qwen3_vl, make_clip):
    task = SpanTask(TaskConfig())
    clips = [make_clip([0.5 * at for at in range(frames)]) for frames in (120, 120, *[4] * 12)]
    questions = [encode(qwen3_vl.processor, task.conversation("it", duration_s=60.0), clip) for clip in clips]
    long, short = (len(questions[at]["input_ids"]) for at in (0, -1))
    assert long > 6 * 128 and short < 128
    answers = answering_engine(qwen3_vl.model, qwen3_vl.processor, max_new_tokens=ROOM, at_once=2)
    found = list(answers.decode(clip_prompts(qwen3_vl.model, questions, [60.0] * len(questions))))
    assert len(found) == len(questions) and answers.peak.rows > 4
    pool = answers._stepper.pool
    assert pool is not None
    assert answers.peak.bytes <= pool.bytes_of(pages=1 + 2 * -(-long // 128), rows=2)


@torch.no_grad()
def test_a_clip_with_padding_frames_is_read_for_each_question(qwen3_vl, make_clip):
    task, clip = SpanTask(TaskConfig()), replace(make_clip([0.0, 0.5]), pad=2)
    questions = encode_questions(qwen3_vl.processor, [task.conversation(q, duration_s=1.0) for q in QUERIES], clip)
    prompts = list(clip_prompts(qwen3_vl.model, questions, [1.0] * 3))  # type: ignore[arg-type]
    assert [one.common for one in prompts] == [0, 0, 0] and len({id(one.encoded) for one in prompts}) == 1
