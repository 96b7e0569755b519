import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from commands import called
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from vtg import predict
from vtg.config.model_settings import LoraConfig, ModelConfig, PartsConfig
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.data.encoding import encode, patch_factor
from vtg.data.padding import collate
from vtg.errors import ConfigError
from vtg.export.__main__ import main
from vtg.export.checkpoint_export import LogitComparison, export_model
from vtg.models.adapting import prepare_training
from vtg.models.checkpoint import Settings, adapter_base, base_model, read_settings, save_settings
from vtg.models.loading import load_model, load_processor
from vtg.tasks.span_task import SpanTask

run = partial(called, main)
ROOT = Path(__file__).parents[1]
VIDEO = VideoConfig(max_frames=8, min_pixels=4096, max_pixels=4096, fps=1.5)

MakeAdapter = Callable[..., Path]


@pytest.fixture(autouse=True)
def _leave_logging_as_it_was():
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    yield
    logging.getLogger().handlers[:], logging.getLogger().level = handlers, level


@pytest.fixture
def make_adapter(tmp_path: Path) -> MakeAdapter:
    """Writes a run directory whose best/ is an adapter with random weights."""

    def make(path: str = "tiny", *, factor: int = 32, std: float = 0.2, quantization: str = "none", **lora) -> Path:
        config = ModelConfig(path=path, patch_factor=factor, dtype="float32", quantization=quantization)
        loaded, processor = load_model(config)
        model = prepare_training(loaded, PartsConfig(), LoraConfig(r=4, alpha=8, **lora))
        torch.manual_seed(1)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=std)
        best = tmp_path / "run" / "best"
        model.save_pretrained(best)
        processor.chat_template += "{# of this run #}"
        processor.save_pretrained(best)
        save_settings(Settings(config, VIDEO, TaskConfig(answer="relative")), best)
        return tmp_path / "run"

    return make


def logits_of(model, processor, make_clip) -> torch.Tensor:
    factor = patch_factor(processor)
    clip = make_clip([0.0, 0.6, 1.0, 1.4], size=(2 * factor, factor))
    features = encode(processor, SpanTask(TaskConfig()).conversation("a dog", duration_s=2.0, spans=[(0.5, 1.0)]), clip)
    batch = collate([features], pad_token_id=processor.tokenizer.pad_token_id)
    with torch.no_grad():
        return model.eval()(**{key: value.to(model.device) for key, value in batch.items()}).logits.cpu()


@pytest.mark.parametrize("lora", [{}, {"use_dora": True, "target_modules": r"language_model.*[qv]_proj$"}])
@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_5_vl"])
def test_a_merged_adapter_computes_what_the_unmerged_one_does(
    family, lora, make_adapter, make_clip, qwen2_5_vl_dir, tmp_path, capsys
):
    path, factor = {"qwen3_vl": ("tiny", 32), "qwen2_5_vl": (str(qwen2_5_vl_dir), 28)}[family]
    source = make_adapter(path, factor=factor, **lora)
    out = tmp_path / "exported"
    code, printed, err = run(capsys, source, "-o", out)
    assert (code, printed) == (0, f"{out}\n"), err
    assert "logits differ from the checkpoint's by up to " in err
    unmerged, processor = load_model(ModelConfig(path=str(source), patch_factor=factor, dtype="float32"))
    expected = logits_of(unmerged, processor, make_clip)
    merged = AutoModelForImageTextToText.from_pretrained(out, dtype="auto")
    assert merged.dtype == torch.float32
    assert torch.allclose(logits_of(merged, AutoProcessor.from_pretrained(out), make_clip), expected, atol=1e-3)
    plain, _ = load_model(ModelConfig(path=path, patch_factor=factor, dtype="float32"))
    assert (expected - logits_of(plain, processor, make_clip)).abs().max() > 0.1


