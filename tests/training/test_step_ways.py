"""Fifty steps of each way of computing a step: the loss goes as it does with PEFT's casts and autocast."""

import copy

import pytest
import torch

from vtg.config.model_settings import LoraConfig, ModelConfig, PartsConfig
from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import encode
from vtg.data.padding import collate
from vtg.models.activation_checkpointing import keep_last_half
from vtg.models.adapting import prepare_training
from vtg.models.fused_adapters import unfuse_adapters
from vtg.models.loading import load_model
from vtg.tasks.span_task import SpanTask

STEPS = 50


def losses(model, batches, *, autocast: bool) -> torch.Tensor:
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=2e-3)
    found = []
    for step in range(STEPS):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = model(**batches[step % len(batches)]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.detach().float())
    return torch.stack(found)


@pytest.mark.soak
def test_losses_of_fifty_steps_are_those_of_autocast(make_clip):
    halved, processor = load_model(ModelConfig(path="tiny", dtype="bfloat16"))
    task, batches = SpanTask(TaskConfig()), []
    for at in range(4):
        clip = make_clip([0.0, 0.6, 1.0 + at / 2], size=(64, 32))
        words = task.conversation(f"a dog {at}", duration_s=4.0, spans=[(0.5 * at, 0.5 * at + 1.0)])
        batch = collate([encode(processor, words, clip)], pad_token_id=processor.tokenizer.pad_token_id)
        batches.append(batch | {"labels": batch.get("labels", batch["input_ids"])})
    torch.manual_seed(0)
    ours = prepare_training(halved, PartsConfig(), LoraConfig(r=4)).train()
    selective, plain = copy.deepcopy(ours), copy.deepcopy(ours)
    unfuse_adapters(plain)
    exact = copy.deepcopy(ours).float()
    enable = getattr(selective, "activation_checkpointing_enable", None) or selective.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    assert keep_last_half(selective)
    wanted = losses(plain, batches, autocast=True)
    true = losses(exact, batches, autocast=False)
    noise = (wanted - true).abs()
    assert wanted[-8:].mean() < 0.7 * wanted[:8].mean()  # it learns
    for model in (ours, selective):
        # Rounded fewer times, so not the same bits: as near to float32.
        apart = (losses(model, batches, autocast=False) - true).abs()
        assert apart.max() <= 1.5 * noise.max(), (apart.max(), noise.max())
