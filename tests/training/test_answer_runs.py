"""Runs with temporal tokens, and on sets of moments: gone on with exactly, exported, trained further by GRPO."""

import json
import shutil
from pathlib import Path

import pytest
import rl_runs
import torch
from peft import PeftModel
from safetensors.torch import load_file
from sft_runs import compose, losses, overrides, read, run
from test_family_runs import of_model

from vtg.config.model_settings import ModelConfig
from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import patch_factor
from vtg.export.checkpoint_export import export_model
from vtg.models.loading import load_model, load_processor
from vtg.models.time_tokens import vectors
from vtg.tasks.time_vocabulary import time_vocabulary
from vtg.training.sft.run_sft import train

TASK = TaskConfig(answer="tokens", num_bins=20, moments="set")
TOKENS = ("task=tokens", "task.num_bins=20", "task.moments=set", "model.dtype=float32")
STEPS = ("trainer.max_steps=2", "trainer.save_steps=1", "trainer.save_total_limit=9", "trainer.warmup_steps=0")
ALONE = ("trainer.use_cpu=true", "data.val_file=null", "data.test_file=null")


@pytest.fixture(scope="module")
def sets(demo_dir, tmp_path_factory) -> Path:
    """Rows of no, one and two moments."""
    folder = tmp_path_factory.mktemp("sets")
    for split in ("train", "val", "test"):
        rows = read(demo_dir / f"{split}.jsonl")
        for at, one in enumerate(rows):
            several = [[0.5, 1.0], one["timestamp"]] if one["timestamp"][0] > 1.0 else [one["timestamp"], [4.5, 4.9]]
            one["timestamp"] = [[], one["timestamp"], several][at % 3]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return folder


def time_rows(path: str | Path, *, task: TaskConfig | None = None) -> list[torch.Tensor]:
    """The rows of temporal tokens in each table of a checkpoint, its adapter merged."""
    processor = load_processor(str(path))
    config = ModelConfig(path=str(path), patch_factor=patch_factor(processor), dtype="float32")
    model, processor = load_model(config, processor, task=task)
    times = time_vocabulary(processor.tokenizer, TASK)
    assert times is not None
    plain = model.merge_and_unload() if isinstance(model, PeftModel) else model
    return [weight[list(times.ids)].detach() for weight in vectors(plain)]


@pytest.mark.parametrize(
    ("family", "way"),
    [
        pytest.param("qwen3_vl", (), marks=pytest.mark.slow),
        pytest.param("qwen3_vl", ("lora=none", "batching=packed"), marks=pytest.mark.soak),
        pytest.param("qwen3_vl", ("lora=qlora", "lora.r=4"), marks=pytest.mark.soak),
        pytest.param("molmo2", (), marks=pytest.mark.soak),
        pytest.param("molmo2", ("lora=none",), marks=pytest.mark.soak),
    ],
    ids=str,
)
def test_temporal_tokens_are_learned_gone_on_with_exactly_and_exported(family, way, tiny_dir, demo_dir, sets, tmp_path):
    if "lora=qlora" in way:
        pytest.importorskip("bitsandbytes")
    out, base = tmp_path / "run", tiny_dir(family)
    words = overrides(sets, out, *of_model(base), *TOKENS, *STEPS, *ALONE, f"data.video_dir={demo_dir}", *way)
    train(compose(words))
    whole = Path(shutil.copytree(out, tmp_path / "whole"))
    rl_runs.cut_back(out, step=1)
    train(compose(words))
    assert losses(out) == losses(whole) and len(losses(out)) == 2
    [file] = [path.name for path in (whole / "best").glob("*model.safetensors")]
    found, wanted = load_file(out / "best" / file), load_file(whole / "best" / file)
    assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)

    export_model(str(out), tmp_path / "exported")  # an error where it does not answer as the run does
    began, learned, exported = (
        time_rows(path, task=task) for path, task in ((base, TASK), (out, None), (tmp_path / "exported", None))
    )
    assert (learned[-1] != began[-1]).any(1).all()  # a head's, which score every answer
    assert (learned[0] != began[0]).any()  # of embeddings of their own, those of tokens that were shown
    assert len(exported) == len(learned) and all(map(torch.equal, exported, learned))


@pytest.mark.soak
def test_rows_of_no_one_and_several_moments_train_and_are_scored_and_shown_as_sets(demo_dir, sets, tmp_path):
    words = [f"data.video_dir={demo_dir}", "evaluation.max_new_tokens=40"]
    refused = run(*overrides(sets, tmp_path / "one", *words))
    assert refused.returncode == 2 and refused.stderr.strip().splitlines()[-1].count("set task.moments=set") == 1
    result = run(*overrides(sets, tmp_path / "out", *words, "task.moments=set"))
    assert result.returncode == 0, result.stderr
    scores = json.loads((tmp_path / "out" / "metrics.json").read_text())["tuned"]
    assert {"F1@0.5", "count_accuracy", "none_recall", "set_mIoU"} <= scores.keys()
    assert "no such moment</b>" in (tmp_path / "out" / "report.html").read_text()
    assert [row["timestamp"] for row in read(tmp_path / "out" / "predictions.jsonl")].count([]) > 0


@pytest.mark.slow
def test_grpo_rewards_sets_and_its_report_shows_them(demo_dir, sets, tmp_path):
    out = tmp_path / "run"
    data = (f"data.video_dir={demo_dir}", f"data.test_file={sets / 'test.jsonl'}", "evaluation.max_new_tokens=40")
    words = rl_runs.overrides(sets, out, *data, "task.moments=set", "rewards=moments", "rl.max_completion_length=40")
    words += ["task.constrained=true", "trainer.max_steps=1", "evaluation.shuffled_video_control=false"]
    rl_runs.train([*words, "trainer.per_device_train_batch_size=6", "rl.temperature=2.0"])
    rows = [row for file in (out / "completions").glob("*.jsonl") for row in read(file)]
    assert {len(row["timestamp"]) == 0 for row in rows} == {True, False}
    assert {row["status"] for row in rows} <= {"ok", "none"}
    for row in rows:
        assert row["rewards"].keys() == {"temporal_iou", "matched_f1", "moment_count"}
        if not row["timestamp"]:
            assert set(row["rewards"].values()) == ({1.0} if row["status"] == "none" else {0.0})
    scores = json.loads((out / "metrics.json").read_text())["tuned"]
    assert {"F1@0.5", "count_accuracy", "none_recall"} <= scores.keys()
    assert "no such moment</b>" in (out / "report.html").read_text()
