"""Published trainings: they compose as they were published, their data is checked, and each of them runs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from recipe_data import WRITERS, published_folder

from vtg.config.load import load_config
from vtg.config.schema import RLConfig, SFTConfig
from vtg.entry import compose_settings, conf_dir
from vtg.errors import ConfigError
from vtg.evaluation.presets.table import PUBLISHED as PRESETS
from vtg.recipes import RECIPES
from vtg.recipes.__main__ import is_rl, main, settings_of, tiny_overrides
from vtg.recipes.expected_hours import estimated_hours
from vtg.training.rl.rewards.mixture import reward_terms
from vtg.training.rl.rewards.mixture_warnings import warnings_of

ROOT = Path(__file__).parents[2]

PUBLISHED = {
    "time_r1_7b": {
        **{"model.path": "Qwen/Qwen2.5-VL-7B-Instruct", "trainer.learning_rate": 1e-6, "trainer.num_train_epochs": 5},
        **{"rl.num_generations": 8, "rl.temperature": 1.0, "video.fps": 2.0, "video.total_pixels": 2 * 3584 * 28**2},
        **{"curriculum.select": "filter", "curriculum.max_iou": 0.7, "task.think": True, "parts.vision": "frozen"},
    },
    "videochat_r1": {
        **{"model.path": "Qwen/Qwen2.5-VL-7B-Instruct", "rl.num_generations": 8, "rl.max_completion_length": 1024},
        **{"trainer.num_train_epochs": 1, "trainer.gradient_accumulation_steps": 8, "task.think": True},
    },
    "timelens_8b_sft": {
        **{"model.path": "Qwen/Qwen3-VL-8B-Instruct", "trainer.learning_rate": 1e-5, "trainer.weight_decay": 0.1},
        **{"trainer.gradient_accumulation_steps": 128, "trainer.lr_scheduler_type": "cosine", "video.max_frames": 448},
        **{"video.total_pixels": 14336 * 2048, "video.min_pixels": 64 * 1024, "parts.projector": "full"},
        **{"trainer.max_steps": 30_000 // 128, "parts.vision": "frozen", "lora.enabled": False},
    },
    "timelens_8b_rl": {
        **{"trainer.learning_rate": 1e-6, "trainer.lr_scheduler_type": "constant", "trainer.max_steps": 100},
        **{"trainer.gradient_accumulation_steps": 64 // 8, "rl.num_generations": 8, "rl.temperature": 1.0},
        **{"rl.scale_rewards": "none", "curriculum.mean": 1 - 0.05, "curriculum.std": 0.2, "rl.beta": 0.0},
    },
    "timelens2_4b_sft": {
        **{"video.max_frames": 2048, "video.max_pixels": 480 * 480, "batching.target_batch_tokens": 102_400},
        **{"trainer.gradient_accumulation_steps": 256, "loss.token_weights": "sqrt_length", "task.moments": "set"},
        **{"trainer.learning_rate": 5e-6, "trainer.lr_scheduler_kwargs": {"min_lr": 5e-7}},
    },
    "timelens2_4b_rl": {
        **{"video.max_frames": 512, "video.total_pixels": 16_384 * 2048, "rl.beta": 0.04, "trainer.max_steps": 200},
        **{"curriculum.select": "hard", "curriculum.power": 2.0, "task.moments": "set", "trainer.learning_rate": 1e-6},
    },
    "lwt235": {
        **{"lora.r": 64, "lora.alpha": 128, "trainer.num_train_epochs": 3, "batching.by": "duration"},
        **{"batching.target_batch_duration": 1200.0, "task.answer": "relative"},
    },
    "lwt235_rl": {"lora.r": 64, "lora.alpha": 128, "rl.temperature": 0.7, "rl.num_generations": 4, "rl.beta": 0.05},
}
"""Values of the papers' and repositories' own tables and scripts, written down a second time."""

REWARDS = {
    "time_r1_7b": [("timestamp_aware_iou", 1.0), ("format", 1.0)],
    "videochat_r1": [("temporal_iou", 1.0), ("format", 1.0)],
    "timelens_8b_rl": [("temporal_iou", 1.0)],
    "timelens2_4b_rl": [("wasserstein", 1.0), ("temporal_iou", 1.0), ("parse_penalty", 1.0)],
    "lwt235_rl": [("temporal_iou", 2 / 3), ("segment_overlap", 1 / 3)],
}


def value(config: SFTConfig, key: str) -> object:
    """Of `trainer.max_steps`, or `video.fps`."""
    group, _, name = key.partition(".")
    found = getattr(config, group)
    return found[name] if isinstance(found, dict) else getattr(found, name)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_composes_to_what_was_published_and_reads_its_data_as_published(name, tmp_path):
    recipe = RECIPES[name]
    text = (conf_dir() / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")
    (data,) = re.findall(r"override /data: (\w+)", text)
    folder = tmp_path / "data"
    (folder / "videos").mkdir(parents=True)
    WRITERS[data](folder, [{"video": "a.mp4", "duration": 9.0, "timestamp": [1.0, 2.0], "sentence": "x"}])
    words = [f"experiment={name}", f"data.root={folder}"]
    program, schema = ("rl", RLConfig) if is_rl(recipe) else ("sft", SFTConfig)
    tiny = [f"++{word}" if word.startswith(("trainer.", "rl.")) else word for word in tiny_overrides(recipe)]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config, on_a_laptop = (
            load_config(compose(program, overrides=given), schema) for given in (words, [*words, *tiny])
        )  # every rule, and the files looked for
    assert on_a_laptop.model.path == "tiny" and on_a_laptop.task == config.task
    assert {key: value(config, key) for key in PUBLISHED[name]} == PUBLISHED[name]
    assert (config.data.annotation_file or "").startswith(f"{data}:{folder}/")
    if isinstance(config, RLConfig):
        terms = reward_terms(config.rewards)
        assert [(term.name, pytest.approx(term.weight)) for term in terms] == REWARDS[name]
        assert warnings_of(terms, task=config.task) == []
    if recipe.hours_are == "estimated":
        assert recipe.hours == pytest.approx(estimated_hours(config, rows=recipe.rows), rel=0.05)
    # A reader can look up where a value comes from.
    _, _, commit = recipe.repository.rpartition("@")
    assert f"at {commit}" in text and '"ours"' in text


def test_the_recipes_that_were_asked_for_are_there():
    wanted = ("time_r1_7b", "timelens_8b_sft", "timelens_8b_rl", "timelens2_4b_sft", "timelens2_4b_rl", "lwt235")
    assert {*wanted, "videochat_r1"} <= RECIPES.keys() == PUBLISHED.keys()
    assert REWARDS.keys() == {name for name, recipe in RECIPES.items() if is_rl(recipe)}
    for name, recipe in RECIPES.items():
        assert (
            recipe.name == name
            and recipe.preset in {"default", *PRESETS}
            and recipe.hours_are in ("published", "estimated")
        )
        assert all((conf_dir() / "budget" / f"{budget}.yaml").is_file() for budget in set(recipe.budgets) - {"own"})
        assert all((conf_dir() / "benchmark" / f"{benchmark}.yaml").is_file() for benchmark in recipe.benchmarks)
        assert recipe.after is None or recipe.after in RECIPES
        assert all(0 < number < 100 for score in recipe.scores for number in score.values.values())


def test_a_published_batch_is_shared_by_however_many_processes(monkeypatch):
    recipe = RECIPES["timelens_8b_sft"]
    for processes, steps in ((1, 128), (8, 16)):
        monkeypatch.setenv("WORLD_SIZE", str(processes))
        assert settings_of(recipe).trainer["gradient_accumulation_steps"] == steps
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match="a step of 128 cannot be shared by 3 processes; start a number that divides"):
        settings_of(recipe)


def test_a_recipe_of_reinforcement_learning_says_which_program_is_its_own():
    with pytest.raises(ConfigError) as caught:
        compose_settings("sft", ["experiment=time_r1_7b"], SFTConfig)
    assert str(caught.value) == ("experiment=time_r1_7b: is for train_rl.py: it sets rl, which this program has not")


def test_all_recipes_are_listed_with_scores_hardware_and_hours(capsys):
    assert main([]) == 0
    listed = capsys.readouterr().out
    for name, recipe in RECIPES.items():
        assert f"\n{name}: " in f"\n{listed}"
        assert f"hours: {recipe.hours:g} ({recipe.hours_are})" in listed and recipe.hardware in listed
    assert "TimeLens-8B on Charades-TimeLens: R1@0.3 76.6, R1@0.5 63.0, R1@0.7 35.2, mIoU 55.2" in listed
    assert main(["--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == list(RECIPES)


def test_one_recipe_is_shown_whole_with_sources_and_what_it_is_scored_by(capsys):
    assert main(["timelens_8b_rl"]) == 0
    shown = capsys.readouterr().out
    assert (conf_dir() / "experiment" / "timelens_8b_rl.yaml").read_text(encoding="utf-8").rstrip() in shown
    assert "--preset timelens\n" in shown
    assert "python -m vtg.score checkpoint=outputs/RUN benchmark=charades_timelens 'budgets=[2fps_14k]'\n" in shown
    assert "train: python train_rl.py experiment=timelens_8b_rl data.root=FOLDER model.path=outputs/RUN_OF" in shown
    assert main(["timelens_8b_rl", "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["settings"]["rl"]["scale_rewards"] == "none" and whole["budgets"] == ["2fps_14k"]


def test_a_recipe_that_is_not_there_is_answered_with_the_nearest(capsys):
    assert main(["time_r1"]) == 2
    assert capsys.readouterr().err.startswith(
        "vtg.recipes: error: time_r1: there is no such recipe; did you mean time_r1_7b? recipes: time_r1_7b, "
    )
    with pytest.raises(SystemExit) as ended:
        main(["--tiny"])
    assert ended.value.code == 2
    assert "NAME is missing: --check and --tiny are of one recipe; there are time_r1_7b, " in capsys.readouterr().err


def test_a_folder_is_checked_for_the_rows_and_videos_of_a_recipe(tmp_path, demo_dir, capsys):
    rows = [json.loads(line) for line in (demo_dir / "train.jsonl").read_text().splitlines()]
    folder = published_folder("charades_sta", tmp_path / "data", demo=demo_dir, rows=rows)
    file = f"charades_sta:{folder}/charades_sta_train.txt"
    first, *others = sorted((folder / "videos").iterdir())
    first.unlink()
    assert main(["videochat_r1", "--check", str(folder)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{file}: {len(rows)} rows to train on (published: 12,408 rows; this is not the whole file, fetch it again)",
        f"videos: 1 of {len(others) + 1} are missing, such as {first.stem}; fetch them, or say with data.max_bad_share "
        "what may be left out",
    ]
    lines = (folder / "charades_sta_train.txt").read_text().splitlines()
    whole = [line for line in lines if not line.startswith(first.stem)]
    repeated = (whole * (12_408 // len(whole) + 1))[:12_408]
    (folder / "charades_sta_train.txt").write_text("\n".join(repeated) + "\n")
    assert main(["videochat_r1", "--check", str(folder), "--json"]) == 0
    contract = json.loads(capsys.readouterr().out)
    assert (contract["holds"], contract["rows"], contract["videos"]) == (True, 12_408, len(others))
    (folder / "charades_sta_train.txt").write_text('[{"video": "a", "caption": "x"}]')
    assert main(["videochat_r1", "--check", str(folder)]) == 2
    assert "is not in the format charades_sta: it is " in capsys.readouterr().err
    assert main(["videochat_r1", "--check", str(tmp_path / "nowhere")]) == 2
    assert f"data.root = '{tmp_path}/nowhere': no such folder" in capsys.readouterr().err


@pytest.mark.soak
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_the_tiny_model_on_data_as_published(name, tmp_path, demo_dir):
    recipe = RECIPES[name]
    text = (conf_dir() / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")
    (data,) = re.findall(r"override /data: (\w+)", text)
    rows = [json.loads(line) for line in (demo_dir / "train.jsonl").read_text().splitlines()][:8]
    folder = published_folder(data, tmp_path / "data", demo=demo_dir, rows=rows)
    out = tmp_path / "run"
    words = [f"experiment={name}", f"data.root={folder}", "data.val_share=0", "data.test_file=null"]
    words += [*tiny_overrides(recipe), "trainer.use_cpu=true", f"output_dir={out}"]
    done = subprocess.run(
        [sys.executable, str(ROOT / recipe.program), *words],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    log = [json.loads(line) for line in (out / "train_log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log if "loss" in entry] == [1, 2]
