"""DeepSpeed ZeRO on two processes (gloo, CPU) against one process without it, in float32.

Losses agree to 1e-5, gradient norms to 1e-3, and weights to a hundredth of the way that training took them
(Adam makes steps of its full size also of gradients that are little more than rounding).
"""

import json
from collections.abc import Callable
from pathlib import Path
from shutil import which

import joint_runs
import pytest
import torch
from joint_runs import copy_to
from rl_runs import cut_back
from rl_runs import overrides as rl_overrides
from rl_runs import train as train_rl
from safetensors.torch import load_file, save_file
from sft_runs import compose, overrides, read
from torch.nn.functional import pad
from transformers import TrainerState

from vtg.config.model_settings import ModelConfig
from vtg.config.task_settings import TaskConfig
from vtg.models.loading import load_model
from vtg.models.time_tokens import vectors
from vtg.tasks.time_vocabulary import time_vocabulary
from vtg.training.sft.run_sft import train

pytest.importorskip("deepspeed", reason="is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.distributed,
    pytest.mark.skipif(which("c++") is None, reason="DeepSpeed compiles its operations on a CPU, and there is no c++"),
]

STAGES = ("zero2", "zero3")
OFFLOADED = ("zero2_offload", "zero3_offload")
PLAIN = ("model.dtype=float32", "trainer.use_cpu=true", "data.val_file=null", "data.test_file=null")
EPOCH = ("trainer.max_steps=-1", "trainer.num_train_epochs=1", "trainer.save_steps=1")
FULL = ("lora=none", "trainer.weight_decay=0.1", *EPOCH)
GRPO = ("model.dtype=float32", "rl.num_iterations=2", "rl.temperature=1.3", "trainer.max_grad_norm=0.5")


@pytest.fixture(scope="module")
def rows(demo_dir, tmp_path_factory) -> Path:
    """Eight rows: two steps of two processes with two each, or of one with four."""
    path = tmp_path_factory.mktemp("rows") / "eight.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in read(demo_dir / "train.jsonl")[:8]))
    return path


def sft_words(demo: Path, rows: Path, out: Path, *more: str, batch: int) -> list[str]:
    """`batch` samples on each process."""
    shape = (f"trainer.per_device_train_batch_size={batch}", "trainer.warmup_steps=0", "trainer.save_total_limit=9")
    return overrides(demo, out, *PLAIN, f"data.annotation_file={rows}", *shape, *more)


def rl_words(demo: Path, out: Path, *more: str, prompts: int) -> list[str]:
    return rl_overrides(demo, out, *GRPO, f"trainer.per_device_train_batch_size={prompts}", *more)


def uneven_rows(demo: Path, folder: Path) -> Path:
    """A long clip and five short ones: of at most 12 s these are two batches, one for each of two processes."""
    found = {row["video"]: row for row in read(demo / "train.jsonl")}
    long = max(found.values(), key=lambda row: row["duration"])
    assert 10 < long["duration"] < 12
    short = {**long, "duration": 2.0, "video_start": 1.0, "video_end": 3.0, "timestamp": [0.5, 1.5]}
    path = folder / "uneven.jsonl"
    rows = [long, *[short] * 5]
    path.write_text("".join(f"{json.dumps(row | {'qid': f'row{at}'})}\n" for at, row in enumerate(rows)))
    return path


