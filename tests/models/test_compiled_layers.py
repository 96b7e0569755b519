"""Compiled decoder layers: the same numbers, and as many programs whatever the lengths."""

import copy
from typing import Any

import pytest
import torch

from vtg.config.model_settings import LoraConfig, ModelConfig, PartsConfig
from vtg.models.activation_checkpointing import keep_last_half
from vtg.models.adapting import prepare_training
from vtg.models.compiled_layers import compile_layers
from vtg.models.loading import load_model


def with_checkpointing(model: Any) -> Any:
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    return model


@pytest.mark.parametrize("checkpointing", [False, True])
def test_other_lengths_are_no_new_compilations_and_change_no_number(checkpointing):
    torch.manual_seed(0)
    plain = prepare_training(load_model(ModelConfig(path="tiny"))[0], PartsConfig(), LoraConfig(r=4)).train()
    programs: list[Any] = []

    def backend(program: Any, inputs: Any) -> Any:
        programs.append(program)
        # A number of Python's as an input would be a tensor on the CPU, whatever the model is on.
        assert not any(isinstance(one, torch.Tensor) and one.ndim == 0 for one in inputs)
        return program.forward

    compiled = copy.deepcopy(plain)
    assert compile_layers(compiled, backend=backend) == plain.config.text_config.num_hidden_layers
    if checkpointing:
        for model in (plain, compiled):
            with_checkpointing(model)
    counts = []
    for length in (30, 41, 57, 24):
        ids = torch.arange(20, 20 + length)[None]
        losses, grads = [], []
        for model in (plain, compiled):
            model.zero_grad()
            loss = model(input_ids=ids, use_cache=False).logits.square().mean()
            loss.backward()
            losses.append(loss.detach())
            grads.append(torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None]))
        torch.testing.assert_close(losses[1], losses[0])
        torch.testing.assert_close(grads[1], grads[0])
        counts.append(len(programs))
    # A first layer whose input needs no gradient is another program than those after it.
    # And of one length; the second that is met makes those of any.
    assert 0 < counts[0] <= 2 and counts[1] <= 4 and counts[1:] == counts[1:2] * 3
    with torch.no_grad():
        compiled(input_ids=torch.arange(20, 90)[None], use_cache=True)  # as answers are generated
    assert len(programs) == counts[-1]


def test_layers_that_keep_their_activations_are_no_other_programs_than_those_that_do_not():
    counts = {}
    for way in ("full", "selective"):
        torch.compiler.reset()  # programs of the same layers are counted together against a limit
        model = prepare_training(load_model(ModelConfig(path="tiny"))[0], PartsConfig(), LoraConfig(r=4)).train()
        programs: list[Any] = []

        def backend(program: Any, inputs: Any, programs: list[Any] = programs) -> Any:
            programs.append(program)
            return program.forward

        compile_layers(with_checkpointing(model), backend=backend)
        assert way == "full" or keep_last_half(model)
        for length in (30, 41):
            model(input_ids=torch.arange(20, 20 + length)[None], use_cache=False).logits.square().mean().backward()
        counts[way] = len(programs)
    assert counts["selective"] == counts["full"] > 0
