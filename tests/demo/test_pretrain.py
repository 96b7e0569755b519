import json

import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from vtg.demo.pretrain import main
from vtg.demo.tiny_model import TINY_QWEN3_VL


def test_the_tiny_model_can_be_made_again_by_its_command(tmp_path):
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        main(["--steps", "2", "--vision-steps", "2", "--batch-size", "2", "--device", "cpu", "--out", str(folder)])
    first, second = (load_file(folder / "model.safetensors") for folder in folders)
    assert all(torch.equal(first[name], second[name]) for name in first)
    shipped = load_file(TINY_QWEN3_VL / "model.safetensors")
    assert {name: value.shape for name, value in first.items()} == {
        name: value.shape for name, value in shipped.items()
    }
    assert json.loads((folders[0] / "pretrain.json").read_text()) == {"steps": 2, "schedule": 2000, "seed": 0}
    tokenizer = AutoProcessor.from_pretrained(folders[0]).tokenizer
    assert tokenizer.get_vocab() == AutoProcessor.from_pretrained(TINY_QWEN3_VL).tokenizer.get_vocab()
    assert {value.dtype for value in first.values()} == {torch.bfloat16}
    AutoModelForImageTextToText.from_pretrained(folders[0])
