"""Costs from metadata against what is really encoded."""

import pytest

from vtg.config.schema import TaskConfig, VideoConfig
from vtg.data.cost import sample_costs, video_facts
from vtg.data.inputs import encode, patch_factor
from vtg.data.schema import Sample
from vtg.tasks.span import SpanTask
from vtg.video.load import load_clip


def sample(path: str, duration_s: float, query: str = "a red circle moves to the left") -> Sample:
    return Sample(path, duration_s, ((0.1, duration_s / 2),), query, "q")


@pytest.mark.parametrize("answer", ["seconds", "bins", "tokens"])
@pytest.mark.parametrize("settings", [{}, {"pad": True, "min_frames": 12}, {"max_pixels": 784 * 4, "fps": 4.0}])
def test_tokens_are_never_fewer_than_encoded_and_hardly_more(vlm, write_mp4, answer, settings):
    video = VideoConfig(**({"min_pixels": 784, "max_pixels": 64 * 64 * 4, "max_frames": 32} | settings))
    task = SpanTask(TaskConfig(answer=answer))
    shapes = ((7, 100), (40, 100), (56, 200))
    paths = [write_mp4([gap_ms * at for at in range(frames)]) for frames, gap_ms in shapes]
    samples = [sample(path, frames * gap_ms / 1000) for path, (frames, gap_ms) in zip(paths, shapes, strict=True)]
    costs = sample_costs(samples, paths, video_facts(paths), task=task, processor=vlm.processor, video=video)
    for at, (one, path) in enumerate(zip(samples, paths, strict=True)):
        clip = load_clip(path, video, factor=patch_factor(vlm.processor), duration_s=one.duration_s)
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
    clip = load_clip(path, video)
    (one,) = sample_costs(
        [sample(path, 1.0)], [path], video_facts([path]), task=task, processor=qwen3_vl.processor, video=video
    ).tokens
    for seed in range(20):
        messages = task.conversation("a red circle moves to the left", duration_s=1.0, spans=[(0.1, 0.5)], seed=seed)
        assert len(encode(qwen3_vl.processor, messages, clip)["input_ids"]) <= one


def test_a_video_that_cannot_be_read_costs_the_most(qwen3_vl, write_mp4, tmp_path):
    good, bad = write_mp4([100 * at for at in range(10)]), str(tmp_path / "gone.mp4")
    facts = video_facts([good, bad, good])
    assert list(facts) == [good] and (facts[good].height, facts[good].width) == (64, 64)
    video = VideoConfig(min_pixels=784, max_pixels=128 * 128)
    settings = {"task": SpanTask(TaskConfig()), "processor": qwen3_vl.processor, "video": video}
    costs = sample_costs([sample(good, 1.0), sample(bad, 1.0)], [good, bad], facts, **settings)
    assert costs.vision_tokens[1] == (128 // 32) ** 2 * 2 > costs.vision_tokens[0]
