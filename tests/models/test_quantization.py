"""QLoRA: the language model in 4 or 8 bits, trained, saved, loaded again and exported. Needs bitsandbytes."""

from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("bitsandbytes", minversion="0.50", reason="pip install 'bitsandbytes>=0.50' to test quantization")

from vtg.config.model_settings import LoraConfig, ModelConfig, PartsConfig
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.data.encoding import encode
from vtg.data.padding import collate
from vtg.export.checkpoint_export import export_model
from vtg.memory.parameters import count, empty_model
from vtg.models.adapting import prepare_training
from vtg.models.checkpoint import Settings, save_settings
from vtg.models.families import family_of
from vtg.models.loading import load_model
from vtg.models.part_table import part_rows
from vtg.tasks.span_task import SpanTask

# In evaluation the kernels round more than dequantized weights do: the 4-bit ones a little, and LLM.int8() its inputs.
TOLERANCE = {"4bit": 0.02, "8bit": 0.2}


@pytest.fixture(params=["4bit", "8bit"])
def config(request) -> ModelConfig:
    return ModelConfig(path="tiny", quantization=request.param)


def batch_of(processor, make_clip) -> dict[str, torch.Tensor]:
    conversation = SpanTask(TaskConfig()).conversation("a dog", duration_s=2.0, spans=[(0.5, 1.0)])
    features = encode(processor, conversation, make_clip([0.0, 0.6, 1.0], size=(64, 32)))
    return collate([features], pad_token_id=processor.tokenizer.pad_token_id)


def test_only_the_linear_layers_of_the_language_model_are_quantized_and_the_estimate_knows_their_bytes(config):
    model, _ = load_model(config)
    part_of = family_of(model.config).part_of
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    packed = {name for name, module in linear.items() if type(module) is not nn.Linear}
    assert packed == {name for name in linear if part_of(name) == "language" and "lm_head" not in name}
    held = sum(parameter.nbytes for parameter in model.parameters())
    for name in packed:
        weight = linear[name].weight
        if config.quantization == "4bit":
            state = weight.quant_state
            held += state.absmax.nbytes + state.state2.absmax.nbytes
        else:
            held += 4 * weight.shape[0]
    lora = LoraConfig(r=4)
    before = sum(parameter.nbytes for parameter in model.parameters())
    trained = prepare_training(model, PartsConfig(), lora)
    held += sum(parameter.nbytes for parameter in trained.parameters()) - before
    counts = count(empty_model("tiny", torch.float32), PartsConfig(), lora, quantization=config.quantization)
    assert counts.weights_bytes == held
    rows = part_rows(trained, PartsConfig(), 1e-4)
    assert sum(row.parameters for row in rows) == counts.parameters


def test_gradients_are_the_same_before_and_after_an_evaluation(config, make_clip):
    """On a CPU bitsandbytes changes 4-bit weights in evaluation into a form that has no gradient."""
    loaded, processor = load_model(config)
    torch.manual_seed(0)
    model = prepare_training(loaded, PartsConfig(), LoraConfig(r=4))
    for name, weight in model.named_parameters():
        if "lora_B" in name:  # zero at first, so that no gradient would reach the other matrix
            torch.nn.init.normal_(weight, std=0.02)
    batch, trained = batch_of(processor, make_clip), [one for one in model.parameters() if one.requires_grad]
    before = torch.autograd.grad(model.train()(**batch).loss, trained)
    with torch.no_grad():
        model.eval()(**batch)
    after = torch.autograd.grad(model.train()(**batch).loss, trained)
    assert all(bool(gradient.any()) for gradient in before)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_qlora_learns_and_its_adapter_loads_on_the_same_rounded_weights_and_exports(config, make_clip, tmp_path):
    loaded, processor = load_model(config)
    torch.manual_seed(0)
    model = prepare_training(loaded, PartsConfig(projector="full"), LoraConfig(r=4)).train()
    batch = batch_of(processor, make_clip)
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=3e-3)
    losses = []
    for _ in range(8):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    with torch.no_grad():
        expected = model.eval()(**batch).logits
    folder: Path = tmp_path / "run" / "best"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    save_settings(Settings(config, VideoConfig(), TaskConfig()), folder)
    again, _ = load_model(ModelConfig(path=str(folder), quantization=config.quantization))
    with torch.no_grad():
        assert torch.allclose(again.eval()(**batch).logits, expected, atol=1e-4)
    exported = export_model(str(folder), tmp_path / "plain", dtype="float32")
    assert exported.check is not None and exported.check.fault is None
    plain, _ = load_model(ModelConfig(path=str(tmp_path / "plain")))
    assert {type(module) for module in plain.modules() if isinstance(module, nn.Linear)} == {nn.Linear}
    with torch.no_grad():
        difference = (plain.eval()(**batch).logits - expected).abs().max()
    assert difference < TOLERANCE[config.quantization] * expected.abs().max()
