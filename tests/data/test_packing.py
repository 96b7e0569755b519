"""A packed batch is its rows alone: the same losses, the same gradients of every weight, through the ordinary forward
of both families."""

import copy
import inspect
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy
from transformers.masking_utils import find_packed_sequence_indices
from transformers.modeling_flash_attention_utils import prepare_fa_kwargs_from_position_ids

from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import IGNORE_INDEX, encode, patch_factor
from vtg.data.layout import ATTENTIONS
from vtg.data.packing import attention, pack, share
from vtg.data.padding import collate, without_padding_mask
from vtg.errors import ConfigError
from vtg.models.attention import attend_in_layouts, attention_of
from vtg.models.recurrence import is_recurrent
from vtg.tasks.span_task import SpanTask

TASK = SpanTask(TaskConfig())
QUERIES = {
    "dog": ("steady", "a man runs away from a dog"),
    "circle": ("steady", "a red circle"),
    "square": ("steady", "a red square moves to the left, then it stops"),
    "short": ("short", "a"),
    "again": ("short", "the end"),
    "long": ("long", "someone sits down"),
    "end": ("long", "the end of it all"),
}
BATCHES = {
    "one": ["dog"],
    "different clips": ["dog", "short", "long"],
    "one clip": ["dog", "circle", "square"],
    "clips that come twice and one that does not": ["dog", "short", "square", "end", "again", "circle"],
    "a clip with padding frames twice": ["again", "short"],
}


def conversation(query: str, at: int) -> list[dict]:
    return TASK.conversation(query, duration_s=30.0, spans=[(at, at + 0.5)])


@pytest.fixture(scope="module")
def rows(vlm, make_clip):
    """Encoded rows by name: about a clip, a clip of one frame with padding frames, and a wide one of many frames."""
    factor = patch_factor(vlm.processor)
    clips = {
        "steady": make_clip([0.0, 0.5, 1.0, 1.5], size=(2 * factor, 2 * factor), seed=1),
        "short": replace(make_clip([0.2], size=(factor, factor), seed=2), pad=5),
        "long": make_clip((np.arange(40) * 0.7).tolist(), size=(2 * factor, 4 * factor), seed=3),
    }
    return {
        name: encode(vlm.processor, conversation(query, at), clips[clip])
        for at, (name, (clip, query)) in enumerate(QUERIES.items())
    }


@pytest.fixture(scope="module")
def plain(vlm, rows):
    """What the model as transformers loads it makes of every row alone, and of padded batches."""
    pad = vlm.processor.tokenizer.pad_token_id
    model = copy.deepcopy(vlm.model)
    alone = {name: loss_and_gradients(model, collate([row], pad_token_id=pad)) for name, row in rows.items()}
    padded = {
        label: loss_and_gradients(model, collate([rows[name] for name in names], pad_token_id=pad))
        for label, names in BATCHES.items()
    }
    return SimpleNamespace(rows=rows, alone=alone, padded=padded)


@pytest.fixture(scope="module", params=["eager", *ATTENTIONS])
def setting(request, vlm, plain):
    """A model under each attention."""
    model = copy.deepcopy(vlm.model)
    if request.param in ATTENTIONS:
        attend_in_layouts(model, request.param)
    else:
        model.set_attn_implementation(request.param)
    return SimpleNamespace(model=model, implementation=attention_of(model), **vars(plain))


