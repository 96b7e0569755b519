"""README's commands, taken out of README and typed as they stand there."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from omegaconf import OmegaConf

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMAND = re.compile(r"^(?: {4}|.*&& )?((?:python|torchrun|deepspeed|accelerate) (?!-m pytest)\S.*)$", re.M)
COMMANDS = [command.strip() for command in COMMAND.findall(README)]
PROMISED = (
    "python -m vtg.validate file.jsonl",
    "python train_sft.py data=my_dataset",
    "deepspeed --num_gpus=4 train_rl.py",
)
SMALL = {
    "data/demo.yaml": {"demo": {"train_videos": 2, "val_videos": 1, "test_videos": 1}},
    "data/demo_rl.yaml": {"demo": {"train_videos": 2, "test_videos": 1}},
    "trainer/tiny.yaml": {"num_train_epochs": 1, "per_device_train_batch_size": 4},
    "rl_model/tiny.yaml": {"trainer": {"max_steps": 1, "per_device_train_batch_size": 2}},
    "rl/grpo.yaml": {"num_generations": 2, "max_completion_length": 12},
}
"""File of conf/ → what makes its runs short. The commands stay as README has them."""


@pytest.fixture
def checkout(tmp_path: Path, demo_dir: Path) -> Path:
    """A checkout of small runs, its my_dataset.yaml filled in with the rows of file.jsonl, and a folder of videos."""
    here = tmp_path / "checkout"
    shutil.copytree(ROOT / "conf", here / "conf")
    (here / "vtg").symlink_to(ROOT / "vtg")
    for script in ("train_sft.py", "train_rl.py"):
        shutil.copy(ROOT / script, here)
    for name, values in SMALL.items():
        text = (here / "conf" / name).read_text(encoding="utf-8")
        package = "# @package _global_\n" if text.startswith("# @package _global_") else ""
        merged = OmegaConf.to_yaml(OmegaConf.merge(OmegaConf.create(text), values))
        (here / "conf" / name).write_text(package + merged, encoding="utf-8")
    rows = (demo_dir / "train.jsonl").read_text(encoding="utf-8").splitlines()
    paths = [{**row, "video": str(demo_dir / row["video"])} for row in map(json.loads, rows[:8])]
    (here / "file.jsonl").write_text("".join(json.dumps(row) + "\n" for row in paths), encoding="utf-8")
    (here / "videos").mkdir()
    shutil.copy(paths[0]["video"], here / "videos" / "a.mp4")
    mine = here / "conf" / "data" / "my_dataset.yaml"
    filled_in = mine.read_text(encoding="utf-8").replace("annotation_file: null", "annotation_file: file.jsonl")
    mine.write_text(filled_in.replace("val_share: 0.1", "val_share: 0.5"), encoding="utf-8")
    return here


def typed(command: str, checkout: Path, *more: str, ranks: int = 2) -> str:
    """What a command prints when it is typed in the checkout, on the CPU and with `ranks` processes."""
    words = shlex.split(re.sub(r"(--num_gpus|--nproc_per_node|--num_processes)=\d+", rf"\1={ranks}", command))
    environment = {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(checkout),
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [*words, *more],
        cwd=checkout,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}"
    return done.stdout


def needs_a_hub(command: str) -> bool:
    return "model=qwen" in command


def test_readme_has_the_commands_that_were_promised_and_others_like_them():
    assert set(PROMISED) <= set(COMMANDS)
    assert len([command for command in COMMANDS if needs_a_hub(command)]) >= 4


@pytest.mark.parametrize("command", [command for command in COMMANDS if needs_a_hub(command)])
def test_a_command_for_a_model_of_the_hub_composes(command, checkout):
    script = command[command.index("train_") :]
    said = typed(f"python {script}", checkout, "--cfg", "job")
    config = OmegaConf.create(said)
    assert config.model.path.startswith(("Qwen/", "outputs/"))
    assert config.data.annotation_file == "file.jsonl"


@pytest.mark.slow
@pytest.mark.parametrize("command", PROMISED)
def test_a_promised_command_does_what_it_says(command, checkout):
    if command.startswith("deepspeed") and find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed")
    said = typed(command, checkout)
    if "validate" in command:
        assert "8 rows" in said
        return
    (run,) = (checkout / "outputs").glob("*/metrics.json")
    assert {"base", "tuned"} <= json.loads(run.read_text(encoding="utf-8")).keys()
    if command.startswith("deepspeed"):
        assert "ZeRO-2" in said
        assert OmegaConf.load(run.parent / "config.yaml").deepspeed.stage == 2
        assert json.loads((run.parent / "environment.json").read_text(encoding="utf-8"))["world_size"] == 2


@pytest.mark.soak
def test_readmes_commands_run_one_after_another_as_they_are_printed(checkout):
    if find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed")
    sequence = [command for command in COMMANDS if not needs_a_hub(command)]
    assert len(sequence) >= 5
    for command in sequence:
        typed(command, checkout)
    assert (checkout / "outputs" / "sft_tiny_demo" / "metrics.json").is_file()
    assert (checkout / "outputs" / "sft_tiny_my_dataset" / "metrics.json").is_file()