@pytest.mark.parametrize("quantization", ["none", "4bit"])
def test_an_adapter_alone_answers_as_the_checkpoint_does(quantization, make_adapter, make_clip, tmp_path, capsys):
    if quantization != "none":
        pytest.importorskip("bitsandbytes")
    source, out = make_adapter(quantization=quantization), tmp_path / "adapter"
    code, printed, err = run(capsys, source, "-o", out, "--adapter-only")
    assert (code, printed) == (0, f"{out}\n"), err
    assert "logits differ from the checkpoint's by up to " in err
    names = {path.name for path in out.iterdir()}
    assert names >= {"adapter_model.safetensors", "adapter_config.json", "generation_config.json", "vtg.json"}
    assert "model.safetensors" not in names and "tokenizer.json" in names
    saved = load_file(out / "adapter_model.safetensors")
    before = load_file(source / "best" / "adapter_model.safetensors")
    assert saved.keys() == before.keys() and all(torch.equal(saved[name], before[name]) for name in saved)
    config = ModelConfig(path=str(source), dtype="float32", quantization=quantization)
    expected = logits_of(*load_model(config), make_clip)
    again = logits_of(*load_model(replace(config, path=str(out))), make_clip)
    assert torch.equal(again, expected)
    card = (out / "README.md").read_text()
    assert "PeftModel.from_pretrained(model, folder)" in card and "library_name: peft" in card
    assert ("BitsAndBytesConfig(load_in_4bit=True" in card) == (quantization == "4bit")


def test_the_base_of_an_adapter_alone_is_called_what_others_call_it(make_adapter, tmp_path):
    out = tmp_path / "adapter"
    export_model(str(make_adapter()), out, check=False, adapter_only=True, base_name="Qwen/Qwen3-VL-4B-Instruct")
    assert adapter_base(str(out)) == "Qwen/Qwen3-VL-4B-Instruct"
    document = json.loads((out / "adapter_config.json").read_text())
    assert document["base_model_name_or_path"] == "Qwen/Qwen3-VL-4B-Instruct"
    card = (out / "README.md").read_text()
    assert "base_model: Qwen/Qwen3-VL-4B-Instruct" in card and "base_model_relation: adapter" in card


def test_the_folder_is_whole_and_nothing_lies_beside_it(make_adapter, tmp_path):
    source, out = make_adapter(), tmp_path / "exported"
    out.mkdir()
    found = export_model(str(source), out)
    names = {path.name for path in out.iterdir()}
    assert names >= {"model.safetensors", "config.json", "generation_config.json", "processor_config.json"}
    assert names >= {"tokenizer.json", "chat_template.jinja", "vtg.json", "README.md"}
    assert not [name for name in names if "adapter" in name]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert not [name for name in load_file(out / "model.safetensors") if "lora" in name]
    assert found.base == "tiny" and found.checkpoint == str(source / "best")
    assert found.check is not None and found.check.adapter is not None and found.check.difference < 1e-3
    assert AutoProcessor.from_pretrained(out).chat_template.endswith("{# of this run #}")
    assert read_settings(out) == Settings(ModelConfig(path=".", dtype="float32"), VIDEO, TaskConfig(answer="relative"))


def test_the_export_answers_and_is_trained_further(make_adapter, write_mp4, tmp_path, monkeypatch, capsys):
    out = tmp_path / "exported"
    export_model(str(make_adapter()), out, check=False)
    words = [
        f"checkpoint={out}",
        f"video={write_mp4(range(0, 4000, 250))}",
        "query=red",
        "max_new_tokens=4",
        "json=true",
    ]
    monkeypatch.setattr(sys, "argv", ["vtg.predict", *words, f"output_dir={tmp_path / 'answers'}"])
    predict.main()
    printed, err = capsys.readouterr()
    assert json.loads(printed)["status"] in ("ok", "malformed", "out_of_range", "reversed")
    assert f"{out}/vtg.json (fps at 1.5 fps, 4 to 8 frames" in err
    config = ModelConfig(path=str(out), dtype="float32")
    adapted = prepare_training(load_model(config)[0], PartsConfig(), LoraConfig(r=2))
    assert any("lora_A" in name for name, _ in adapted.named_parameters())
    assert base_model(config) == config  # the base that a new adapter will name


