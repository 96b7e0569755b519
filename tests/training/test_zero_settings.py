"""What deepspeed=… means, without DeepSpeed."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sft_runs import ROOT, compose

from vtg.errors import ConfigError
from vtg.training.zero.zero_settings import AUTO, deepspeed_settings, set_single_process_launch


def settings(*words: str) -> dict | None:
    return deepspeed_settings(compose(list(words)).deepspeed)


def test_choices_are_stages_with_and_without_the_memory_of_the_host():
    assert settings() is None and settings("deepspeed=none") is None
    found = {
        name: settings(f"deepspeed={name}")["zero_optimization"]
        for name in ("zero2", "zero3", "zero2_offload", "zero3_offload")
    }
    assert [zero["stage"] for zero in found.values()] == [2, 3, 2, 3]
    assert [name for name, zero in found.items() if "offload_optimizer" in zero] == ["zero2_offload", "zero3_offload"]
    assert [name for name, zero in found.items() if "offload_param" in zero] == ["zero3_offload"]
    assert all(zero.get("stage3_gather_16bit_weights_on_model_save") for zero in found.values() if zero["stage"] == 3)


@pytest.mark.parametrize("choice", ["zero2", "zero3_offload"])
def test_values_come_from_the_trainer_and_so_do_optimizer_and_schedule(choice):
    found = settings(f"deepspeed={choice}")
    assert {found[name] for name in AUTO} == {"auto"} and found["bf16"]["enabled"] == "auto"
    assert not {"optimizer", "scheduler"} & found.keys()
    assert found["zero_force_ds_cpu_optimizer"] is False


def test_a_file_is_taken_as_it_is_but_for_the_optimizer_it_would_force(tmp_path):
    path, own = tmp_path / "ds.json", {"zero_optimization": {"stage": 2, "reduce_bucket_size": 1000}}
    path.write_text(json.dumps(own))
    assert settings(f"deepspeed.file={path}") == own | {"zero_force_ds_cpu_optimizer": False}
    path.write_text(json.dumps(own | {"zero_force_ds_cpu_optimizer": True}))
    assert settings(f"deepspeed.file={path}")["zero_force_ds_cpu_optimizer"] is True


FILES = {
    "{": "is no JSON (",
    "[1]": "must hold a JSON object",
    '{"optimizer": {"type": "AdamW"}}': "has a block 'optimizer', which would take the place of trainer.*",
    '{"scheduler": {"type": "WarmupLR"}}': "has a block 'scheduler', which would take the place of trainer.*",
    '{"zero_optimization": {"stage": 3}}': (
        "zero_optimization.stage3_gather_16bit_weights_on_model_save must be true, or checkpoints would hold no model; "
        "add it"
    ),
}


@pytest.mark.parametrize("text", FILES)
def test_a_file_that_cannot_be_is_named_with_what_to_change(tmp_path, text):
    path = tmp_path / "ds.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(f"deepspeed.file = {str(path)!r}: {FILES[text]}")):
        settings(f"deepspeed.file={path}")


WRONG = {
    "deepspeed.file=no.json": f"deepspeed.file = 'no.json': no such file (looked in {Path.cwd()}); check the path",
    "deepspeed=zero2 deepspeed.file=no.json": "deepspeed.file and deepspeed.stage are both set; keep one of them",
    "deepspeed.stage=4": "deepspeed.stage = 4: must be one of 0, 1, 2, 3",
    "deepspeed.offload_optimizer=true": (
        "deepspeed.offload_optimizer = true: needs a stage; set deepspeed=zero2_offload"
    ),
    "deepspeed=zero2 deepspeed.offload_parameters=true": (
        "deepspeed.offload_parameters = true: needs deepspeed.stage = 3, not 2"
    ),
}


@pytest.mark.parametrize("words", WRONG)
def test_settings_that_cannot_go_together_end_in_one_line(words):
    with pytest.raises(ConfigError, match=f"^{re.escape(WRONG[words])}$"):
        settings(*words.split())


def test_a_process_without_a_launcher_is_the_only_one(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")  # so that the end of the test removes what is set meanwhile
        monkeypatch.delenv(name)
    set_single_process_launch()
    assert [os.environ[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")] == ["0", "0", "1"]
    assert int(os.environ["MASTER_PORT"]) > 1023
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    set_single_process_launch()
    assert os.environ["RANK"] == "3" and os.environ["WORLD_SIZE"] == "4"


@pytest.mark.parametrize("word", ["--local_rank=1", "--local-rank=1"])
def test_what_a_launcher_appends_is_no_setting(word):
    command = [sys.executable, str(ROOT / "train_sft.py"), word, "deepspeed=zero2", "--cfg", "job"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "deepspeed:\n  stage: 2" in done.stdout and "local" not in done.stdout.split("deepspeed:")[1][:200]
