"""Under DeepSpeed's launcher ZeRO-2 is the default, and nowhere else; what is chosen wins."""

import os
import re
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import forked
import pytest

from vtg.config.launcher import launched_by_deepspeed

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
RANK = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
DEEPSPEED = RANK | {"CROSS_RANK": "0", "CROSS_SIZE": "1", "LOCAL_SIZE": "1"}
TORCHRUN = RANK | {"TORCHELASTIC_RUN_ID": "none", "GROUP_RANK": "0", "LOCAL_WORLD_SIZE": "1"}


def stage_of(environment: dict[str, str], *overrides: str, script: str = "train_rl.py") -> int:
    """The ZeRO stage that a run would have."""
    done = forked.run(script, "--cfg", "job", *overrides, env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    return stages(done.stdout)[0]


def stages(shown: str) -> list[int]:
    return [int(stage) for stage in re.findall(r"^deepspeed:\n  stage: (\d)$", shown, re.MULTILINE)]


def test_the_launcher_is_told_from_torchrun_and_from_none():
    assert launched_by_deepspeed(DEEPSPEED)
    assert not launched_by_deepspeed(TORCHRUN)
    assert not launched_by_deepspeed(DEEPSPEED | TORCHRUN)  # torchrun within a script that deepspeed started
    assert not launched_by_deepspeed({"PATH": "/bin"})


@pytest.mark.parametrize("script", ["train_sft.py", "train_rl.py"])
def test_the_default_is_zero2_under_the_launcher_and_none_elsewhere(script):
    assert stage_of(DEEPSPEED, script=script) == 2
    assert stage_of(TORCHRUN, script=script) == 0
    assert stage_of({}, script=script) == 0


@pytest.mark.parametrize(
    ("override", "stage"), [("deepspeed=none", 0), ("deepspeed.stage=0", 0), ("deepspeed=zero3", 3)]
)
def test_what_is_chosen_wins_over_the_launcher(override, stage):
    assert stage_of(DEEPSPEED, override) == stage


def test_a_deepspeed_file_brings_its_own_stage(tmp_path):
    assert stage_of(DEEPSPEED, f"deepspeed.file={tmp_path / 'zero.json'}") == 0


@pytest.mark.slow
@pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed")
def test_the_launcher_itself_is_known():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [str(BIN / "deepspeed"), "--num_gpus=2", f"--master_port={port}", "train_rl.py", "--cfg", "job"]
    environment = os.environ | {"DS_ACCELERATOR": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=True)
    assert stages(done.stdout) == [2, 2]
