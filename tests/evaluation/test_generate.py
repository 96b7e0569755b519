"""Answers by generation, whoever reads the clips."""

import json
from copy import copy, deepcopy
from dataclasses import replace
from itertools import chain
from multiprocessing import active_children
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from tiny_models import greedy_config

from vtg.annotations.text_targets import Question
from vtg.config.data_settings import DemoConfig
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.data.grounding_dataset import GroundingDataset, make_provider
from vtg.data.skip_report import Skipped, SkipReport
from vtg.data.splits import read_split
from vtg.decoding import adapter_merging
from vtg.decoding.prompt_sequence import Prompt
from vtg.decoding.sampling import sample
from vtg.demo.demo_dataset import ensure_demo
from vtg.errors import SampleError
from vtg.evaluation.generate import predict
from vtg.evaluation.partial_answers import PartialAnswers
from vtg.evaluation.question_plan import plan_questions
from vtg.evaluation.question_reader import QuestionReader
from vtg.models.loading import tokens_per_second
from vtg.tasks.span_task import SpanTask


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A demo of its own, one video of which is broken."""
    folder = tmp_path_factory.mktemp("broken") / "demo"
    ensure_demo(str(folder), DemoConfig(train_videos=4, test_videos=1, seed=0))
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    (folder / rows[0]["video"]).write_bytes(b"no video")
    return folder


@pytest.fixture
def questions(folder, qwen3_vl, tmp_path) -> GroundingDataset:
    report = SkipReport(tmp_path / "skipped.jsonl", max_bad_share=1.0)
    return GroundingDataset(
        read_split(str(folder / "train.jsonl"), video_dir=str(folder), report=report),
        task=SpanTask(TaskConfig()),
        processor=qwen3_vl.processor,
        provider=make_provider(VideoConfig(), qwen3_vl.processor),
        video_dir=str(folder),
        max_length=4096,
        tokens_per_second=tokens_per_second(qwen3_vl.model),
        training=False,
    )


def test_a_question_that_cannot_be_asked_takes_none_about_its_clip_with_it(questions, folder):
    (folder / "latin.srt").write_bytes("1\n00:00:00,500 --> 00:00:01,500\ncaf\xe9\n".encode("latin-1"))
    shown = questions.samples[-1]
    asked = [replace(shown, target=Question("so", subtitles=said)) for said in (None, str(folder / "latin.srt"), None)]
    first, second, third = questions.questions(asked, questions.clip(shown))
    assert isinstance(second, SampleError) and "latin.srt: is not UTF-8 text (byte 35: 0xe9)" in str(second)
    assert not isinstance(first, SampleError) and not isinstance(third, SampleError)
    assert first["input_ids"].tolist() == third["input_ids"].tolist()


def generated(vlm, features, *, max_new_tokens: int) -> str:
    """The greedy answer to one question, by transformers."""
    pad = vlm.processor.tokenizer.pad_token_id
    config = greedy_config(vlm.processor, max_new_tokens=max_new_tokens)
    (tokens,) = sample(vlm.model, [Prompt(features)], config, n=1, pad_token_id=pad)
    return vlm.processor.tokenizer.decode(tokens, skip_special_tokens=True)


@pytest.mark.parametrize("shuffled_videos", [False, True])
def test_answers_are_those_of_one_question_after_the_other_whoever_reads_clips(qwen3_vl, questions, shuffled_videos):
    told = {"batch_size": 3, "max_new_tokens": 8, "shuffled_videos": shuffled_videos}
    torch.manual_seed(5)
    rows, skipped = predict(qwen3_vl.model, questions, **told)
    drawn = torch.rand(2)
    torch.manual_seed(5)
    ahead, skipped_ahead = predict(qwen3_vl.model, questions, **told, reader=QuestionReader([questions], num_workers=2))
    assert torch.equal(torch.rand(2), drawn)  # training goes on with the same random numbers
    assert ahead == rows and skipped_ahead == skipped
    assert len(rows) + len(skipped) == len(questions) and rows and skipped
    samples, texts = list(questions.samples), {}
    for index in rows:
        later = (*range(index, len(samples)), *range(index))
        clip = next(at for at in later if samples[at].video != samples[index].video) if shuffled_videos else index
        prompt = questions.features(samples[index], questions.clip(samples[clip]))
        texts[index] = generated(qwen3_vl, prompt, max_new_tokens=8)
    assert {index: row["text"] for index, row in rows.items()} == texts and len(set(texts.values())) > 1
    reader = QuestionReader([questions], num_workers=1)
    halves = [predict(qwen3_vl.model, questions, **told, reader=reader, rank=rank, world_size=2) for rank in (0, 1)]
    assert halves[0][0] | halves[1][0] == rows and len(halves[0][1]) + len(halves[1][1]) == len(skipped)
    assert all(part[0] or part[1] for part in halves) and not halves[0][0].keys() & halves[1][0].keys()


def test_what_was_answered_before_is_not_asked_again_in_whatever_order(qwen3_vl, questions, tmp_path):
    told = {"batch_size": 2, "max_new_tokens": 8}
    whole, skipped = predict(qwen3_vl.model, questions, **told)
    before = PartialAnswers(tmp_path / "part", {})
    kept = dict(list(whole.items())[1::3])
    first = next(at for at, sample in enumerate(questions.samples) if sample.qid == skipped[0].qid)
    before.add(kept, {first: skipped[0]})
    again = PartialAnswers(before.path, {})
    asked = []
    again.add = lambda rows, skipped: asked.extend([*rows, *skipped])  # type: ignore[method-assign]
    assert predict(qwen3_vl.model, questions, **told, partial_answers=again) == (whole, skipped)
    assert len(asked) == len(questions) - len(kept) - 1 and not kept.keys() & set(asked)


def test_the_tower_sees_a_clip_once_for_all_questions_about_it(qwen3_vl, questions):
    clips = []
    hook = qwen3_vl.model.model.visual.register_forward_pre_hook(
        lambda module, args, kwargs: clips.append(len(kwargs["grid_thw"])), with_kwargs=True
    )
    try:
        rows, _ = predict(qwen3_vl.model, questions, batch_size=len(questions), max_new_tokens=2)
    finally:
        hook.remove()
    assert clips == [1] * len({row["video"] for row in rows.values()}) and len(clips) < len(rows)


def test_a_reader_starts_its_workers_once_whatever_it_is_asked_and_ends_them_with_itself(questions):
    before = set(active_children())  # an earlier test's may end meanwhile
    reader = QuestionReader([questions, other := copy(questions)], num_workers=2)
    alone = QuestionReader([questions, other])
    assert set(active_children()) <= before  # nothing was asked yet
    plan = plan_questions(questions.samples, questions.provider.config)
    shuffled = plan_questions(other.samples, other.provider.config, shuffled_videos=True)
    started = []
    for dataset, asked in ((questions, plan), (other, shuffled), (questions, plan[1:2])):
        for one in (reader, alone):
            part = one.read(dataset, asked)
            assert [index for index, _ in next(part)] == list(asked[0].asked)
            del part  # given up in the middle
        found, same = (list(one.read(dataset, asked)) for one in (reader, alone))
        assert [tuple(index for index, _ in clip) for clip in found] == [clip.asked for clip in asked]
        for (_, ours), (_, theirs) in zip(chain(*found), chain(*same), strict=True):
            if isinstance(theirs, Skipped):
                assert ours == theirs
            else:
                assert not isinstance(ours, Skipped) and ours.keys() == theirs.keys()
                assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
        for clip in found:  # sent between processes once
            assert len({id(one["pixel_values_videos"]) for _, one in clip if not isinstance(one, Skipped)}) <= 1
        started.append(set(active_children()) - before)
    assert len(started[0]) == 2 and started[0] == started[1] == started[2]
    assert not list(reader.read(questions, []))
    del reader
    assert set(active_children()) <= before


def test_adapters_are_merged_while_it_answers(questions, qwen3_vl, monkeypatch):
    torch.manual_seed(5)
    linear = r".*language_model.*(q|k|v|o|up|down|gate)_proj"
    model = get_peft_model(deepcopy(qwen3_vl.model), LoraConfig(r=4, target_modules=linear, init_lora_weights=False))
    layer = next(layer for layer in model.modules() if isinstance(layer, LoraLayer))
    seen: list[bool] = []
    layer.register_forward_hook(lambda *_: seen.append(layer.merged))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    rows, _ = predict(model, questions, batch_size=4, max_new_tokens=4)
    assert rows and not seen  # merged layers stood in
    assert not layer.merged and all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())

    monkeypatch.setattr(adapter_merging, "MOST_COPIED", 0)
    assert predict(model, questions, batch_size=4, max_new_tokens=4)[0] == rows
    assert seen and not any(seen)
