import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import vtg.demo.tiny_model
from vtg.demo.tiny_model import SPECIAL_TOKENS, TINY_QWEN3_VL, build_qwen2_5_vl, build_qwen3_vl

MAX_BYTES = 10 * 2**20

LOAD_PLAINLY = """
import sys
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

for folder, side in zip(sys.argv[1:], (64, 56)):
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    messages = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "a red circle"}]}]
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    frames = torch.zeros(4, 3, side, side, dtype=torch.uint8)
    metadata = {"fps": 2.0, "frames_indices": [0, 1, 2, 3], "total_num_frames": 4, "duration": 2.0}
    settings = {"do_sample_frames": False, "do_resize": False, "return_tensors": "pt"}
    inputs = processor(text=[text], videos=[frames], video_metadata=[metadata], **settings)
    out = model.generate(**inputs, max_new_tokens=3, min_new_tokens=3, do_sample=False)
    assert out.shape[1] == inputs["input_ids"].shape[1] + 3, out.shape
    print(type(model).__name__, type(processor).__name__)
assert not any(name.split(".")[0] == "vtg" for name in sys.modules)
"""


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_every_special_token_is_one_id(qwen3_vl, token):
    tokenizer = qwen3_vl.processor.tokenizer
    ids = tokenizer(f"a{token}b", add_special_tokens=False)["input_ids"]
    assert ids.count(tokenizer.convert_tokens_to_ids(token)) == 1
    assert token in tokenizer.all_special_tokens
    assert len(ids) == 3 and tokenizer.decode(ids) == f"a{token}b"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "ab"


def test_every_digit_is_a_token_of_its_own(qwen3_vl):
    tokenizer = qwen3_vl.processor.tokenizer
    for number in ("0", "12.3", "1024.05", "99999"):
        ids = tokenizer(number, add_special_tokens=False)["input_ids"]
        assert [tokenizer.decode([one]) for one in ids] == list(number)


@pytest.mark.parametrize("text", ["ein Mann läuft", "犬 🐕", "a\tb\n\n c", "<12.3 seconds>", "x" * 50])
def test_any_text_survives_the_tokenizer(qwen3_vl, text):
    tokenizer = qwen3_vl.processor.tokenizer
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_the_models_ids_are_the_tokenizers(vlm):
    config, tokenizer = vlm.model.config, vlm.processor.tokenizer
    assert config.video_token_id == tokenizer.convert_tokens_to_ids("<|video_pad|>")
    assert config.image_token_id == tokenizer.convert_tokens_to_ids("<|image_pad|>")
    assert config.text_config.vocab_size == len(tokenizer) == vlm.model.get_input_embeddings().num_embeddings
    assert tokenizer.eos_token == "<|im_end|>" and tokenizer.pad_token == "<|endoftext|>"
    assert vlm.model.generation_config.eos_token_id == [tokenizer.eos_token_id, tokenizer.pad_token_id]


def test_the_shipped_folder_is_small_and_holds_safetensors_alone():
    files = [path for path in TINY_QWEN3_VL.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".jinja", ".txt"}
    assert TINY_QWEN3_VL.parent == Path(vtg.demo.tiny_model.__file__).parent
    with safe_open(TINY_QWEN3_VL / "model.safetensors", framework="pt") as weights:
        assert all(torch.isfinite(weights.get_tensor(name)).all() for name in weights.keys())  # noqa: SIM118


def test_the_folders_load_and_generate_with_transformers_alone(qwen2_5_vl_dir, tmp_path):
    script = tmp_path / "load.py"
    script.write_text(LOAD_PLAINLY)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(script), str(TINY_QWEN3_VL), str(qwen2_5_vl_dir)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Qwen3VLForConditionalGeneration Qwen3VLProcessor",
        "Qwen2_5_VLForConditionalGeneration Qwen2_5_VLProcessor",
    ]


def test_the_shipped_model_has_the_architecture_that_is_built_here(qwen3_vl):
    built, processor = build_qwen3_vl(qwen3_vl.processor.tokenizer)
    shipped = {name: value.shape for name, value in qwen3_vl.model.state_dict().items()}
    assert {name: value.shape for name, value in built.state_dict().items()} == shipped
    assert processor.video_processor.patch_size == qwen3_vl.processor.video_processor.patch_size == 16
    assert qwen3_vl.model.config.vision_config.deepstack_visual_indexes == [0]


def test_the_tiny_models_have_the_parts_of_the_large_ones(qwen3_vl):
    models = [qwen3_vl.model, build_qwen2_5_vl(qwen3_vl.processor.tokenizer)[0]]
    assert all(sum(weight.numel() for weight in model.parameters()) < 5_000_000 for model in models)
    names = [{name.split(".")[1] for name, _ in model.named_parameters()} for model in models]
    assert names == [{"visual", "language_model"}] * 2
