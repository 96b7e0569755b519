"""Decoding kept to answers, with real tokenizers and models: greedy and sampled."""

import pytest
import torch
from transformers import GenerationConfig

from vtg.config.model_settings import ModelConfig
from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import encode, frame_options, patch_factor
from vtg.decoding.constrained import Constraint
from vtg.decoding.engine import DecodingEngine
from vtg.decoding.prompt_sequence import Prompt
from vtg.decoding.sampling import sample
from vtg.decoding.token_choice import Sampling
from vtg.evaluation.generate import generate
from vtg.models.loading import load_model, load_processor
from vtg.tasks.answer import Status
from vtg.tasks.answer_grammar import BEGIN
from vtg.tasks.span_task import SpanTask

FORMS = [
    TaskConfig(constrained=True),
    TaskConfig(constrained=True, answer="relative"),
    TaskConfig(constrained=True, answer="bins", num_bins=30),
    TaskConfig(constrained=True, answer="tokens", num_bins=30),
    TaskConfig(constrained=True, answer="tokens", num_bins=30, moments="set"),
]
forms = pytest.mark.parametrize("config", FORMS, ids=lambda config: f"{config.answer} {config.moments}")
ROOM = 30


def loaded(folder, config):
    factor = patch_factor(load_processor(str(folder)))
    return load_model(ModelConfig(path=str(folder), patch_factor=factor, dtype="float32"), task=config)


@forms
def test_tokens_that_are_cut_otherwise_are_allowed_and_every_answer_ends_in_its_room(config):
    processor = loaded("tiny", config)[1]
    task, tokenizer = SpanTask(config), processor.tokenizer
    constraint, draw = Constraint(task, processor), torch.Generator().manual_seed(0)
    for duration_s in (0.05, 9.97, 150.0):
        grammar = constraint.grammar(duration_s)
        for room in (grammar.longest + 1, 60):
            state, written = BEGIN, []
            while True:
                ids = constraint.allowed(grammar, state, room=room - len(written))
                chosen = ids[int(torch.randint(len(ids), (1,), generator=draw))]
                if chosen == constraint.end:
                    break
                written.append(chosen)
                state = constraint.after(grammar, state, chosen)
            answer = task.parse(tokenizer.decode(written), duration_s=duration_s)
            assert answer.status in (Status.OK, Status.NONE) and len(written) < room
            assert constraint.allowed(grammar, None, room=1) == (constraint.end,)
        # As the tokenizer itself cuts an answer.
        ids = tokenizer(task.encode([(0.0, 0.02), (0.03, 0.05)], duration_s=duration_s), add_special_tokens=False)
        state = BEGIN
        for token in ids["input_ids"]:
            assert token in constraint.allowed(grammar, state, room=1000)
            state = constraint.after(grammar, state, token)
        assert constraint.end in constraint.allowed(grammar, state, room=1000)


@pytest.mark.parametrize("model_type", ["qwen3_vl", "qwen2_5_vl", "qwen3_5", "molmo2"])
def test_a_model_that_knows_no_answers_writes_nothing_else(model_type, tiny_dir, make_clip):
    config = FORMS[3]
    model, processor = loaded(tiny_dir(model_type), config)
    options = frame_options(processor)
    size = (options["side"] or 2 * options["factor"],) * 2
    task, clips = SpanTask(config), [make_clip([0.0, 1.0], size=size), make_clip([0.0, 2.0, 4.0, 6.0], size=size)]
    asked = [task.conversation("a red ball", duration_s=clip.duration_s) for clip in clips]
    features = [encode(processor, one, clip) for one, clip in zip(asked, clips, strict=True)]
    durations_s = [clip.duration_s for clip in clips]
    constraint = Constraint(task, processor)
    texts = generate(
        model.eval(), processor, features, max_new_tokens=ROOM, constraint=constraint, durations_s=durations_s
    )
    for text, duration_s in zip(texts, durations_s, strict=True):
        assert task.parse(text, duration_s=duration_s).status == Status.OK, text


@forms
def test_sampled_completions_are_answers(config, make_clip):
    model, processor = loaded("tiny", config)
    task, clips = SpanTask(config), [make_clip([0.0, 1.0]), make_clip([0.0, 2.0, 4.0, 6.0])]
    prompts = [
        Prompt(
            encode(processor, task.conversation("a ball", duration_s=clip.duration_s), clip), duration_s=clip.duration_s
        )
        for clip in clips
    ]
    pad, constraint = processor.tokenizer.pad_token_id, Constraint(task, processor)
    settings = GenerationConfig(
        max_new_tokens=ROOM, do_sample=True, temperature=3.0, pad_token_id=pad, eos_token_id=constraint.end
    )
    torch.manual_seed(0)
    rows = sample(model.eval(), prompts, settings, n=4, pad_token_id=pad, constraint=constraint)
    known = Sampling.of(settings)
    assert known is not None
    groups = DecodingEngine(model.eval(), known, constraint=constraint).complete(prompts, n=4)
    assert all(log_prob > -torch.inf for group in groups for one in group for log_prob in one.log_probs)
    durations_s = [clip.duration_s for clip in clips for _ in range(4)]
    for completions in (rows, [one.tokens for group in groups for one in group]):
        texts = [processor.tokenizer.decode(one, skip_special_tokens=True) for one in completions]
        for text, duration_s in zip(texts, durations_s, strict=True):
            assert task.parse(text, duration_s=duration_s).status in (Status.OK, Status.NONE), text
        assert len(set(texts)) > 2


def test_a_greedy_answer_under_a_constraint_is_that_of_generate(make_clip):
    model, processor = loaded("tiny", FORMS[0])
    task, clip = SpanTask(FORMS[0]), make_clip([0.0, 2.0, 4.0, 6.0])
    prompt = Prompt(encode(processor, task.conversation("a ball", duration_s=6.5), clip), duration_s=6.5)
    pad, constraint = processor.tokenizer.pad_token_id, Constraint(task, processor)
    settings = GenerationConfig(max_new_tokens=ROOM, pad_token_id=pad, eos_token_id=constraint.end)
    expected = sample(model.eval(), [prompt], settings, n=1, pad_token_id=pad, constraint=constraint)
    known = Sampling.of(settings)
    assert known is not None
    [[found]] = DecodingEngine(model.eval(), known, constraint=constraint).complete([prompt])
    assert [found.tokens] == expected