@pytest.fixture(scope="module")
def runs(demo_dir, rows, tmp_path_factory) -> Path:
    """The runs of two processes, all in the same two; then those of one that goes on from them."""
    folder = tmp_path_factory.mktemp("zero")
    jobs: list[joint_runs.Job] = []
    for stage in ("none", *STAGES):
        words = sft_words(demo_dir, rows, folder / stage, f"deepspeed={stage}", *FULL, batch=2)
        jobs += [("sft", words), ("cut", [str(folder / stage), str(folder / f"{stage}_whole"), "1"])]
        jobs += [("sft", words)] if stage != "none" else []
    for choice in OFFLOADED:
        jobs.append(("sft", sft_words(demo_dir, rows, folder / choice, f"deepspeed={choice}", *EPOCH, batch=2)))
    for stage in ("none", *STAGES):
        jobs.append(("rl", rl_words(demo_dir, folder / f"rl_{stage}", f"deepspeed={stage}", prompts=1)))
    uneven = ("sft", uneven_words(demo_dir, folder, folder / "uneven"))
    jobs += [uneven, ("copy", [str(folder / "uneven"), str(folder / "uneven_first")]), uneven]
    joint_runs.launch(jobs, processes=2, folder=folder)

    alone: list[joint_runs.Job] = []
    for stage in (*STAGES, *OFFLOADED):
        whole, way = (f"{stage}_whole", FULL) if stage in STAGES else (stage, EPOCH)
        out = folder / f"{stage}_on_one"
        copy_to(folder / whole, out, {str(folder / stage): str(out)})
        cut_back(out, step=1)
        alone.append(("sft", sft_words(demo_dir, rows, out, f"deepspeed={stage}", *way, batch=2)))
    joint_runs.launch(alone, processes=1, folder=folder)
    return folder


def uneven_words(demo: Path, folder: Path, out: Path) -> list[str]:
    """Two epochs of one step; validated after each on three rows, a row at a time, and tested on seven."""
    data = (f"data.annotation_file={uneven_rows(demo, folder)}", "evaluation.max_val_samples=3")
    batches = ("batching=duration", "batching.target_batch_duration=12", "trainer.max_steps=2")
    steps = ("trainer.eval_steps=1", "trainer.save_steps=1", "evaluation.batch_size=1", "trainer.warmup_steps=0")
    more = ("evaluation.shuffled_video_control=false", "model.dtype=float32", "trainer.use_cpu=true", "lora=none")
    return overrides(demo, out, *data, *batches, *steps, *more, "deepspeed=zero3")


@pytest.fixture(scope="module")
def one_process(demo_dir, rows, tmp_path_factory) -> Callable[..., Path]:
    """A run of this process alone, without DeepSpeed and with the same global batch; once for each way to train."""
    folder, done = tmp_path_factory.mktemp("one"), {}

    def run(*way: str) -> Path:
        if way not in done:
            done[way] = folder / str(len(done))
            train(compose(sft_words(demo_dir, rows, done[way], *way, batch=4)))
        return done[way]

    return run


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for file in folder.glob("*model*.safetensors"):
        found |= load_file(file)
    return found


def learned(run: Path) -> list[dict]:
    """What the log says of each step's training, without times and counts."""
    names = ("step", "loss", "grad_norm", "learning_rate")
    return [{name: line[name] for name in names} for line in read(run / "train_log.jsonl") if "loss" in line]


