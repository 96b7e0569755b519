"""For every family: packed, shared and padded batches are their rows alone, and a shared prompt is one repeated."""

import copy
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import IGNORE_INDEX, Features, encode, patch_factor
from vtg.data.packing import attention, pack, share
from vtg.data.padding import collate
from vtg.decoding.prompt_sequence import Prompt
from vtg.decoding.shared_prefix import repeated_batch, share_prompts, shared_batch
from vtg.models.families import family_of, known_types
from vtg.models.recurrence import is_recurrent
from vtg.tasks.span_task import SpanTask

TASK = SpanTask(TaskConfig())


@pytest.fixture(params=known_types())
def family(request, tiny_vlm):
    """The tiny model of every type."""
    return tiny_vlm(request.param)


@pytest.fixture
def rows(family, make_clip) -> list[Features]:
    """Two rows of a clip, and one of another."""
    size = (2 * patch_factor(family.processor),) * 2
    clips = [make_clip([0.0, 0.5, 1.0, 1.5], size=size, seed=1), make_clip([0.0, 0.7], size=size, seed=2)]
    asked = [(0, "a man runs away"), (0, "a red circle"), (1, "a")]
    return [
        encode(family.processor, TASK.conversation(query, duration_s=9.0, spans=[(at, at + 2.5)]), clips[clip])
        for at, (clip, query) in enumerate(asked)
    ]


def loss_and_gradients(model: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    labels = batch.pop("labels")[:, 1:]
    logits = model(**batch, use_cache=False).logits[:, :-1]
    loss = cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE_INDEX, reduction="sum")
    return loss.detach(), torch.cat([one.flatten() for one in torch.autograd.grad(loss, list(model.parameters()))])


def test_losses_and_gradients_are_the_sums_of_those_of_the_rows_alone(family, rows):
    model = family.model
    alone = [loss_and_gradients(model, collate([row], pad_token_id=0)) for row in rows]
    wanted, gradients = (torch.stack(part).sum(0) for part in zip(*alone, strict=True))
    both_ways = family_of(model.config).both_ways
    said: dict[str, Any] = {
        "implementation": "sdpa",
        "dtype": torch.float32,
        "recurrent": is_recurrent(model),
        "both_ways": both_ways,
    }
    batches = {
        "packed": attention(pack(rows), **said),
        "shared": attention(pack(share(rows)), **said),
        "left": dict(collate(rows, pad_token_id=0, padding_side="left")),
        "right": dict(collate(rows, pad_token_id=0)),
    }
    assert batches["shared"]["input_ids"].numel() < batches["packed"]["input_ids"].numel()
    for name, batch in batches.items():
        loss, found = loss_and_gradients(model, batch)
        assert abs(loss - wanted) <= 1e-5 * wanted, name
        assert (found - gradients).norm() <= 1e-5 * gradients.norm(), name


def test_a_shared_prompt_is_run_once_and_gives_the_states_of_one_that_is_repeated(family, rows):
    model, passes = copy.deepcopy(family.model), []
    share_prompts(model)
    embeddings = model.get_input_embeddings()
    embeddings.register_forward_hook(lambda _, args, out: passes.append(int((args[0] == vision_id).sum())))
    answer = rows[0]["labels"] != IGNORE_INDEX
    start = int(answer.nonzero()[0, 0])
    prompt = {
        name: value[..., :start] if len(value.shape) and value.shape[-1] == len(answer) else value
        for name, value in rows[0].items()
    }
    vision_id, part_of = family.model.config.video_token_id, family_of(model.config).part_of
    both_ways = family_of(model.config).both_ways
    in_prompt = int((prompt["input_ids"] == vision_id).sum())
    own = torch.stack([rows[0]["input_ids"][start : start + 8], rows[0]["input_ids"][start : start + 8].flip(0)])
    shared = model.model(**shared_batch([Prompt(prompt)], [own], both_ways=both_ways)).last_hidden_state
    repeated = repeated_batch([Prompt(prompt)], [own], [torch.ones_like(own)], pad_token_id=0)
    wanted = model.model(**repeated).last_hidden_state[:, start - 1 : -1]
    assert passes == [in_prompt, 2 * in_prompt]
    assert (shared - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    weights = torch.linspace(-1, 1, wanted.numel()).view_as(wanted)
    names, parameters = zip(*model.model.named_parameters(), strict=True)
    ours, theirs = (torch.autograd.grad((one * weights).sum(), parameters) for one in (shared, wanted))
    mine, other = (torch.cat([one.flatten() for one in found]) for found in (ours, theirs))
    assert (mine - other).norm() <= 1e-5 * other.norm()
    for part in ("vision", "projector", "language"):
        mine, other = (
            torch.cat(
                [one.flatten() for name, one in zip(names, found, strict=True) if part_of(f"model.{name}") == part]
            )
            for found in (ours, theirs)
        )
        assert other.norm() > 0 and (mine - other).norm() <= 3e-5 * other.norm(), part


def test_the_tiny_models_of_experts_have_some(tiny_vlm):
    for model_type in known_types():
        if "moe" in model_type:
            model = tiny_vlm(model_type).model
            assert family_of(model.config).name + "_moe" == model_type and model.config.text_config.num_experts == 8
