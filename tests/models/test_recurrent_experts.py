"""A family with recurrent layers and experts: packed, shared and padded batches are their rows alone."""

import copy
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import IGNORE_INDEX, Features, encode
from vtg.data.packing import attention, pack, share
from vtg.data.padding import collate
from vtg.decoding.shared_prefix import Prompt, repeated_batch, share_prompts, shared_batch
from vtg.models.families import family_of
from vtg.models.recurrence import is_recurrent
from vtg.tasks.span_task import SpanTask

TASK = SpanTask(TaskConfig())


@pytest.fixture(scope="module")
def rows(qwen3_5_moe, make_clip) -> list[Features]:
    """Two rows of a clip, and one of another."""
    clips = [make_clip([0.0, 0.5, 1.0, 1.5], seed=1), make_clip([0.0, 0.7], seed=2)]
    asked = [(0, "a man runs away"), (0, "a red circle"), (1, "a")]
    return [
        encode(qwen3_5_moe.processor, TASK.conversation(query, duration_s=9.0, spans=[(at, at + 2.5)]), clips[clip])
        for at, (clip, query) in enumerate(asked)
    ]


def loss_and_gradients(model: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    labels = batch.pop("labels")[:, 1:]
    logits = model(**batch, use_cache=False).logits[:, :-1]
    loss = cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE_INDEX, reduction="sum")
    return loss.detach(), torch.cat([one.flatten() for one in torch.autograd.grad(loss, list(model.parameters()))])


def test_losses_and_gradients_are_the_sums_of_those_of_the_rows_alone(qwen3_5_moe, rows):
    model = qwen3_5_moe.model
    assert family_of(model.config).name == "qwen3_5" and is_recurrent(model)
    assert model.config.text_config.num_experts == 8
    alone = [loss_and_gradients(model, collate([row], pad_token_id=0)) for row in rows]
    wanted, gradients = (torch.stack(part).sum(0) for part in zip(*alone, strict=True))
    batches = {
        "packed": attention(pack(rows), implementation="sdpa", dtype=torch.float32, recurrent=True),
        "shared": attention(pack(share(rows)), implementation="sdpa", dtype=torch.float32, recurrent=True),
        "left": dict(collate(rows, pad_token_id=0, padding_side="left")),
        "right": dict(collate(rows, pad_token_id=0)),
    }
    for name, batch in batches.items():
        loss, found = loss_and_gradients(model, batch)
        assert abs(loss - wanted) <= 1e-5 * wanted, name
        assert (found - gradients).norm() <= 1e-5 * gradients.norm(), name


def test_a_shared_prompt_gives_the_states_of_one_that_is_repeated(qwen3_5_moe, rows):
    model = copy.deepcopy(qwen3_5_moe.model)
    share_prompts(model)
    answer = rows[0]["labels"] != IGNORE_INDEX
    start = int(answer.nonzero()[0, 0])
    prompt = {
        name: value[..., :start] if len(value.shape) and value.shape[-1] == len(answer) else value
        for name, value in rows[0].items()
    }
    own = torch.stack([rows[0]["input_ids"][start : start + 8], rows[0]["input_ids"][start : start + 8].flip(0)])
    shared = model.model(**shared_batch([Prompt(prompt)], [own], dtype=torch.float32)).last_hidden_state
    repeated = repeated_batch([Prompt(prompt)], [own], [torch.ones_like(own)], pad_token_id=0)
    wanted = model.model(**repeated).last_hidden_state[:, start - 1 : -1]
    assert (shared - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    weights = torch.linspace(-1, 1, wanted.numel()).view_as(wanted)
    names, parameters = zip(*model.model.named_parameters(), strict=True)
    ours, theirs = (torch.autograd.grad((one * weights).sum(), parameters) for one in (shared, wanted))
    for name, mine, other in zip(names, ours, theirs, strict=True):
        assert (mine - other).norm() <= 3e-5 * other.norm(), name