WITHOUT_VTG = "import sys; sys.modules['vtg'] = None; exec(sys.argv[1])"


def snippet_of(folder: Path, video: str) -> str:
    [snippet] = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert "vtg" not in snippet.replace("import", "") and '"video.mp4"' in snippet
    return snippet.replace("video.mp4", video).replace("a person sits down", "the red circle appears")


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_5_vl"])
def test_the_snippet_of_the_model_card_gives_vtgs_answer_where_there_is_no_vtg(
    family, make_adapter, qwen2_5_vl_dir, demo_dir, tmp_path, monkeypatch, capsys
):
    path, factor = {"qwen3_vl": ("tiny", 32), "qwen2_5_vl": (str(qwen2_5_vl_dir), 28)}[family]
    out = tmp_path / "my export"
    found = export_model(str(make_adapter(path, factor=factor)), out)
    assert found.answers is not None and found.answers.fault is None
    video = str(demo_dir / json.loads((demo_dir / "test.jsonl").read_text().splitlines()[0])["video"])
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_VTG, snippet_of(out, video)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    words = [f"checkpoint={out}", f"video={video}", "query=the red circle appears", "json=true"]
    monkeypatch.setattr(sys, "argv", ["vtg.predict", *words, f"output_dir={tmp_path / 'answers'}"])
    predict.main()
    assert done.stdout == json.loads(capsys.readouterr().out)["text"] + "\n"


def test_the_card_says_what_it_was_trained_on_and_asks_its_question(make_adapter, tmp_path):
    export_model(str(make_adapter()), tmp_path / "exported", check=False)
    card = " ".join((tmp_path / "exported" / "README.md").read_text().split())
    assert "The LoRA adapter is merged into `tiny`" in card
    assert "It was trained on 4 to 8 frames of 4096 pixels each" in card and "at 1.5 a second" in card
    assert "fractions of its length" in card  # the question of the answer form it was trained on
    processor = AutoProcessor.from_pretrained(tmp_path / "exported").video_processor
    assert (processor.fps, processor.min_frames, processor.max_frames) == (1.5, 4, 8)


