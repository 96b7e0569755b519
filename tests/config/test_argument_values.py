"""Values of the Trainer's and of GRPO's arguments; and that what a user got wrong is told before torch is imported."""

import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from vtg.config.argument_values import GRPO, TRAINER, annotations, check_values
from vtg.config.schema import RLConfig, SFTConfig
from vtg.errors import ConfigError

ROOT = Path(__file__).parents[2]

WRONG = {
    "trainer.learning_rate = 'fast': must be a number": SFTConfig(trainer={"learning_rate": "fast"}),
    "trainer.max_steps = 1.5: must be a whole number": SFTConfig(trainer={"max_steps": 1.5}),
    "trainer.bf16 = 2: must be true or false": SFTConfig(trainer={"bf16": 2}),
    "trainer.gradient_checkpointing = 'half': must be one of none, selective, full, auto (true is full, false none)": (
        SFTConfig(trainer={"gradient_checkpointing": "half"})
    ),
    "trainer.eval_strategy = 'always': must be one of no, steps, epoch": SFTConfig(trainer={"eval_strategy": "always"}),
    "trainer.per_device_train_batch_size = 0: must be at least 1": SFTConfig(
        trainer={"per_device_train_batch_size": 0}
    ),
    "trainer.weight_decay = nan: must be a number": SFTConfig(trainer={"weight_decay": float("nan")}),
    "trainer.save_strategy = 'epoch': prompts are a stream; set steps, and trainer.save_steps": RLConfig(
        trainer={"save_strategy": "epoch"}, rl={"beta": 0.0}
    ),
    "rl.max_completion_length = None: must be an integer of at least 1: tokens of an answer": RLConfig(
        rl={"max_completion_length": None}
    ),
    "rl.num_generations = 1: must be an integer of at least 2, or no answer is better": RLConfig(
        rl={"num_generations": 1}
    ),
    "rl.epsilon = 'x': must be a number": RLConfig(rl={"epsilon": "x"}),
}


@pytest.mark.parametrize("message", WRONG)
def test_a_value_of_another_type_is_named_with_what_it_must_be(message):
    with pytest.raises(ConfigError) as error:
        check_values(WRONG[message])
    assert str(error.value) == message


def test_values_that_the_libraries_take_are_taken():
    check_values(SFTConfig(trainer={"learning_rate": "1e-4", "max_steps": 3, "report_to": ["tensorboard"]}))
    check_values(SFTConfig(trainer={"save_steps": 0.5, "optim": "adamw_torch_fused", "tf32": None, "debug": ""}))
    check_values(RLConfig(rl={"beta": 0, "loss_type": "dapo", "scale_rewards": False, "epsilon_high": None}))


def test_the_defaults_of_the_libraries_are_no_faults_of_this_check():
    """The annotations are read from source; what they say must hold of the libraries' own values."""
    from transformers import TrainingArguments
    from trl.trainer.grpo_config import GRPOConfig

    for kind, source in ((TrainingArguments, TRAINER), (GRPOConfig, GRPO)):
        own = annotations(*source)
        for entry in fields(kind):
            value = getattr(entry.default, "value", entry.default)
            if entry.init and entry.name in own and isinstance(value, (bool, int, float, str)):
                group = "trainer" if kind is TrainingArguments else "rl"
                config = RLConfig(**{group: {entry.name: value}})
                if entry.name != "per_device_train_batch_size" or value >= 1:
                    check_values(config)


EARLY = """
import contextlib, io, json, runpy, sys
found = []
for script, *words in json.loads(sys.argv[1]):
    said = io.StringIO()
    sys.argv = [script, *words]
    with contextlib.redirect_stderr(said):
        try:
            runpy.run_path(script, run_name="__main__")
            code = 0
        except SystemExit as end:
            code = end.code
    found.append([code, said.getvalue(), sorted({"torch", "transformers", "trl"} & sys.modules.keys())])
print(json.dumps(found))
"""


def test_what_needs_no_torch_is_told_before_torch_is_imported(tmp_path):
    ending = tmp_path / "zero.json"
    ending.write_text("{")
    wrong = {
        ("train_sft.py", "trainer.learning_rate=fast"): "trainer.learning_rate = 'fast': must be a number",
        ("train_sft.py", "trainer.max_stepz=3"): "trainer.max_stepz: TrainingArguments of transformers has no such",
        ("train_sft.py", "trainer.seed=3"): "trainer.seed is set by vtg",
        ("train_sft.py", "data=jsonl", "data.annotation_file=no.jsonl"): "data.annotation_file = 'no.jsonl': no such",
        ("train_sft.py", "model=qwen3_vl_4b", "model.path=./nowhere"): "model path './nowhere': no such folder",
        ("train_sft.py", "model=qwen3_vl_4b"): "model.path = 'Qwen/Qwen3-VL-4B-Instruct': neither a folder nor",
        ("train_sft.py", "deepspeed.stage=5"): "deepspeed.stage = 5: must be one of 0, 1, 2, 3",
        ("train_sft.py", f"deepspeed.file={ending}"): f"deepspeed.file = '{ending}': is no JSON",
        ("train_rl.py", "rl.num_generation=4"): "rl.num_generation: GRPOConfig of trl has no such setting",
        ("train_rl.py", "rl.num_generations=1"): "rl.num_generations = 1: must be an integer of at least 2",
        ("train_rl.py", "rl.beta=much"): "rl.beta = 'much': must be a number",
        ("train_rl.py", "rewards.terms=[{name:iou,weight:1}]"): "rewards.terms[0].name = 'iou': ",
        ("train_rl.py", "curriculum.min_iou=0.9", "curriculum.max_iou=0.3"): "curriculum.min_iou = 0.9",
    }
    done = subprocess.run(
        [sys.executable, "-c", EARLY, json.dumps([[*words, f"output_dir={tmp_path / 'run'}"] for words in wrong])],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for (code, said, heavy), message in zip(json.loads(done.stdout), wrong.values(), strict=True):
        assert said.startswith(f"error: {message}"), said
        assert (code, heavy) == (2, []), said
    assert not (tmp_path / "run").exists()
