"""Steps of decoding with trained rows of embedding and head: PEFT's numbers, and nothing that a graph cannot hold."""

import copy
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode

from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import encode, patch_factor, turn_end_id
from vtg.decoding.engine import DecodingEngine
from vtg.decoding.prompt_sequence import Prompt
from vtg.decoding.token_choice import Sampling
from vtg.decoding.token_rows import TokenRows
from vtg.models.plain_model import plain_model
from vtg.tasks.span_task import SpanTask

ROWS = [7, 40, 41, 3]
LINEAR = r".*language_model.*(q|v|up)_proj"
NEEDS_CPU = ("lift_fresh", "_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "unique")
"""What copies numbers from or to the CPU, or makes tensors whose size depends on numbers."""


@pytest.fixture
def model(vlm) -> PeftModel:
    """With rows that are not the table's, of the embedding and of the head, tied or not."""
    torch.manual_seed(2)
    plain = copy.deepcopy(vlm.model)
    tied = plain.config.tie_word_embeddings
    places = [plain.get_input_embeddings()] + [plain.get_output_embeddings()] * (not tied)
    names = [name for name, module in plain.named_modules() if any(module is place for place in places)]
    adapter = LoraConfig(r=4, target_modules=LINEAR, trainable_token_indices=dict.fromkeys(names, ROWS))
    built = get_peft_model(plain, adapter)
    for name, parameter in built.named_parameters():
        if "trainable_tokens_delta" in name:
            parameter.data.normal_()
    return built.eval()  # type: ignore[return-value]


@torch.no_grad()
def assert_as_peft(model: PeftModel, rows: TokenRows) -> None:
    plain = plain_model(model)
    ids = torch.tensor([[7], [8], [3], [41], [0]])
    assert torch.equal(rows.embed(ids), plain.get_input_embeddings()(ids))
    hidden = torch.randn(5, plain.config.get_text_config().hidden_size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rows.logits(hidden), plain.get_output_embeddings()(hidden), atol=1e-5, rtol=1e-5)


def test_embeddings_and_logits_are_those_of_peft_also_after_an_update(model):
    rows, plain = TokenRows(plain_model(model)), plain_model(model)
    ids = torch.tensor([[7], [8]])
    before = rows.embed(ids)
    assert_as_peft(model, rows)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "trainable_tokens_delta" in name:
                parameter += 1.0
    assert (rows.embed(ids) != before).any(-1).flatten().tolist() == [True, False]
    assert_as_peft(model, rows)
    with model.disable_adapter():
        table = plain.get_input_embeddings().token_adapter.get_base_layer().weight
        assert torch.equal(rows.embed(ids), table[ids])
        assert_as_peft(model, rows)
    model.merge_adapter()
    assert_as_peft(model, rows)


class OfTheCpu(TorchDispatchMode):
    """Counts operations that a CUDA graph cannot record."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += 1
        self.count.update(name for name in NEEDS_CPU if name in str(func))
        return func(*args, **(kwargs or {}))


def test_a_step_holds_nothing_that_a_graph_cannot_record(vlm, model, make_clip, monkeypatch):
    factor = patch_factor(vlm.processor)
    clip = make_clip(np.arange(4) * 0.5, size=(2 * factor, 2 * factor), seed=1)
    conversation = SpanTask(TaskConfig()).conversation("a red circle", duration_s=clip.duration_s)
    prompt = Prompt(encode(vlm.processor, conversation, clip))
    engine = DecodingEngine(model, Sampling(max_new_tokens=4, ends=(turn_end_id(vlm.processor),), temperature=1.0))
    with OfTheCpu() as wrapped, torch.no_grad():
        plain_model(model).get_input_embeddings()(torch.tensor([[7]]))
    assert wrapped.count["lift_fresh"] >= 2  # PEFT's own call, beside the ids: what this test would find
    step, counted = engine._stepper._step, []

    def watched(*args: Any, **kwargs: Any) -> None:
        with OfTheCpu() as watching:
            step(*args, **kwargs)
        counted.append(watching)

    monkeypatch.setattr(engine._stepper, "_step", watched)
    engine.complete([prompt], n=3)
    # A shape's first step is run plainly before it is recorded, and may make what later ones look at.
    assert len(counted) >= 2 and counted[1].calls > 50
    assert [dict(one.count) for one in counted[1:]] == [{}] * (len(counted) - 1)
