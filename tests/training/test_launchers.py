"""The same command under every launcher: two processes (gloo), the same losses."""

import json
import os
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import rl_runs
import sft_runs
from omegaconf import OmegaConf
from sft_runs import ROOT, losses

pytestmark = [pytest.mark.soak, pytest.mark.distributed]

BIN = Path(sys.executable).parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def launchers() -> dict[str, list[list[str]]]:
    """What starts two processes: one command, or one a node."""
    meeting = f"--rdzv_endpoint=127.0.0.1:{free_port()}"
    node = [*TORCHRUN, "--nnodes=2", "--nproc_per_node=1", "--rdzv_id=vtg", "--rdzv_backend=c10d", meeting]
    accelerate = [str(BIN / "accelerate"), "launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]
    return {
        "torchrun": [[*TORCHRUN, "--standalone", "--nproc_per_node=2"]],
        "torchrun on two nodes": [node, node],
        "deepspeed": [[str(BIN / "deepspeed"), "--num_gpus=2", f"--master_port={free_port()}"]],
        "accelerate": [
            [*accelerate, "--mixed_precision=no", "--dynamo_backend=no", f"--main_process_port={free_port()}"]
        ],
    }


def started(launcher: str, script: str, demo: Path, out: Path, *more: str) -> list[subprocess.Popen]:
    overrides = sft_runs.overrides if script == "train_sft.py" else rl_runs.overrides
    alone = ("evaluation.shuffled_video_control=false", "data.val_file=null", "data.test_file=null")
    short = ("trainer.max_steps=2", "trainer.warmup_steps=0", "trainer.save_strategy=no")
    words = [str(ROOT / script), *overrides(demo, out, *alone, *short, "trainer.per_device_train_batch_size=2"), *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    return [
        subprocess.Popen(
            [*command, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
        )
        for command in launchers()[launcher]
    ]


@pytest.fixture(scope="module")
def expected(demo_dir, tmp_path_factory) -> dict[str, dict[int, float]]:
    """The losses under torchrun."""
    found = {}
    for script in ("train_sft.py", "train_rl.py"):
        out = tmp_path_factory.mktemp("runs") / "run"
        for process in started("torchrun", script, demo_dir, out):
            said, _ = process.communicate(timeout=300)
            assert process.returncode == 0, said[-3000:]
        found[script] = losses(out)
        assert sorted(found[script]) == [1, 2]
    return found


@pytest.mark.parametrize("script", ["train_sft.py", "train_rl.py"])
@pytest.mark.parametrize("launcher", [name for name in launchers() if name != "torchrun"])
def test_a_run_is_the_same_under_every_launcher(launcher, script, demo_dir, tmp_path, expected):
    if launcher == "deepspeed" and find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed")
    if launcher == "torchrun on two nodes" and script == "train_rl.py":
        pytest.skip("as train_sft.py: to the script nodes are ranks")
    same = ["deepspeed=none"] if launcher == "deepspeed" else []
    for process in started(launcher, script, demo_dir, tmp_path / "run", *same):
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said[-3000:]
    assert losses(tmp_path / "run") == expected[script]
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["world_size"] == 2
    assert (tmp_path / "run" / "best" / "adapter_model.safetensors").is_file()


@pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed")
@pytest.mark.parametrize("script", ["train_sft.py", "train_rl.py"])
def test_under_deepspeeds_launcher_training_is_with_zero2_and_says_so(script, demo_dir, tmp_path):
    (process,) = started("deepspeed", script, demo_dir, tmp_path / "run")
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said[-3000:]
    assert "started by deepspeed: ZeRO-2 (deepspeed=none: DDP" in said
    assert OmegaConf.load(tmp_path / "run" / "config.yaml").deepspeed.stage == 2
    assert sorted(losses(tmp_path / "run")) == [1, 2]
