"""A run that resumes with other settings, and what of the rows, the base and the best is kept."""

import json
import shutil
from html import unescape
from pathlib import Path

import pytest
import yaml
from sft_runs import compose, losses, overrides, read

from vtg.errors import ConfigError
from vtg.storage.json_files import write_jsonl
from vtg.training.run_dir import RunDir
from vtg.training.run_record import RunRecord
from vtg.training.sft.run_sft import train

ALONE = ("data.val_file=null", "data.test_file=null", "evaluation.shuffled_video_control=false")
STEADY = ("trainer.lr_scheduler_type=constant", "trainer.warmup_steps=0", "trainer.save_steps=1")


def run(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Trains in this process; returns what it said."""
    capsys.readouterr()
    train(compose(words))
    said = capsys.readouterr()
    return said.out + said.err


def rates(out: Path) -> dict[int, float]:
    return {row["step"]: row["learning_rate"] for row in read(out / "train_log.jsonl") if "learning_rate" in row}


def sampled(out: Path) -> dict[int, float]:
    return {row["step"]: row["batch/samples"] for row in read(out / "train_log.jsonl") if "batch/samples" in row}


@pytest.fixture(scope="module")
def begun(demo_dir, tmp_path_factory) -> tuple[Path, list[str]]:
    """A run of two steps, each of them saved, and its command."""
    out = tmp_path_factory.mktemp("runs") / "begun"
    words = overrides(demo_dir, out, *ALONE, *STEADY, "trainer.max_steps=2", "trainer.learning_rate=1e-3")
    train(compose(words))
    return out, words


def resumed(begun: tuple[Path, list[str]], out: Path, *more: str) -> list[str]:
    """The run as it was killed after its two steps, in a folder of its own, and the command that resumes it."""
    folder, words = begun
    shutil.copytree(folder, out)
    shutil.rmtree(out / "best")
    record = RunRecord.read(out)
    record.trained = None
    record.write(out)
    return [f"output_dir={out}" if word.startswith("output_dir=") else word for word in words] + list(more)


def test_other_means_and_a_lower_learning_rate_take_effect_and_are_on_record(begun, tmp_path, capsys):
    more = ("trainer.learning_rate=1e-4", "trainer.max_steps=4", "trainer.save_total_limit=1")
    words = resumed(begun, tmp_path / "run", *more, "trainer.dataloader_num_workers=1", "data.max_bad_share=0.5")
    said = run(words, capsys)
    assert "resuming with trainer.learning_rate = 0.0001 (was 0.001)" in said
    assert "resuming with trainer.save_total_limit = 1 (was 2)" in said
    assert rates(tmp_path / "run") == pytest.approx({1: 1e-3, 2: 1e-3, 3: 1e-4, 4: 1e-4})
    assert [folder.name for folder in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-4"]
    entry = RunRecord.read(tmp_path / "run").history[-1]
    assert entry["checkpoint"] == "checkpoint-2" and entry["changes"]["trainer.max_steps"] == [2, 4]
    assert entry["changes"].keys() >= {"data.max_bad_share", "trainer.dataloader_num_workers"}
    settings = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert settings["trainer"]["learning_rate"] == 1e-4


def test_a_schedule_goes_by_the_steps_that_there_are_now(begun, tmp_path, capsys):
    folder, _ = begun
    words = resumed(begun, tmp_path / "run", "trainer.max_steps=4", "trainer.save_steps=3", "trainer.logging_steps=2")
    run(words, capsys)
    assert rates(tmp_path / "run").keys() == {1, 2, 4}  # not as often as before
    names = {folder.name for folder in (tmp_path / "run").glob("checkpoint-*")}
    assert names == {"checkpoint-3", "checkpoint-4"}
    assert losses(folder)[2] == losses(tmp_path / "run")[2]


def test_a_run_that_is_done_goes_on_when_it_is_to_be_longer(begun, tmp_path, capsys):
    folder, words = begun
    out = tmp_path / "run"
    shutil.copytree(folder, out)
    words = [f"output_dir={out}" if word.startswith("output_dir=") else word for word in words]
    assert "training is done already" in run(words, capsys)
    late = run([*words, "trainer.learning_rate=1e-5"], capsys)
    assert "training is done already, so that these change nothing: trainer.learning_rate" in late
    run([*words, "trainer.max_steps=3"], capsys)
    assert losses(out).keys() == {1, 2, 3}
    assert "training is done already" in run([*words, "trainer.max_steps=3"], capsys)


def test_smaller_batches_train_the_rest_of_the_epoch_once(demo_dir, tmp_path, capsys):
    rows = len(read(demo_dir / "train.jsonl"))
    out = tmp_path / "run"
    words = overrides(demo_dir, out, *ALONE, *STEADY, "trainer.max_steps=-1", "trainer.num_train_epochs=2")
    run([*words, "trainer.num_train_epochs=1", "trainer.max_steps=1"], capsys)
    assert sum(sampled(out).values()) == 4
    smaller = ("trainer.per_device_train_batch_size=2", "trainer.max_steps=-1")
    said = run([*words, *smaller, "trainer.num_train_epochs=1"], capsys)
    assert "resuming with trainer.per_device_train_batch_size = 2 (was 4)" in said
    entries = [row for row in read(out / "train_log.jsonl") if "batch/samples" in row]
    assert entries[0]["batch/samples"] == 4
    assert sum(row["batch/samples"] for row in entries) == rows


def test_smaller_batches_are_as_many_steps_as_were_asked_for(begun, tmp_path, capsys):
    words = resumed(begun, tmp_path / "run", "trainer.per_device_train_batch_size=1", "trainer.max_steps=9")
    run(words, capsys)
    assert losses(tmp_path / "run").keys() == set(range(1, 10))
    assert {step: size for step, size in sampled(tmp_path / "run").items() if step > 2} == dict.fromkeys(
        range(3, 10), 1
    )
    again = RunRecord.read(tmp_path / "run")
    assert again.trained is not None and again.trained["length"]["max_steps"] == 9


def test_what_another_run_would_learn_is_refused_with_both_values_and_the_way_out(begun, tmp_path):
    words = resumed(begun, tmp_path / "run", "lora.r=4", "trainer.weight_decay=0.1", "trainer.save_total_limit=7")
    with pytest.raises(ConfigError) as error:
        train(compose(words))
    assert str(error.value).splitlines() == [
        f"{tmp_path / 'run'} holds a run with other settings:",
        "  lora.r: 32 there, 4 here",
        "  trainer.weight_decay: 0.0 there, 0.1 here",
        "set them back, or choose another run_name or output_dir, or remove the folder",
    ]


def edited(demo: Path, folder: Path, **left: int) -> dict[str, Path]:
    """The demo's rows in files of one's own, of which only so many of the first are left."""
    files = {}
    for name in ("train", "val", "test"):
        files[name] = folder / f"{name}.jsonl"
        lines = (demo / f"{name}.jsonl").read_text().splitlines(keepends=True)
        files[name].write_text("".join(lines[: left.get(name, len(lines))]))
    return files


def with_files(words: list[str], files: dict[str, Path]) -> list[str]:
    keys = {"train": "annotation_file", "val": "val_file", "test": "test_file"}
    return [*words, *(f"data.{keys[name]}={path}" for name, path in files.items())]


def test_other_rows_are_refused_on_resume_and_other_test_rows_have_the_base_measured_again(demo_dir, tmp_path, capsys):
    files = edited(demo_dir, tmp_path)
    count = {name: len(read(path)) for name, path in files.items()}
    out = tmp_path / "run"
    quick = ("trainer.max_steps=1", "trainer.eval_steps=1", "trainer.save_steps=1", "evaluation.max_val_samples=1")
    words = with_files(overrides(demo_dir, out, *quick, "evaluation.shuffled_video_control=false"), files)
    run(words, capsys)
    assert len(read(out / "base_predictions.jsonl")) == count["test"]
    (out / "base_predictions.jsonl").touch()
    files["test"].touch()  # not its time: its rows
    assert "testing the base model" not in run(words, capsys)
    edited(demo_dir, tmp_path, test=3)
    said = run(words, capsys)
    assert (
        f"the test rows are not those that the base model was measured on ({count['test']} there, 3 here): it is "
        "measured again" in said
    )
    assert {len(read(out / name)) for name in ("base_predictions.jsonl", "predictions.jsonl")} == {3}
    for name, key, verb in (("train", "annotation_file", "train"), ("val", "val_file", "validate")):
        edited(demo_dir, tmp_path, **{name: count[name] - 1})
        with pytest.raises(ConfigError) as error:
            train(compose(words))
        assert str(error.value) == (
            f"data.{key} = '{files[name]}': holds {count[name] - 1} rows to {verb} on, and the run in {out} began with "
            f"{count[name]}; put the file back as it was to resume, or choose another run_name or output_dir"
        )
    edited(demo_dir, tmp_path)
    other = files["train"].read_text().replace("the", "teh", 1)
    files["train"].write_text(other)
    with pytest.raises(
        ConfigError, match=rf"holds {count['train']} rows to train on that are others than those the run"
    ):
        train(compose(words))
    moved = tmp_path / "moved.jsonl"
    edited(demo_dir, tmp_path)
    files["train"].rename(moved)
    assert "training is done already" in run(with_files(words, files | {"train": moved}), capsys)


@pytest.mark.parametrize(
    "cadence",
    [
        ("save_strategy=steps", "save_steps=3", "eval_strategy=steps", "eval_steps=2"),
        ("save_strategy=epoch", "eval_strategy=steps", "eval_steps=1"),
        ("save_strategy=steps", "save_steps=1", "eval_strategy=epoch"),
    ],
    ids=["3 and 2", "by epoch and steps", "by steps and epoch"],
)
def test_the_best_is_kept_however_often_is_saved_and_validated(demo_dir, tmp_path, capsys, cadence):
    out = tmp_path / "run"
    words = overrides(demo_dir, out, "data.test_file=null", "trainer.max_steps=5", "evaluation.max_val_samples=4")
    words += [f"trainer.{word}" for word in cadence] + ["evaluation.shuffled_video_control=false"]
    run([*words, "trainer.save_total_limit=9"], capsys)
    scores = {row["step"]: row["eval_mIoU"] for row in read(out / "train_log.jsonl") if "eval_mIoU" in row}
    best = max(scores, key=lambda step: (scores[step], -step))
    kept = (out / "best" / "adapter_model.safetensors").read_bytes()
    assert kept == (out / f"checkpoint-{best}" / "adapter_model.safetensors").read_bytes()


def test_a_run_that_learned_nothing_says_so_and_which_weights_are_the_tuned_ones(demo_dir, tmp_path, capsys):
    out = tmp_path / "run"
    more = ("trainer.max_steps=3", "trainer.warmup_steps=3", "trainer.eval_steps=1", "trainer.save_steps=1")
    words = overrides(demo_dir, out, *more, "data.test_file=null", "trainer.learning_rate=1e-9")
    said = run([*words, "evaluation.shuffled_video_control=false"], capsys)
    notes = RunRecord.read(out).notes
    assert notes[0].startswith("the tuned weights are those after step 1 of 3, the best validation mIoU (")
    assert "none of 2 later ones was better (at best " in notes[0]
    assert "the learning rate was still warming up then (steps 1 to 3), so they are close to the base" in notes[0]
    count = len(read(demo_dir / "val.jsonl"))
    assert (
        notes[1] == f"the tuned model gives the base's answer to all {count} questions: it learned nothing that shows"
    )
    assert notes[2].startswith(f"{count} of the {count} test rows are validation rows, by which the tuned weights were")
    page = unescape((out / "report.html").read_text())
    for note in notes:
        assert f"note: {note}\n" in said
        assert note in page


def test_a_start_that_failed_leaves_its_folder_to_any_other(demo_dir, tmp_path, capsys):
    out, rows = tmp_path / "run", tmp_path / "rows.jsonl"
    rows.write_text("")
    words = overrides(demo_dir, out, *ALONE, "trainer.max_steps=1", f"data.annotation_file={rows}")
    with pytest.raises(ConfigError, match="holds no rows"):
        train(compose(words))
    rows.write_text((demo_dir / "train.jsonl").read_text())
    said = run([*words, "lora.r=4", "seed=3"], capsys)
    assert f"{out}: nothing was kept of a run with other settings; it begins anew" in said
    assert yaml.safe_load((out / "config.yaml").read_text())["lora"]["r"] == 4


def test_answers_of_the_base_are_kept_for_settings_that_they_do_not_depend_on(demo_dir, tmp_path):
    out = tmp_path / "run"
    config = compose(overrides(demo_dir, out))
    RunDir(config).open()
    write_jsonl(out / "base_predictions.jsonl", [{"qid": "a"}])
    RunDir(compose(overrides(demo_dir, out, "lora.r=4", "trainer.weight_decay=0.1"))).check()
    with pytest.raises(
        ConfigError, match=r"video.max_frames: \d+ there, 7 here\nset it back, or choose another run_name"
    ):
        RunDir(compose(overrides(demo_dir, out, "video.max_frames=7"))).check()


def as_before_formats(out: Path) -> None:
    """Takes from a run what was not written before there were formats."""
    (out / "run.json").unlink()
    for path in [*out.glob("*/vtg.json"), *out.glob("*/batches.json")]:
        found = json.loads(path.read_text())
        path.write_text(json.dumps({key: found[key] for key in found.keys() - {"format", "vtg", "sizes", "shift"}}))


def test_a_run_of_before_formats_resumes(begun, tmp_path, capsys):
    words = resumed(begun, tmp_path / "run")
    as_before_formats(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"trainer.per_device_train_batch_size: 4 there, 2 here"):
        train(compose([*words, "trainer.per_device_train_batch_size=2"]))
    run([*words, "trainer.max_steps=3"], capsys)
    assert losses(tmp_path / "run").keys() == {1, 2, 3}


def test_a_run_of_before_a_setting_resumes_with_its_default_alone(begun, tmp_path, capsys):
    words = resumed(begun, tmp_path / "run")
    path = tmp_path / "run" / "config.yaml"
    saved = yaml.safe_load(path.read_text())
    del saved["loss"], saved["task"]["moments"]
    path.write_text(yaml.safe_dump(saved))
    for more, told in (
        ("loss=smoothed", r"loss.label_smoothing: 0.0 there, 0.1 here"),
        ("task.moments=set", r"task.moments: one there, set here"),
    ):
        with pytest.raises(ConfigError, match=rf"holds a run with other settings:\n  {told}\nset it back, or choose"):
            RunDir(compose([*words, more])).check()
    said = run([*words, "trainer.max_steps=3"], capsys)
    assert "loss." not in said and losses(tmp_path / "run").keys() == {1, 2, 3}


def test_a_run_of_a_newer_format_ends_in_one_line_that_says_what_to_install(begun, tmp_path):
    words = resumed(begun, tmp_path / "run")
    record = tmp_path / "run" / "run.json"
    record.write_text(json.dumps({"format": 99, "vtg": "9.1.0"}))
    with pytest.raises(ConfigError) as error:
        train(compose(words))
    assert str(error.value).startswith(f"{record}: is of format 99, written by vtg 9.1.0; vtg ")
    assert str(error.value).endswith("reads up to format 1; pip install 'vtg>=9.1.0'")