def assert_trained_alike(found: Path, wanted: Path) -> None:
    """By their logs, and by the weights of every checkpoint and of best/; these as a share of how far `wanted` moved
    them from its first checkpoint on.
    """
    pairs = list(zip(learned(found), learned(wanted), strict=True))
    assert len(pairs) > 1
    for one, other in pairs:
        assert one == pytest.approx(other, rel=1e-3, abs=1e-6)
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5, abs=1e-6)
    first = weights(wanted / "checkpoint-1")
    moved = distance(weights(wanted / "best"), first)
    assert moved > 0.01
    for name in ("best", *(folder.name for folder in found.glob("checkpoint-*"))):
        assert distance(weights(found / name), weights(wanted / name)) < 1e-2 * moved, name


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Between two sets of the same weights, in float32: the norm of all differences."""
    assert one.keys() == other.keys() and all(tensor.dtype == torch.float32 for tensor in one.values())
    return float(torch.stack([(one[name] - other[name]).norm() for name in one]).norm())


@pytest.mark.parametrize("stage", STAGES)
def test_full_fine_tuning_on_two_processes_is_that_of_one(runs, one_process, stage):
    assert_trained_alike(runs / f"{stage}_whole", one_process(*FULL))


@pytest.mark.parametrize("choice", OFFLOADED)
def test_lora_with_its_optimizer_offloaded_on_two_processes_is_that_of_one(runs, one_process, choice):
    assert_trained_alike(runs / choice, one_process(*EPOCH))


@pytest.mark.parametrize("stage", STAGES)
def test_checkpoints_are_hugging_face_models(runs, one_process, stage):
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    for name in ("best", "checkpoint-2"):
        folder = runs / f"{stage}_whole" / name
        model, told = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
        assert not any(told.values())
        expected = AutoModelForImageTextToText.from_pretrained(one_process(*FULL) / name).state_dict()
        assert distance(model.state_dict(), expected) < 1e-3

        folder = runs / f"{stage}_offload" / name
        assert {"adapter_config.json", "adapter_model.safetensors"} <= {file.name for file in folder.iterdir()}
        base = AutoModelForImageTextToText.from_pretrained(base_of(folder))
        adapted = PeftModel.from_pretrained(base, folder).state_dict()
        saved = {key.replace(".weight", ".default.weight"): value for key, value in weights(folder).items()}
        assert saved.keys() == {key for key in adapted if "lora_" in key}
        assert all(torch.equal(adapted[key], value) for key, value in saved.items())


def base_of(adapter: Path) -> str:
    return json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_goes_on_exactly_on_as_many_processes(runs, stage):
    again, whole = runs / stage, runs / f"{stage}_whole"
    assert learned(again) == learned(whole)
    for name in ("checkpoint-2", "best"):
        found, wanted = weights(again / name), weights(whole / name)
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)


@pytest.fixture(scope="module")
def on_one(runs, demo_dir, rows) -> Path:
    """The run of two processes without DeepSpeed, after its first step gone on with by one."""
    out = runs / "none_on_one"
    copy_to(runs / "none", out, {str(runs / "none"): str(out)})
    train(compose(sft_words(demo_dir, rows, out, *FULL, batch=2)))
    assert [line["step"] for line in learned(out)] == [1, 3, 4]  # of half the samples each
    return out


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_of_two_processes_goes_on_with_one_as_without_deepspeed(runs, on_one, stage):
    """With the optimizer's state: moments, step, and which weights decay."""
    assert_trained_alike(runs / f"{stage}_on_one", on_one)
    assert not list((runs / f"{stage}_on_one").rglob("*universal*"))


def test_lora_of_two_processes_goes_on_with_one_alike_from_either_stage(runs):
    """Its second parameter group, of what does not decay, is empty."""
    first, second = (runs / f"{choice}_on_one" for choice in OFFLOADED)
    assert [line["step"] for line in learned(first)] == [1, 3, 4]
    assert_trained_alike(first, second)


@pytest.mark.parametrize("stage", STAGES)
def test_grpo_under_zero_is_that_of_two_processes_without(runs, stage):
    """The ranks draw the same completions, token by token."""
    found, wanted = runs / f"rl_{stage}", runs / "rl_none"
    kept = [sorted((run / "completions").glob("*.jsonl")) for run in (found, wanted)]
    for one, other in zip(*kept, strict=True):
        assert [row["text"] for row in read(one)] == [row["text"] for row in read(other)]
    assert_trained_alike(found, wanted)


def test_grpo_of_two_processes_is_that_of_one_on_the_same_completions(runs, demo_dir):
    """The second step on a rollout, from a checkpoint whose completions of both ranks are made those of one."""
    out = runs / "rl_on_one"
    batch = "per_device_train_batch_size: "
    copy_to(runs / "rl_none", out, {str(runs / "rl_none"): str(out), f"{batch}1": f"{batch}2"})
    cut_back(out, step=1)
    ranks = [load_file(out / "checkpoint-1" / f"rollout_{rank}.safetensors") for rank in (0, 1)]
    save_file(of_one_rank(*ranks), out / "checkpoint-1" / "rollout_0.safetensors")
    told = json.loads((out / "checkpoint-1" / "rollouts.json").read_text())
    told |= {"ranks": 1, "batches": told["batches"] | {"prompts": 2}}
    (out / "checkpoint-1" / "rollouts.json").write_text(json.dumps(told))
    train_rl(rl_words(demo_dir, out, prompts=2))
    assert abs(learned(out)[1]["loss"]) > 1e-4
    assert_trained_alike(out, runs / "rl_none")


