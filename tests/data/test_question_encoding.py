"""Questions about one clip are encoded as each alone is, with its pixels made once."""

import pickle
from dataclasses import replace

import pytest
import torch

from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import encode
from vtg.data.question_encoding import ConversationEncoder, encode_questions
from vtg.errors import SampleError
from vtg.tasks.span_task import SpanTask

QUERIES = (
    "a person sits down",
    "  …Käfer!",
    "it",
    "a <|im_end|> in a row",
    "it",
    "a person, who has been there, sits down",
)


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_5_vl", "qwen3_5", "molmo2"])
@pytest.mark.parametrize("pad", [0, 2])
def test_questions_are_what_encode_makes_of_each(family, pad, make_clip, tiny_vlm):
    processor = tiny_vlm(family).processor
    clip = make_clip([0.0, 0.5, 1.3, 2.0], size=(56, 56) if family == "qwen2_5_vl" else (64, 64))
    clip = replace(clip, pad=pad)
    task = SpanTask(TaskConfig())
    asked = [task.conversation(query, duration_s=clip.duration_s) for query in QUERIES]
    most = len(encode(processor, asked[-1], clip)["input_ids"]) - 1
    made = encode_questions(processor, asked, clip, max_length=most)
    for messages, ours in zip(asked[:-1], made, strict=False):
        theirs = encode(processor, messages, clip)
        assert not isinstance(ours, SampleError) and ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) and ours[key].dtype == theirs[key].dtype for key in theirs)
    assert len({id(one["pixel_values_videos"]) for one in made if not isinstance(one, SampleError)}) == 1
    with pytest.raises(SampleError) as error:
        encode(processor, asked[-1], clip, max_length=most)
    assert str(made[-1]) == str(error.value)


def test_answers_too_are_encoded_as_each_alone_is_until_another_clip_comes(make_clip, qwen3_vl):
    processor, task = qwen3_vl.processor, SpanTask(TaskConfig())
    clips = [make_clip([0.0, 0.5, 1.3, 2.0], size=(64, 64), seed=seed) for seed in range(2)]
    encoder = ConversationEncoder(processor)
    rows = [(0, "it", (0.5, 1.0)), (0, "it sits", (0.0, 2.0)), (1, "it", (0.5, 1.0)), (0, "it", (0.5, 1.5))]
    made = []
    for at, query, span in rows:
        messages = task.conversation(query, duration_s=2.5, spans=[span])
        made.append(encoder(messages, clips[at]))
        theirs = encode(processor, messages, clips[at])
        assert made[-1].keys() == theirs.keys()
        assert all(torch.equal(made[-1][key], theirs[key]) for key in theirs)
        made[-1]["labels"] = torch.zeros_like(theirs["labels"])  # what a caller changes is not kept
    pixels = [one["pixel_values_videos"] for one in made]
    assert pixels[0] is pixels[1] and len({id(one) for one in pixels}) == 3
    again = pickle.loads(pickle.dumps(encoder))(task.conversation("it", duration_s=2.5), clips[0])
    assert torch.equal(again["pixel_values_videos"], pixels[0])
    assert len(pickle.dumps(encoder)) < len(pickle.dumps(processor)) + pixels[0].nbytes