def loss_and_gradients(model, batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The summed loss of the answers as `SFTTrainer.compute_loss` takes it, and the gradients of all weights as one."""
    labels = batch["labels"][:, 1:]
    keep = (labels != IGNORE_INDEX).any(0).nonzero()[:, 0]
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    logits = model(**inputs, logits_to_keep=keep, use_cache=False).logits
    assert logits.shape[:2] == (len(labels), len(keep))
    loss = cross_entropy(logits.flatten(0, 1), labels[:, keep].flatten(), ignore_index=IGNORE_INDEX, reduction="sum")
    return loss.detach(), torch.cat([one.flatten() for one in torch.autograd.grad(loss, list(model.parameters()))])


def logits(model, batch) -> torch.Tensor:
    with torch.no_grad():
        return model(**{key: value for key, value in batch.items() if key != "labels"}, use_cache=False).logits[0]


def ready(features, implementation: str = "sdpa", *, model=None):
    recurrent = model is not None and is_recurrent(model)
    return attention(pack(features), implementation=implementation, dtype=torch.float32, recurrent=recurrent)


@pytest.mark.parametrize("way", ["packed", "shared"])
@pytest.mark.parametrize("batch", BATCHES)
def test_loss_and_gradients_are_the_sums_of_those_of_the_rows_alone(setting, batch, way):
    names = BATCHES[batch]
    features = [setting.rows[name] for name in names]
    sequences = features if way == "packed" else share(features)
    loss, gradients = loss_and_gradients(setting.model, ready(sequences, setting.implementation, model=setting.model))
    alone = [torch.stack(part).sum(0) for part in zip(*(setting.alone[name] for name in names), strict=True)]
    for wanted_loss, wanted in (alone, setting.padded[batch]):
        assert abs(loss - wanted_loss) <= 1e-5 * wanted_loss
        assert (gradients - wanted).norm() <= 5e-5 * wanted.norm()  # single precision, sums in another order
    unlike = setting.alone["circle" if "circle" not in names else "end"][1]
    assert (unlike - alone[1]).norm() > 0.1 * alone[1].norm()  # the bound tells one batch from another


def test_padding_at_the_end_of_a_row_needs_no_mask_and_amid_it_does(vlm, plain):
    model, names = vlm.model, BATCHES["different clips"][::2]
    batch = collate([plain.rows[name] for name in names], pad_token_id=0)
    unmasked = without_padding_mask(batch)
    assert "attention_mask" not in unmasked and (batch["attention_mask"] == 0).any()
    loss, gradients = loss_and_gradients(model, unmasked)
    wanted_loss, wanted = (torch.stack(part).sum(0) for part in zip(*(plain.alone[n] for n in names), strict=True))
    assert abs(loss - wanted_loss) <= 1e-5 * wanted_loss
    assert (gradients - wanted).norm() <= 5e-5 * wanted.norm()
    amid = collate([plain.rows[name] for name in ("short", "dog")], pad_token_id=0)
    assert torch.equal(without_padding_mask(amid)["attention_mask"], amid["attention_mask"])


def test_every_part_of_the_model_gets_its_gradient_from_the_shared_clip(setting):
    """Weight by weight, so that no large gradient hides a small one: vision tower, projectors, language model."""
    features = [setting.rows[name] for name in BATCHES["one clip"]]
    _, found = loss_and_gradients(setting.model, ready(share(features), setting.implementation, model=setting.model))
    wanted = torch.stack([setting.alone[name][1] for name in BATCHES["one clip"]]).sum(0)
    sizes = [weight.numel() for weight in setting.model.parameters()]
    for (name, _), ours, theirs in zip(
        setting.model.named_parameters(), found.split(sizes), wanted.split(sizes), strict=True
    ):
        assert theirs.norm() > 0, name
        # float32 sums in another order; on a processor without AVX-512 a bias of the tower is 2.4e-5 apart.
        assert (ours - theirs).norm() <= 1e-4 * theirs.norm(), name


def test_another_video_or_query_changes_no_logit_of_the_others(setting):
    features = [setting.rows[name] for name in ("long", "dog", "square", "end")]
    sequences = share(features)  # the long clip with its two queries, then the other with its two
    plain = pack(sequences)
    before = logits(setting.model, ready(sequences, setting.implementation, model=setting.model))
    pixels = sequences[0]["pixel_values_videos"]
    seen = [sequences[0] | {"pixel_values_videos": pixels.flip(0)}, sequences[1]]
    after = logits(setting.model, ready(seen, setting.implementation, model=setting.model))
    first = plain["segments"][0] == 0
    assert len(sequences) == 2 and first.any() and not first.all()
    assert torch.equal(before[~first], after[~first]) and not torch.equal(before[first], after[first])

    asked = sequences[0]["input_ids"].clone()
    asked[(sequences[0]["branches"] == 1).nonzero()[0, 0]] += 1
    after = logits(
        setting.model,
        ready([sequences[0] | {"input_ids": asked}, sequences[1]], setting.implementation, model=setting.model),
    )
    changed = first & (plain["branches"][0] == 1)
    assert torch.equal(before[~changed], after[~changed])
    assert (before[changed] != after[changed]).any(-1).all()


def test_flash_attention_is_told_by_positions_alone_and_they_say_the_same_as_the_mask(vlm, rows):
    """What FlashAttention reads off the positions, and what the model makes of them where it makes its own mask."""
    features = [rows[name] for name in ("dog", "long", "circle")]
    recurrent = is_recurrent(vlm.model)
    batch = attention(pack(features), implementation="flash_attention_2", dtype=torch.bfloat16, recurrent=recurrent)
    assert "attention_mask" not in batch
    (starts, _), (longest, _) = prepare_fa_kwargs_from_position_ids(batch["position_ids"][0])
    lengths = [len(row["input_ids"]) for row in features]
    assert starts.tolist() == [0, *np.cumsum(lengths)] and int(longest) == max(lengths)
    segments = find_packed_sequence_indices(batch["position_ids"][0])
    assert segments is not None and torch.equal(segments, pack(features)["segments"])
    difference = (logits(vlm.model, batch) - logits(vlm.model, ready(features, model=vlm.model))).abs().max()
    assert difference < 1e-5
    unsaid = batch | {"position_ids": batch["position_ids"][1:]}  # without the row of text positions nothing is told
    assert (logits(vlm.model, unsaid) - logits(vlm.model, batch)).abs().max() > 0.01


def test_sdpa_keeps_one_mask_for_all_layers(vlm, rows):
    """In the dtype of the queries, with rows that start at multiples of eight: else every layer keeps a copy."""
    batch = ready([rows["dog"], rows["square"], rows["circle"]])
    length = batch["input_ids"].shape[1]
    assert length % 8, "the test needs a length that must be aligned"
    assert batch["attention_mask"].shape == (1, 1, length, length)
    assert all(stride % 8 == 0 for stride in batch["attention_mask"].stride()[:-1])

    def masks_kept(mask: torch.Tensor) -> set[int]:
        kept = set()

        def look(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.shape == mask.shape:
                kept.add(tensor.untyped_storage().data_ptr())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(look, lambda tensor: tensor):
            inputs = {key: value for key, value in batch.items() if key != "labels"}
            output = vlm.model(**inputs | {"attention_mask": mask}, use_cache=False).logits
            del output
        return kept

    assert masks_kept(batch["attention_mask"]) == {batch["attention_mask"].untyped_storage().data_ptr()}
    layers = sum(name.endswith("self_attn") for name, _ in vlm.model.named_modules())
    assert len(masks_kept(batch["attention_mask"] == 0)) == layers  # bool: why the mask is not


@pytest.mark.parametrize("implementation", ["sdpa", "eager", "flash_attention_2"])
def test_one_conversation_is_left_to_the_models_own_causal_attention(vlm, rows, implementation):
    batch = ready([rows["dog"]], implementation)
    assert set(batch) <= set(inspect.signature(vlm.model.forward).parameters) - {"attention_mask"}
    several = ready(share([rows["dog"], rows["circle"]]))
    assert set(several) == set(batch) | {"attention_mask"}
    assert set(several) <= set(inspect.signature(vlm.model.forward).parameters)


@pytest.mark.parametrize(
    ("names", "implementation", "message"),
    [
        (
            ["dog", "circle"],
            "flash_attention_2",
            r"batching\.share_video = true: FlashAttention 2 \(model\.attention = 'flash_attention_2'\) has no mask "
            r"for queries that share a clip; set model\.attention=sdpa, or batching\.share_video=false",
        ),
        (["dog", "short"], "flash_attention_2", r"video\.pad = true.*set model\.attention=sdpa, or video\.pad=false"),
        (["dog", "long"], "paged", r"model\.attention = 'paged'.*use sdpa, varlen, flash_attention_2 or eager"),
    ],
)
def test_attention_that_cannot_do_it_is_named_with_what_can(rows, names, implementation, message):
    with pytest.raises(ConfigError, match=message):
        ready(share([rows[name] for name in names]), implementation)


def row(clip: int, ids: list[int], *, answer: int, before: int = 1, vision: int = 3, pad: int = 0) -> dict:
    """Features as `encode` returns them, of made-up numbers: words, a video of `vision` tokens, words, an answer."""
    tokens = torch.tensor([before, *[9] * vision, *ids])
    attended = torch.ones_like(tokens)
    attended[1 + vision - pad : 1 + vision] = 0
    labels = torch.full_like(tokens, IGNORE_INDEX)
    labels[len(tokens) - answer :] = tokens[len(tokens) - answer :]
    positions = torch.zeros(4, len(tokens), dtype=torch.int64)
    positions[:, attended.bool()] = torch.arange(int(attended.sum())) * torch.tensor([1, 2, 3, 4])[:, None]
    return {
        "input_ids": tokens,
        "labels": labels,
        "attention_mask": attended,
        "mm_token_type_ids": 2 * (tokens == 9).long(),
        "position_ids": positions,
        "pixel_values_videos": torch.full((4 * vision, 2), float(clip)),
        "video_grid_thw": torch.tensor([[vision, 2, 2]]),
    }


@st.composite
def made_up_row(draw) -> dict:
    ids = draw(st.lists(st.integers(2, 4), min_size=2, max_size=6))
    return row(
        draw(st.integers(0, 1)),
        ids,
        answer=draw(st.integers(0, len(ids))),
        before=draw(st.integers(1, 2)),
        pad=draw(st.integers(0, 1)),
    )


TOKENS = ("input_ids", "labels", "mm_token_type_ids", "position_ids")


@given(features=st.lists(made_up_row(), min_size=1, max_size=6))
@settings(max_examples=150, deadline=None)
def test_every_row_can_be_read_out_of_the_shared_and_packed_batch(features):
    sequences = share(features)
    batch = pack(sequences)
    found, ends = [], np.cumsum([len(one["input_ids"]) for one in sequences])
    for at, (end, one) in enumerate(zip(ends, sequences, strict=True)):
        here = slice(end - len(one["input_ids"]), end)
        assert set(batch["segments"][0, here].tolist()) <= {at, -1}
        branches = batch["branches"][0, here]
        assert branches[0] == 0 and sorted(branches.tolist()) == branches.tolist()
        for k in range(1, int(branches.max()) + 1) if branches.any() else [0]:
            own = (branches == 0) | (branches == k)
            packed = {key: batch[key][..., 0, here][..., own] for key in TOKENS}
            packed["attention_mask"] = (batch["segments"][0, here][own] >= 0).long()
            clip = {key: one[key] for key in ("pixel_values_videos", "video_grid_thw")}
            found.append(packed | clip)

    def contents(rows: list) -> list[str]:
        return sorted(str({key: one[key].tolist() for key in sorted(one)}) for one in rows)

    assert contents(found) == contents(features)
    for key in ("pixel_values_videos", "video_grid_thw"):
        assert torch.equal(batch[key], torch.cat([one[key] for one in sequences]))
    starts = (torch.diff(batch["branches"][0]) > 0).nonzero()[:, 0] + 1
    assert (batch["labels"][0, starts] == IGNORE_INDEX).all()  # what predicts it stands elsewhere


def test_no_conversation_is_asked_to_predict_the_first_token_of_the_next():
    features = [row(clip, [2, 3, 4], answer=7) for clip in range(3)]
    assert [int(one["labels"][0]) for one in features] == [1, 1, 1]
    wanted = [IGNORE_INDEX, 9, 9, 9, 2, 3, 4] * 3
    assert pack(features)["labels"].tolist() == [wanted]
    assert [int(one["labels"][0]) for one in features] == [1, 1, 1]


@given(features=st.lists(made_up_row(), min_size=2, max_size=6))
@settings(max_examples=100, deadline=None)
def test_what_can_be_shared_is_shared(features):
    """No two sequences are of one clip after the same words, and the shared part is as long as it may be."""
    sequences = share(features)
    seen = [
        (one["pixel_values_videos"][0, 0].item(), one["input_ids"][0].item(), one["attention_mask"][3].item())
        for one in sequences
        if one["labels"][4] == IGNORE_INDEX  # one that answers at once has nothing to begin a branch with
    ]
    assert len(set(seen)) == len(seen)
    for one in sequences:
        if "branches" in one:
            at = [int((one["branches"] == k).nonzero()[0, 0]) for k in range(1, int(one["branches"].max()) + 1)]
            stops = [int((one["branches"] == k).sum()) == 1 for k in range(1, len(at) + 1)]
            next_labelled = [bool(one["labels"][start + 1 : start + 2].ge(0).any()) for start in at]
            differ = len({int(one["input_ids"][start]) for start in at}) > 1
            assert differ or any(stops) or any(next_labelled)
            assert int((one["branches"] == 0).sum()) >= 4


def test_rows_share_a_clip_only_if_they_show_the_same_after_the_same_words():
    first = row(0, [2, 3, 4], answer=1)
    for other in (
        row(1, [2, 3, 4], answer=1),
        row(0, [2, 3, 4], answer=1, before=2),
        row(0, [2, 3, 4], answer=1, vision=4),
        row(0, [2, 3, 4], answer=1, pad=1),
        row(0, [2, 3, 4], answer=3),
    ):
        assert [one is kept for one, kept in zip([first, other], share([first, other]), strict=True)] == [True, True]
    (both,) = share([first, row(0, [2, 3, 4], answer=1)])
    assert both["branches"].tolist() == [0] * 5 + [1, 1, 2, 2]
    assert both["input_ids"].tolist() == [1, 9, 9, 9, 2, 3, 4, 3, 4]


@given(
    runs=st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 2), st.integers(1, 200)), min_size=2, max_size=9),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
@settings(max_examples=40, deadline=None)
def test_the_mask_is_its_definition(runs, dtype):
    segments, branches = (torch.tensor([run[at] for run in runs for _ in range(run[2])]) for at in range(2))
    batch = {"segments": segments[None], "branches": branches[None]}
    found = attention(batch, implementation="sdpa", dtype=dtype)
    same = (segments[:, None] == segments) & (segments >= 0)
    seen = (branches[None, :] == 0) | (branches[:, None] == branches)
    allowed = (same & seen).tril() | torch.eye(len(segments), dtype=torch.bool)
    if len(set(segments.tolist())) == 1 and segments[0] >= 0 and not branches.any():
        assert not found
        return
    mask = found["attention_mask"]
    assert mask.dtype == dtype and mask.shape == (1, 1, len(segments), len(segments))
    assert torch.equal(mask[0, 0], torch.zeros_like(mask[0, 0]).masked_fill(~allowed, -torch.inf))
    assert set(batch) == {"segments", "branches"}
