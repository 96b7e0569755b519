"""Encoders are frozen but for modules that are named, and what is trained can be told and given to an optimizer."""

import pytest
import torch

from vtg.config.encoder_settings import EncoderConfig
from vtg.errors import ConfigError
from vtg.latents.encoders import load_encoder
from vtg.latents.encoders.encoder_parts import parameter_table, trained_parameters


def test_an_encoder_is_frozen_and_in_evaluation_mode_whatever_trains_around_it(qwen_tower, make_clip):
    around = torch.nn.ModuleList([qwen_tower]).train()
    assert not list(trained_parameters(qwen_tower))
    assert around.training and not any(module.training for module in qwen_tower.modules())
    assert not qwen_tower.encode([make_clip([0.0, 1.0])]).values.requires_grad


def test_modules_that_are_named_are_trained_and_no_others(make_clip):
    encoder = load_encoder(EncoderConfig(trained=["blocks.1", "merger.linear_fc2"]), device="cpu")
    named = {name for name, parameter in encoder.model.named_parameters() if parameter.requires_grad}
    assert named
    assert all(name.startswith(("blocks.1.", "merger.linear_fc2.")) for name in named)
    assert len(list(trained_parameters(encoder, encoder))) == len(named)
    encoder.encode([make_clip([0.0, 1.0])]).values.sum().backward()
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in encoder.parameters())


def test_a_name_that_matches_nothing_is_answered_with_those_near_it():
    with pytest.raises(ConfigError, match=r"is called 'block\.1'; near it: blocks\.1, .*such as '1'"):
        load_encoder(EncoderConfig(trained=["block.1"]), device="cpu")


def test_the_table_counts_every_parameter_once_by_part():
    encoder = load_encoder(EncoderConfig(trained=["merger"]), device="cpu")
    head = torch.nn.Linear(2, 3)
    table = parameter_table({"encoder": encoder, "head": head})
    rows = {
        line.split()[0]: [int(cell.replace(",", "")) for cell in line.split()[1:]] for line in table.split("\n")[1:]
    }
    merger = sum(parameter.numel() for parameter in encoder.model.get_submodule("merger").parameters())
    assert rows["encoder.merger"] == [merger, merger, 0]
    assert rows["encoder.blocks"][1] == 0 < rows["encoder.blocks"][0]
    assert rows["head"] == [9, 9, 0]
    total = sum(parameter.numel() for parameter in encoder.parameters()) + 9
    assert rows["all"] == [total, merger + 9, total - merger - 9]