@pytest.mark.slow
def test_the_snippet_of_a_model_that_vtg_did_not_train_runs(qwen2_5_vl_dir, write_mp4, tmp_path):
    export_model(str(qwen2_5_vl_dir), tmp_path / "again", check=False)
    snippet = snippet_of(tmp_path / "again", write_mp4(range(0, 4000, 250)))
    done = subprocess.run([sys.executable, "-c", WITHOUT_VTG, snippet], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("\n"), done.stderr


def test_a_full_fine_tune_is_saved_again_and_a_hub_style_model_gets_no_settings(qwen2_5_vl_dir, make_clip, tmp_path):
    found = export_model(str(qwen2_5_vl_dir), tmp_path / "again")
    assert found.base is None and found.check is not None
    assert (found.check.adapter, found.check.fault) == (None, None)
    before, after = (load_file(folder / "model.safetensors") for folder in (qwen2_5_vl_dir, tmp_path / "again"))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert read_settings(tmp_path / "again") is None
    assert "It was trained on" not in (tmp_path / "again" / "README.md").read_text()


def test_the_dtype_is_the_asked_one_or_the_bases_own(make_adapter, tmp_path, capsys):
    base, _ = load_model(ModelConfig(path="tiny", dtype="bfloat16"))
    base.save_pretrained(tmp_path / "base")
    load_processor("tiny").save_pretrained(tmp_path / "base")
    source = make_adapter(str(tmp_path / "base"))
    code, printed, _ = run(capsys, source, "-o", tmp_path / "auto", "--json")
    document = json.loads(printed)
    assert code == 0 and document["dtype"] == "bfloat16" and document["base"] == str(tmp_path / "base")
    assert 1e-4 < document["difference"] < document["adapter_difference"] / 2
    assert (
        load_file(tmp_path / "auto" / "model.safetensors")["model.language_model.norm.weight"].dtype == torch.bfloat16
    )
    assert run(capsys, source, "-o", tmp_path / "half", "--dtype", "float16", "--no-check")[0] == 0
    assert AutoModelForImageTextToText.from_pretrained(tmp_path / "half", dtype="auto").dtype == torch.float16


def test_an_adapter_that_rounding_would_lose_is_not_exported(make_adapter, tmp_path, capsys):
    source, out = make_adapter(std=1e-6), tmp_path / "exported"
    code, printed, err = run(capsys, source, "-o", out, "--dtype", "bfloat16")
    assert (code, printed) == (1, "")
    assert "error: the exported model is not kept: its logits differ from the checkpoint's by up to " in err
    assert "bfloat16 rounds it away; give --dtype float32" in err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_difference_that_rounding_does_not_explain_is_a_fault():
    right = LogitComparison(difference=1e-3, scale=20.0, adapter=3.0, dtype=torch.float32)
    assert right.fault is None
    assert "differ from the checkpoint's by up to 3; float32 explains 0.02" in str(replace(right, difference=3.0).fault)
    assert "explains" in str(replace(right, difference=float("nan"), dtype=torch.float16).fault)
    assert replace(right, difference=0.4, adapter=None, dtype=torch.bfloat16).fault is None


def test_wrong_usage_ends_with_2_and_says_the_way_out(make_adapter, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept.txt").write_text("kept")
    code, _, err = run(capsys, "tiny", "-o", tmp_path / "full")
    assert code == 2 and err.endswith(
        f"error: -o {tmp_path / 'full'}: there is something already; name a new or an empty folder\n"
    )
    assert run(capsys, "tiny", "-o", tmp_path / "full" / "kept.txt")[0] == 2
    code, _, err = run(capsys, tmp_path / "no_run", "-o", tmp_path / "out")
    assert code == 2 and "no such folder" in err
    code, _, err = run(capsys, tmp_path / "full", "-o", tmp_path / "out")
    assert code == 2 and "holds neither a model nor best/ nor checkpoint-*/; train first" in err
    with pytest.raises(SystemExit, match="2"):
        main(["tiny"])
    for words in (["--adapter-only"], ["--base", "a/b"]):
        code, _, err = run(capsys, "tiny", "-o", tmp_path / "out", *words)
        assert code == 2 and f"error: {' '.join(words)}: tiny is a whole model, without an adapter; leave" in err
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="there is something already"):
        export_model("tiny", tmp_path / "full")


@pytest.mark.filterwarnings("ignore:Found missing adapter keys")
def test_an_adapter_that_does_not_fit_its_base_ends_with_1(make_adapter, tmp_path, capsys):
    source = make_adapter()
    weights = source / "best" / "adapter_model.safetensors"
    save_file({key.replace("q_proj", "other"): value for key, value in load_file(weights).items()}, weights)
    assert adapter_base(str(source / "best")) == "tiny"
    code, printed, err = run(capsys, source, "-o", tmp_path / "out")
    assert (code, printed) == (1, "")
    assert "the adapter's weights did not reach the model" in err
    assert not (tmp_path / "out").exists()


def test_help_has_examples_and_needs_no_torch():
    code = (
        "import sys\nfrom vtg.export.__main__ import main\ntry:\n    main(['--help'])\n"
        "finally:\n    assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "python -m vtg.export outputs/sft_tiny_demo -o exported" in done.stdout
    assert "Exit code 0: exported; 1: " in done.stdout