def of_one_rank(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A saved rollout of two ranks with a micro-batch each, as one rank that holds both in its micro-batch saves it."""
    merged = {}
    for name, one in first.items():
        other = second[name]
        if one.ndim == 2:
            width = max(one.shape[1], other.shape[1])
            one, other = (pad(part, (0, width - part.shape[1])) for part in (one, other))
        merged[name] = one if one.ndim == 0 or name == "live_rows" else torch.cat([one, other])
    return merged


@pytest.mark.soak
def test_temporal_tokens_are_made_trained_and_saved_under_zero_as_without(demo_dir, rows, tmp_path):
    """In full under both stages, and beside LoRA under the one that leaves weights whole."""
    tokens = ("task=tokens", "task.num_bins=20", "task.token_init=random")
    ways = {"": FULL, "_lora": EPOCH}
    runs = [("none", ""), ("zero2", ""), ("zero3", ""), ("none", "_lora"), ("zero2", "_lora")]
    jobs: list[joint_runs.Job] = []
    for stage, way in runs:
        words = sft_words(demo_dir, rows, tmp_path / f"{stage}{way}", *ways[way], *tokens, batch=2)
        jobs.append(("sft", [*words, f"deepspeed={stage}"]))
    joint_runs.launch(jobs, processes=2, folder=tmp_path)
    task = TaskConfig(answer="tokens", num_bins=20, token_init="random")
    model, processor = load_model(ModelConfig(path="tiny", dtype="float32"), task=task)
    times = time_vocabulary(processor.tokenizer, task)
    assert times is not None
    began = vectors(model)[0][list(times.ids)].detach()
    for stage, way in runs:
        out = tmp_path / f"{stage}{way}"
        if stage != "none":
            assert_trained_alike(out, tmp_path / f"none{way}")
        loaded, _ = load_model(ModelConfig(path=str(out), dtype="float32"))
        whole = loaded.merge_and_unload() if way else loaded
        assert (vectors(whole)[0][list(times.ids)] != began).any(1).all()


@pytest.mark.soak
def test_a_step_of_so_many_samples_is_under_zero_as_without(demo_dir, rows, tmp_path):
    """Of batches that are filled to a budget: how many make a step is known only once they are planned."""
    batches = ("batching=duration", "batching.target_batch_duration=12", "batching.global_size=8", "lora=none")
    steps = ("trainer.max_steps=4", "trainer.save_steps=1", "trainer.logging_steps=1")
    jobs: list[joint_runs.Job] = []
    for stage in ("none", *STAGES):
        words = sft_words(demo_dir, rows, tmp_path / stage, *batches, *steps, f"deepspeed={stage}", batch=2)
        jobs.append(("sft", words))
    joint_runs.launch(jobs, processes=2, folder=tmp_path)
    for stage in STAGES:
        assert_trained_alike(tmp_path / stage, tmp_path / "none")
        state = TrainerState.load_from_json(str(tmp_path / stage / "checkpoint-4" / "trainer_state.json"))
        assert state.epoch == 4  # each of its four batches on a rank goes into one step: more than the settings say


def test_zero3_does_not_wait_for_ranks_with_other_clips_batches_and_answers(runs):
    """One rank has one long clip where the other has several short ones, and answers are of different lengths."""
    out = runs / "uneven"
    plan = json.loads((out / "batching.json").read_text())
    assert (plan["steps"], plan["min_batch_size"], plan["max_batch_size"]) == (1, 1, 5)
    lines = learned(out)
    assert [line["step"] for line in lines] == [1, 2]
    assert all(0 < line["loss"] < 10 and 0 < line["grad_norm"] < 1e3 for line in lines)
    assert sum("eval_mIoU" in line for line in read(out / "train_log.jsonl")) == 2
    answers = read(out / "predictions.jsonl") + read(out / "base_predictions.jsonl")
    assert len(answers) == 2 * 7 and len({len(row["text"]) for row in answers}) > 1
    best = TrainerState.load_from_json(str(out / "checkpoint-2" / "trainer_state.json")).best_model_checkpoint
    assert best is not None and distance(weights(out / "best"), weights(Path(best))) == 0


def test_a_run_under_zero3_that_is_done_is_measured_again_with_what_it_learned(runs):
    first, again = runs / "uneven_first", runs / "uneven"
    answers = read(again / "predictions.jsonl")
    assert answers == read(first / "predictions.jsonl") != read(again / "base_predictions.jsonl")
