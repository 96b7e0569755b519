import json
import signal
import stat
import subprocess
import time
from pathlib import Path

import forked
import pytest
import torch
from safetensors.torch import load_file
from sft_runs import compose, losses, overrides, read, run, run_on_two

from vtg.config.data_settings import DemoConfig
from vtg.data.skip_report import TooManyBadRows
from vtg.demo.demo_dataset import ensure_demo
from vtg.errors import ConfigError
from vtg.training.run_dir import RunDir
from vtg.training.sft.run_sft import train

DEMO = DemoConfig(train_videos=4, val_videos=2, test_videos=3, seed=1)


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    return ensure_demo(tmp_path_factory.mktemp("data") / "demo", DEMO)


@pytest.fixture(scope="module")
def finished(demo, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    out = tmp_path_factory.mktemp("runs") / "whole"
    return out, run(*overrides(demo, out))


def test_the_files_of_a_run_follow_the_umask_and_none_is_left_half_written(finished):
    out, _ = finished
    (out / "any").touch()
    rights = stat.S_IMODE((out / "any").stat().st_mode)
    (out / "any").unlink()
    files = [path for path in out.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {
        "adapter_model.safetensors",
        "optimizer.pt",
        "vtg.json",
        "generation_config.json",
    }
    assert not [path for path in files if stat.S_IMODE(path.stat().st_mode) != rights]
    assert not list(out.rglob("*.tmp"))


def test_a_run_leaves_all_that_its_directory_promises(finished):
    out, done = finished
    assert done.returncode == 0, done.stderr
    for name in ("config.yaml", "environment.json", "train_log.jsonl", "metrics.json", "predictions.jsonl"):
        assert (out / name).stat().st_size > 0, name
    assert (out / "skipped.jsonl").read_text() == ""
    assert (out / "predictions.png").read_bytes().startswith(b"\x89PNG")
    assert list((out / "tensorboard").glob("events*"))
    metrics = json.loads((out / "metrics.json").read_text())
    assert {"base", "tuned", "shuffled"} == metrics.keys()
    assert {"R1@0.3", "R1@0.5", "R1@0.7", "mIoU", "parse_failures", "samples"} <= metrics["tuned"].keys()
    assert "R1@0.5" in done.stdout and str(out / "metrics.json") in done.stdout
    for folder in (out / "best", out / "checkpoint-4"):
        assert (folder / "vtg.json").is_file() and (folder / "adapter_model.safetensors").is_file()


def test_predictions_keep_the_annotation_and_are_one_a_row(finished, demo):
    out, _ = finished
    rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    given = [json.loads(line) for line in (demo / "test.jsonl").read_text().splitlines()]
    assert [{key: row[key] for key in known} for row, known in zip(rows, given, strict=True)] == given
    assert all({"prediction", "text", "status"} <= row.keys() for row in rows)


def test_the_same_command_again_goes_on_and_finds_nothing_to_do(finished, demo):
    out, _ = finished
    before = load_file(out / "best" / "adapter_model.safetensors")
    again = run(*overrides(demo, out))
    assert again.returncode == 0, again.stderr
    assert "training is done already" in again.stderr
    after = load_file(out / "best" / "adapter_model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_another_config_in_the_same_directory_is_refused_with_the_way_out(finished, demo):
    out, _ = finished
    refused = run(*overrides(demo, out, "lora.r=4"))
    assert refused.returncode == 2
    assert "lora.r: 32 there, 4 here" in refused.stderr
    assert "set it back, or choose another run_name or output_dir, or remove the folder" in refused.stderr
    assert "loading torch" not in refused.stderr  # found before anything is waited for


def test_a_run_stopped_by_sigterm_and_resumed_equals_the_undisturbed_one(finished, demo, tmp_path):
    whole, _ = finished
    out = tmp_path / "stopped"
    program = forked.Program("train_sft.py", *overrides(demo, out))
    deadline = time.monotonic() + 300
    log = out / "train_log.jsonl"
    while time.monotonic() < deadline and not (log.exists() and log.read_text()):
        time.sleep(0.05)
    program.send_signal(signal.SIGTERM)
    stopped = program.ended(timeout_s=300)
    assert stopped.returncode == 128 + signal.SIGTERM, stopped.stderr
    assert "start the same command again to go on" in stopped.stderr
    assert list(out.glob("checkpoint-*"))
    resumed = run(*overrides(demo, out))
    assert resumed.returncode == 0, resumed.stderr
    assert "going on from" in resumed.stderr
    assert losses(out) == losses(whole)
    final, expected = (load_file(run_dir / "checkpoint-4" / "adapter_model.safetensors") for run_dir in (out, whole))
    assert all(torch.equal(final[name], expected[name]) for name in expected)


def test_accumulated_small_batches_give_the_loss_and_weights_of_one_large_batch(demo, tmp_path):
    runs = {}
    for name, size, steps in (("large", 4, 1), ("small", 1, 4)):
        out = tmp_path / name
        train(
            compose(
                overrides(
                    demo,
                    out,
                    f"trainer.per_device_train_batch_size={size}",
                    f"trainer.gradient_accumulation_steps={steps}",
                    "trainer.max_steps=2",
                    "data.val_file=null",
                    "data.test_file=null",
                )
            )
        )
        runs[name] = losses(out), load_file(out / "best" / "adapter_model.safetensors")
    (large, large_weights), (small, small_weights) = runs["large"], runs["small"]
    assert large.keys() == small.keys() == {1, 2}
    for step in large:
        assert small[step] == pytest.approx(large[step], rel=1e-4)
    for name in large_weights:
        torch.testing.assert_close(small_weights[name], large_weights[name], rtol=1e-3, atol=2e-4)


def test_gradient_checkpointing_and_full_finetuning_train_and_load_again(demo, tmp_path):
    out = tmp_path / "full"
    done = run(
        *overrides(
            demo,
            out,
            "lora=none",
            "trainer.gradient_checkpointing=true",
            "trainer.max_steps=2",
            "trainer.learning_rate=1e-3",
        )
    )
    assert done.returncode == 0, done.stderr
    assert (out / "best" / "model.safetensors").is_file() and not (out / "best" / "adapter_config.json").exists()
    again = run(*overrides(demo, tmp_path / "second", f"model.path={out}", "trainer.max_steps=1"))
    assert again.returncode == 0, again.stderr
    tuned, base = (
        [json.loads(line)["text"] for line in (folder / name).read_text().splitlines()]
        for folder, name in ((out, "predictions.jsonl"), (tmp_path / "second", "base_predictions.jsonl"))
    )
    assert tuned == base  # the second run starts where the first one ended


def broken_set(demo: Path, folder: Path, *, bad: int) -> Path:
    """The demo's training rows and `bad` more, each wrong in a way of its own."""
    lines = (demo / "train.jsonl").read_text().splitlines()
    row = json.loads(lines[0])
    (folder / "corrupt.mp4").write_bytes((demo / row["video"]).read_bytes()[:2000])
    (folder / "page.mp4").write_text("<html>404</html>")
    wrong = [
        json.dumps({**row, "video": str(folder / "corrupt.mp4")}),
        json.dumps({**row, "video": "gone.mp4"}),
        json.dumps({**row, "video": str(folder / "page.mp4")}),
        '{"video": "a.mp4", "duration": NaN, "timestamp": [0, 1], "sentence": "x"}',
        '{"video": "a.mp4", "dura',
    ]
    path = folder / "rows.jsonl"
    path.write_text("\n".join(lines + wrong[:bad]) + "\n")
    return path


def test_bad_rows_are_named_and_counted_and_the_run_goes_on(demo, tmp_path):
    rows = broken_set(demo, tmp_path, bad=5)
    out = tmp_path / "run"
    share = "data.max_bad_share=0.5"
    done = run(
        *overrides(demo, out, f"data.annotation_file={rows}", share, "data.val_file=null", "trainer.max_steps=6")
    )
    assert done.returncode == 0, done.stderr
    skipped = {entry["place"].rpartition(":")[2]: entry["reason"] for entry in read(out / "skipped.jsonl")}
    count = len((demo / "train.jsonl").read_text().splitlines())
    reasons = [skipped[str(count + number)] for number in range(1, 6)]
    assert "corrupt.mp4" in reasons[0] and "page.mp4" in reasons[2]
    assert reasons[1].startswith("video: no such file: ") and "gone.mp4" in reasons[1]
    assert "duration" in reasons[3] or "NaN" in reasons[3]
    assert "rows were skipped" in done.stdout


def test_two_processes_name_each_bad_row_once(demo, tmp_path):
    rows, out = broken_set(demo, tmp_path, bad=5), tmp_path / "run"
    words = ("data.max_bad_share=0.5", "data.val_file=null", "data.test_file=null", "trainer.max_steps=12")
    done = run_on_two(*overrides(demo, out, f"data.annotation_file={rows}", *words, "resume=never"))
    assert done.returncode == 0, done.stderr
    places = [entry["place"] for entry in read(out / "skipped.jsonl")]
    count = len((demo / "train.jsonl").read_text().splitlines())
    assert sorted(places) == sorted(f"{rows}:{count + number}" for number in range(1, 6))


def test_too_many_bad_rows_stop_the_run_with_the_list(demo, tmp_path):
    rows = broken_set(demo, tmp_path, bad=5)
    done = run(*overrides(demo, tmp_path / "run", f"data.annotation_file={rows}"))
    assert done.returncode == 1
    assert "rows cannot be used, more than data.max_bad_share = 0.05" in done.stderr
    assert "gone.mp4" in done.stderr and "python -m vtg.validate" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_empty_annotation_file_is_refused_before_a_model_loads(demo, tmp_path):
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    with pytest.raises(ConfigError, match=r"empty.jsonl: no usable row among 1 .*holds no rows"):
        train(compose(overrides(demo, tmp_path / "run", f"data.annotation_file={empty}")))


def test_bad_share_of_zero_stops_at_the_first_bad_row(demo, tmp_path):
    rows = broken_set(demo, tmp_path, bad=2)
    with pytest.raises(TooManyBadRows, match="1 of"):
        train(compose(overrides(demo, tmp_path / "run", f"data.annotation_file={rows}", "data.max_bad_share=0.0")))


def test_resume_modes_refuse_what_does_not_fit(finished, demo, tmp_path):
    out, _ = finished
    with pytest.raises(ConfigError, match=r"resume = never, but .* holds a run"):
        RunDir(compose(overrides(demo, out, "resume=never"))).open()
    with pytest.raises(ConfigError, match=r"resume = must, but .* holds no checkpoint"):
        RunDir(compose(overrides(demo, tmp_path / "none", "resume=must"))).open()


@pytest.mark.distributed
def test_two_processes_train_like_one_with_the_same_global_batch(demo, tmp_path):
    common = ("data.val_file=null", "trainer.max_steps=2", "trainer.use_cpu=true")
    one = run(*overrides(demo, tmp_path / "one", *common))
    assert one.returncode == 0, one.stderr
    words = overrides(demo, tmp_path / "two", *common, "trainer.per_device_train_batch_size=2")
    two = run_on_two(*words)
    assert two.returncode == 0, two.stderr[-3000:]
    expected = losses(tmp_path / "one")
    for step, loss in losses(tmp_path / "two").items():
        assert loss == pytest.approx(expected[step], rel=1e-3)
    assert len(read(tmp_path / "two" / "predictions.jsonl")) == len(read(tmp_path / "one" / "predictions.jsonl"))
