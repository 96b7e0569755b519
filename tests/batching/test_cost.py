"""Costs from metadata against what is really encoded."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vtg.annotations.point import Point
from vtg.annotations.point_targets import Points
from vtg.annotations.sample import Sample
from vtg.annotations.sample_table import SampleTable
from vtg.annotations.target import NoMoment, Spans
from vtg.batching.cost import VideoFacts, query_tokens, sample_costs, video_facts
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.data.encoding import encode, patch_factor
from vtg.tasks.all_tasks import Tasks
from vtg.tasks.span_task import SpanTask
from vtg.video.clip_loading import load_clip
from vtg.video.video_window import VideoWindow


def sample(path: str, duration_s: float, query: str = "a red circle moves to the left") -> Sample:
    return Sample(path, duration_s, Spans(((0.1, duration_s / 2),)), query, "q")


def facts_of(samples: list[Sample]) -> VideoFacts:
    return video_facts(SampleTable.of(samples).videos()[0], video_dir=None)


@pytest.mark.parametrize("answer", ["seconds", "bins", "tokens"])
@pytest.mark.parametrize("settings", [{}, {"pad": True, "min_frames": 12}, {"max_pixels": 784 * 4, "fps": 4.0}])
def test_tokens_are_never_fewer_than_encoded_and_hardly_more(vlm, write_mp4, answer, settings):
    video = VideoConfig(**({"min_pixels": 784, "max_pixels": 64 * 64 * 4, "max_frames": 32} | settings))
    task = SpanTask(TaskConfig(answer=answer))
    shapes = ((7, 100), (40, 100), (56, 200))
    paths = [write_mp4([gap_ms * at for at in range(frames)]) for frames, gap_ms in shapes]
    samples = [sample(path, frames * gap_ms / 1000) for path, (frames, gap_ms) in zip(paths, shapes, strict=True)]
    costs = sample_costs(samples, facts_of(samples), task=task, processor=vlm.processor, video=video)
    for at, (one, path) in enumerate(zip(samples, paths, strict=True)):
        clip = load_clip(VideoWindow(path, duration_s=one.duration_s), video, factor=patch_factor(vlm.processor))
        messages = task.conversation(one.query, duration_s=one.duration_s, spans=one.spans)
        features = encode(vlm.processor, messages, clip)
        assert costs.frames[at] == len(clip.frames)
        assert costs.vision_tokens[at] == (features["mm_token_type_ids"] == 2).sum()
        real = len(features["input_ids"])
        assert real <= costs.tokens[at] <= 1.05 * real + 16


def test_the_longest_prompt_of_a_pool_is_counted(qwen3_vl, write_mp4):
    path = write_mp4([100 * at for at in range(10)])
    task = SpanTask(TaskConfig(selection="random"))
    video = VideoConfig(min_pixels=784, max_pixels=4096)
    clip = load_clip(VideoWindow(path), video)
    (one,) = sample_costs(
        [sample(path, 1.0)], facts_of([sample(path, 1.0)]), task=task, processor=qwen3_vl.processor, video=video
    ).tokens
    for seed in range(20):
        messages = task.conversation("a red circle moves to the left", duration_s=1.0, spans=[(0.1, 0.5)], seed=seed)
        assert len(encode(qwen3_vl.processor, messages, clip)["input_ids"]) <= one


def test_a_video_that_cannot_be_read_costs_the_most(qwen3_vl, write_mp4, tmp_path):
    good, bad = write_mp4([100 * at for at in range(10)]), str(tmp_path / "gone.mp4")
    facts = facts_of([sample(good, 1.0), sample(bad, 1.0), sample(good, 1.0)])
    assert facts.height.tolist() == facts.width.tolist() == [64, 0] and facts.fps[0] > 0 == facts.fps[1]
    video = VideoConfig(min_pixels=784, max_pixels=128 * 128)
    settings = {"task": SpanTask(TaskConfig()), "processor": qwen3_vl.processor, "video": video}
    costs = sample_costs([sample(good, 1.0), sample(bad, 1.0)], facts, **settings)
    assert costs.vision_tokens[1] == (128 // 32) ** 2 * 2 > costs.vision_tokens[0]


VIDEO = "<|vision_start|><|video_pad|><|vision_end|>"
WORD = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1, max_size=12)


@settings(max_examples=100)
@given(queries=st.lists(st.lists(WORD, min_size=1, max_size=9).map(" ".join) | WORD, min_size=1, max_size=5))
def test_words_add_up_to_the_tokens_of_a_query(vlm, queries):
    tokenizer = vlm.processor.tokenizer

    def lengths(texts):
        return [len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]

    found = query_tokens(iter(queries), len(queries), lengths).tolist()
    assert found == lengths([" ".join(query.split()).replace("<|", "< |") for query in queries])


@pytest.mark.parametrize("answer", [TaskConfig(answer="seconds", decimals=at) for at in (0, 1, 3)] + [
    TaskConfig(answer="relative"), TaskConfig(answer="bins", num_bins=105), TaskConfig(answer="tokens", num_bins=100),
    TaskConfig(moments="set"),
], ids=lambda task: f"{task.answer} {task.moments} {task.decimals} {task.num_bins}")  # fmt: skip
def test_no_answer_has_more_tokens_than_its_cost_counts(qwen3_vl, answer):
    rng, task, tokenizer = np.random.default_rng(0), SpanTask(answer), qwen3_vl.processor.tokenizer
    for duration_s in (0.7, 9.44, 9.5, 9.97, 10.0, 63.2, 99.4, 99.96, 100.0, 950.0, 999.6, 3600.0):
        many = [np.sort(rng.uniform(0, duration_s, 2)).tolist() for _ in range(8)]
        rows = [((start, end),) for start, end in [*many, [0.99 * duration_s, duration_s]]] + [tuple(map(tuple, many))]
        samples = [Sample("a.mp4", duration_s, Spans(tuple(spans)), "x", "q") for spans in rows]
        samples += [Sample("a.mp4", duration_s, NoMoment(), "x", "q")] * task.takes_sets
        settings = {"task": task, "processor": qwen3_vl.processor, "video": VideoConfig(min_pixels=784)}
        costs = sample_costs(samples, None, **settings)
        for one, cost in zip(samples, (costs.tokens - costs.shared_tokens).tolist(), strict=True):
            messages = task.conversation(one.query, duration_s=duration_s, spans=one.spans)
            text = qwen3_vl.processor.apply_chat_template(messages, tokenize=False)
            real = len(tokenizer(text.replace(VIDEO, ""), add_special_tokens=False)["input_ids"])
            assert real <= cost <= 1.25 * real + 24, (duration_s, one.spans)


def test_a_row_with_more_moments_than_an_answer_holds_is_counted_and_no_error(qwen3_vl):
    spans = tuple((at / 100, at / 100 + 0.005) for at in range(300))
    settings = {"task": SpanTask(TaskConfig()), "processor": qwen3_vl.processor, "video": VideoConfig(min_pixels=784)}
    (tokens,) = sample_costs([Sample("a.mp4", 10.0, Spans(tuple(spans)), "x", "q")], None, **settings).tokens
    assert tokens > 256 * 8


@pytest.mark.parametrize("known", [True, False])
def test_still_pictures_cost_a_temporal_patch_each(known, vlm, tmp_path):
    video = VideoConfig(min_pixels=784, max_pixels=64 * 64 * 4)
    for at, size in enumerate([(96, 64), (64, 64), (64, 96)]):
        Image.linear_gradient("L").resize(size).save(tmp_path / f"{at}.png")
    path = "|".join(str(tmp_path / f"{at}.png") for at in range(3))
    one = Sample(path, 3.0, Points((Point(0.5, 0.5, 2, 0),), stills=True), "Point to it.", "q")
    facts, task = facts_of([one]) if known else None, SpanTask(TaskConfig())
    costs = sample_costs([one], facts, task=task, processor=vlm.processor, video=video)
    clip = load_clip(VideoWindow(path), video, factor=patch_factor(vlm.processor))
    features = encode(vlm.processor, Tasks(task).conversation(one, answers=True), clip)
    seen = int((features["mm_token_type_ids"] == 2).sum())
    assert costs.frames[0] == 3 and (costs.vision_tokens[0] == seen if known else costs.vision_tokens[0] >= seen)
    assert len(features["input_ids"]) <= costs.tokens[0]
