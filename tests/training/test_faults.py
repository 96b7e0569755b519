"""What goes wrong outside the model: each ends in bounded time with one error, and what was saved is whole."""

import ctypes
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing import active_children
from pathlib import Path

import forked
import pytest
import rl_runs
import sft_runs
import torch
from sft_runs import ROOT, read
from torch.utils.data import get_worker_info

from vtg.errors import RunError
from vtg.models.checkpoint import last_checkpoint
from vtg.training.processes import processes_exit_together
from vtg.training.sft.run_sft import train as train_sft

ALONE = (
    "evaluation.shuffled_video_control=false",
    "data.val_file=null",
    "data.test_file=null",
    "trainer.warmup_steps=0",
    "trainer.save_steps=1",
)
"""Nothing is measured, before or after."""


def words_of(script: str, demo: Path, out: Path, *more: str) -> list[str]:
    overrides = sft_runs.overrides if script == "sft" else rl_runs.overrides
    return overrides(demo, out, *ALONE, *more)


def train(script: str, words: list[str]) -> None:
    with processes_exit_together():
        train_sft(sft_runs.compose(words)) if script == "sft" else rl_runs.train(words)


@pytest.mark.parametrize("script", ["sft", "rl"])
def test_a_decode_that_blocks_costs_its_rows(script, demo_dir, tmp_path, at_decoding):
    rows = read(demo_dir / "train.jsonl")
    stuck, waited = rows[0]["video"], []

    def block(path: str) -> None:
        if path.endswith(stuck):
            waited.append(stuck)
            ctypes.CDLL(None).pause()  # in C, without Python's lock, for ever

    at_decoding(block)
    more = ("video.timeout_s=1", "data.max_bad_share=0.9", "trainer.max_steps=1")
    train(script, words_of(script, demo_dir, tmp_path, *more, f"trainer.per_device_train_batch_size={len(rows)}"))
    skipped = read(tmp_path / "skipped.jsonl")
    assert waited == [stuck]  # once, not for each of its rows
    assert {one["video"] for one in skipped} == {stuck}
    assert all("decoding took longer than 1 s (video.timeout_s)" in one["reason"] for one in skipped)
    assert (tmp_path / "best" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("script", ["sft", "rl"])
def test_a_data_worker_that_is_killed_ends_the_run_in_one_error(script, demo_dir, tmp_path, at_decoding):
    def die(path: str) -> None:
        if get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)

    at_decoding(die)
    words = words_of(script, demo_dir, tmp_path, "trainer.dataloader_num_workers=1")
    with pytest.raises(RunError, match=r"data worker \d+ (is killed by signal: Killed|exited unexpectedly)") as error:
        train(script, words)
    assert "lower trainer.dataloader_num_workers; " in str(error.value)
    assert "the same command goes on from the last checkpoint" in str(error.value)


@pytest.mark.parametrize("script", ["sft", "rl"])
def test_all_evaluations_of_a_run_have_the_same_data_workers(script, demo_dir, tmp_path, at_decoding):
    def note(path: str) -> None:
        if get_worker_info() is not None:
            with (tmp_path / "readers").open("a") as file:
                file.write(f"{Path(path).name.split('_')[0]} {os.getpid()}\n")

    at_decoding(note)
    overrides = sft_runs.overrides if script == "sft" else rl_runs.overrides
    more = ("trainer.dataloader_num_workers=1", "trainer.max_steps=2", "trainer.eval_steps=1", "trainer.save_steps=1")
    files = (f"data.{split}_file={demo_dir / split}.jsonl" for split in ("val", "test"))
    train(script, overrides(demo_dir, tmp_path / "run", *more, *files, "trainer.eval_strategy=steps"))
    read_by: dict[str, set[str]] = {}
    for split, pid in map(str.split, (tmp_path / "readers").read_text().splitlines()):
        read_by.setdefault(split, set()).add(pid)
    assert len(read_by["test"]) == 1 and read_by["val"] == read_by["test"]
    assert read_by["train"].isdisjoint(read_by["test"])
    assert not active_children()


def under_torchrun(program: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(program), *words],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("script", ["sft", "rl"])
def test_a_rank_that_is_killed_ends_the_others_in_one_line(script, demo_dir, tmp_path):
    words = words_of(script, demo_dir, tmp_path, "trainer.per_device_train_batch_size=1", "trainer.use_cpu=true")
    program = (Path(__file__).with_name("faults.py"), "killed", "1", "2", script, *words)
    done = under_torchrun(*program) if script == "sft" else forked.run(*program, ranks=2)
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(said) == 1 and "rank 0: another process of this run has ended, or does not answer" in said[0]
    assert f"{ROOT / 'vtg'}/" not in done.stderr  # the launcher has a traceback of its own
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-1"


def small_files(limit: int) -> Callable[[], None]:
    """Before a program starts: no file of it can grow over the limit, as on a disk that is full."""
    return partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit))


@pytest.mark.slow
@pytest.mark.parametrize("script", ["sft", "rl"])
def test_a_disk_that_is_full_when_a_checkpoint_is_written_ends_the_run_and_leaves_what_was_saved(
    script, demo_dir, tmp_path
):
    words = words_of(script, demo_dir, tmp_path, "trainer.max_steps=1")
    train(script, words)
    whole = (tmp_path / "checkpoint-1" / "adapter_model.safetensors").read_bytes()
    again = words_of(script, demo_dir, tmp_path / "full", "trainer.max_steps=1")
    program, before = f"train_{script}.py", small_files(len(whole) // 2)
    done = forked.run(program, *again, before=before)
    assert done.returncode == 1, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(said) == 1 and f"checkpoint-1 could not be written to {tmp_path / 'full'}" in said[0]
    assert "GB are free there" in said[0] and "Traceback" not in done.stderr
    assert last_checkpoint(tmp_path / "full") is None and not (tmp_path / "full" / "best").exists()
    assert forked.run(program, *again).returncode == 0
    assert (tmp_path / "full" / "checkpoint-1" / "adapter_model.safetensors").read_bytes() == whole


def without_the_right_to_write_everywhere() -> None:
    """Before a program starts: root, too, is bound by the rights of a folder."""
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        ctypes.CDLL(None).prctl(24, capability)  # PR_CAPBSET_DROP; without root there is nothing to drop


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_to_is_named_before_any_model_loads(demo_dir, tmp_path):
    out = tmp_path / "locked" / "run"
    out.parent.mkdir(mode=0o555)
    done = subprocess.run(
        [sys.executable, str(ROOT / "train_sft.py"), *words_of("sft", demo_dir, out)],
        capture_output=True,
        text=True,
        timeout=240,
        preexec_fn=without_the_right_to_write_everywhere,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1] == (
        f"error: output_dir = {out}: cannot be written to (Permission denied); choose another output_dir, or make room "
        "or give yourself the right to write there"
    )
    assert "Traceback" not in done.stderr and list(out.parent.iterdir()) == []


def test_an_error_that_is_a_bug_keeps_its_traceback():
    with pytest.raises(RuntimeError, match=r"^a bug$") as error, processes_exit_together():
        raise RuntimeError("a bug")
    assert not isinstance(error.value, RunError)
    with pytest.raises(RuntimeError, match="gloo") as error, processes_exit_together():
        raise RuntimeError("gloo, where there is no other process")
    assert not isinstance(error.value, RunError) and not torch.distributed.is_initialized()
