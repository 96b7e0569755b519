from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import IGNORE_INDEX, encode, patch_factor
from vtg.data.padding import collate
from vtg.tasks.span_task import SpanTask

TASK = SpanTask(TaskConfig())
SIDES = pytest.mark.parametrize("side", ["left", "right"])


def conversation(*queries: str) -> list[dict]:
    """One clip, and a turn for each query; the n-th answer is n.0 to n.5 seconds."""
    messages: list[dict] = []
    for at, query in enumerate(queries):
        user, answer = TASK.conversation(query, duration_s=30.0, spans=[(at, at + 0.5)])
        messages += [user | {"content": user["content"][1:]} if messages else user, answer]
    return messages


@pytest.fixture(scope="module")
def features(vlm, make_clip):
    """Three conversations of different lengths about clips of different sizes; the last one has three turns."""
    factor = patch_factor(vlm.processor)
    clips = [
        make_clip([0.0, 0.5, 1.0, 1.5], size=(2 * factor, 2 * factor), seed=1),
        make_clip([0.2], size=(factor, factor), seed=2),
        make_clip([0.0, 0.7, 3.1, 4.0, 4.1, 9.5], size=(factor, 3 * factor), seed=3),
    ]
    queries = [("a man runs away from a dog",), ("a",), ("a red circle", "someone sits down", "the end")]
    return [encode(vlm.processor, conversation(*asked), clip) for asked, clip in zip(queries, clips, strict=True)]


def losses(model, batch) -> torch.Tensor:
    """(B,) mean loss of each row."""
    with torch.no_grad():
        logits = model(**{key: value for key, value in batch.items() if key != "labels"}).logits
    labels = batch["labels"]
    return torch.stack(
        [
            cross_entropy(row[:-1], label[1:], ignore_index=IGNORE_INDEX)
            for row, label in zip(logits.float(), labels, strict=True)
        ]
    )


@SIDES
def test_labels_are_the_answers_and_nothing_else(vlm, features, side):
    tokenizer = vlm.processor.tokenizer
    batch = collate(features, pad_token_id=tokenizer.pad_token_id, padding_side=side)
    kept = batch["labels"] != IGNORE_INDEX
    texts = [tokenizer.decode(row[keep]) for row, keep in zip(batch["labels"], kept, strict=True)]
    first = "0.0 to 0.5 seconds<|im_end|>"
    assert texts == [first, first, f"{first}1.0 to 1.5 seconds<|im_end|>2.0 to 2.5 seconds<|im_end|>"]
    assert torch.equal(batch["labels"][kept], batch["input_ids"][kept])
    assert (batch["mm_token_type_ids"][kept] == 0).all() and (batch["attention_mask"][kept] == 1).all()


@SIDES
def test_padding_changes_nothing_but_the_length(vlm, features, side):
    pad = vlm.processor.tokenizer.pad_token_id
    batch = collate(features, pad_token_id=pad, padding_side=side)
    for row, one in enumerate(features):
        real = batch["attention_mask"][row].bool()
        for key in ("input_ids", "labels", "mm_token_type_ids"):
            assert torch.equal(batch[key][row][real], one[key])
        assert torch.equal(batch["position_ids"][:, row][:, real], one["position_ids"])
        assert (batch["input_ids"][row][~real] == pad).all()
        assert not real.all() or len(one["input_ids"]) == batch["input_ids"].shape[1]
        assert bool(real[0 if side == "right" else -1])
    assert torch.equal(batch["pixel_values_videos"], torch.cat([one["pixel_values_videos"] for one in features]))
    assert batch["video_grid_thw"].shape == (3, 3)


@SIDES
def test_the_loss_of_a_sample_is_the_same_alone_and_in_a_padded_batch(vlm, features, side):
    pad = vlm.processor.tokenizer.pad_token_id
    alone = torch.cat([losses(vlm.model, collate([one], pad_token_id=pad)) for one in features])
    together = losses(vlm.model, collate(features, pad_token_id=pad, padding_side=side))
    assert alone.unique().numel() == 3
    assert torch.allclose(alone, together, atol=1e-5, rtol=0)


def test_greedy_answers_are_the_same_alone_and_in_a_left_padded_batch(vlm, make_clip):
    factor, pad = patch_factor(vlm.processor), vlm.processor.tokenizer.pad_token_id
    prompts = [
        encode(vlm.processor, conversation(query)[:1], make_clip(times_s, size=(factor, factor), seed=seed))
        for seed, (query, times_s) in enumerate([("a dog", [0.0, 1.3, 5.0]), ("a man runs after a cat", [0.4, 0.9])])
    ]

    def answers(items: list) -> list[list[int]]:
        batch = collate(items, pad_token_id=pad, padding_side="left")
        del batch["labels"]
        out = vlm.model.generate(**batch, do_sample=False, max_new_tokens=6, min_new_tokens=6)
        return out[:, batch["input_ids"].shape[1] :].tolist()

    assert answers(prompts) == answers(prompts[:1]) + answers(prompts[1:])


@SIDES
def test_a_batch_may_mix_clips_with_and_without_padding_frames(vlm, make_clip, side):
    factor, pad = patch_factor(vlm.processor), vlm.processor.tokenizer.pad_token_id
    clips = [
        make_clip([0.0, 1.3, 5.0], size=(factor, factor), seed=1),
        make_clip([0.4, 0.9, 2.0, 3.0], size=(factor, 2 * factor), seed=2),
        make_clip([0.1], size=(2 * factor, factor), seed=3),
    ]
    queries = ["a dog", "a man runs after a cat, twice", "the end"]
    plain, padded = (
        [
            encode(vlm.processor, conversation(query), replace(clip, pad=more))
            for query, clip, more in zip(queries, clips, pads, strict=True)
        ]
        for pads in ((0, 0, 0), (5, 0, 3))
    )
    batch = collate(padded, pad_token_id=pad, padding_side=side)
    for row, one in enumerate(padded):
        own = slice(len(one["input_ids"])) if side == "right" else slice(-len(one["input_ids"]), None)
        assert torch.equal(batch["attention_mask"][row][own], one["attention_mask"])
        assert int(batch["attention_mask"][row].sum()) == len(plain[row]["input_ids"])
    wanted = torch.cat([losses(vlm.model, collate([one], pad_token_id=pad)) for one in plain])
    assert torch.allclose(losses(vlm.model, batch), wanted, atol=1e-5, rtol=0)
    ignored = batch | {"attention_mask": torch.ones_like(batch["attention_mask"])}
    assert not torch.allclose(losses(vlm.model, ignored), wanted, atol=1e-3, rtol=0)
