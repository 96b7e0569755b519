"""What a chosen config file sets is what a run gets, whatever a model group or a checkpoint brings."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from vtg.config.chosen import chosen_settings
from vtg.config.load import load_config
from vtg.config.schema import RLConfig, SFTConfig
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.entry import conf_dir
from vtg.models.checkpoint import Settings, save_settings
from vtg.models.checkpoint_settings import adopt
from vtg.recipes.published_recipes import RECIPES

CONF = conf_dir()
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


def flat(content: dict, prefix: str = "") -> dict:
    pairs = {}
    for key, value in content.items():
        pairs |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return pairs


def programs(experiment: str) -> list[str]:
    """The programs that an experiment is for: a recipe's own, that of a predictor of latents, and of others both."""
    if experiment == "vjepa2_kinetics_400":
        return ["latents"]
    if recipe := RECIPES.get(experiment):
        return [recipe.program.removeprefix("train_").removesuffix(".py")]
    return ["sft", "rl"]


@pytest.mark.parametrize(
    ("program", "experiment"), [(program, name) for name in EXPERIMENTS for program in programs(name)]
)
def test_every_key_of_an_experiment_holds_in_the_programs_that_it_is_for(program, experiment):
    content = OmegaConf.to_container(OmegaConf.load(CONF / "experiment" / f"{experiment}.yaml"))
    assert isinstance(content, dict)
    defaults = content.pop("defaults")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(program, overrides=[f"experiment={experiment}"], return_hydra_config=True)
    wanted = flat(content)
    found = OmegaConf.to_container(OmegaConf.masked_copy(config, list(content)), resolve=False)
    assert isinstance(found, dict)
    assert wanted and {key: flat(found)[key] for key in wanted} == wanted
    groups = (entry for entry in defaults if isinstance(entry, dict))
    overridden = {key.removeprefix("override /"): value for entry in groups for key, value in entry.items()}
    assert {group: config.hydra.runtime.choices[group] for group in overridden} == overridden


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A folder that says it was trained on 12 frames at 1 frame a second, with answers in bins."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        trained = load_config(compose("sft"), SFTConfig)
    trained.video.max_frames, trained.video.fps = 12, 1.5
    trained.task.answer, trained.task.decimals, trained.model.max_length = "bins", 2, 4000
    save_settings(Settings(trained.model, trained.video, trained.task), tmp_path)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "model.safetensors").touch()
    return tmp_path


def adopted(checkpoint: Path, *words: str, folder: Path | None = None) -> tuple[RLConfig, list[str]]:
    """The settings of `train_rl.py model.path=CHECKPOINT WORDS`, and what is logged of them."""
    words = (f"model.path={checkpoint}", *words)
    more = [f"hydra.searchpath=[file://{folder}]"] if folder else []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = load_config(compose("rl", overrides=[*more, *words]), RLConfig)
        return config, adopt(config, chosen_settings("rl", [*more, *words], [CONF, *([folder] if folder else [])]))


def test_thinking_that_a_variant_of_rl_asks_for_stays_and_the_rest_is_the_checkpoints(checkpoint):
    config, notes = adopted(checkpoint, "rl=r1")
    assert (config.task.think, config.task.answer, config.task.decimals) == (True, "bins", 2)
    assert (config.video.max_frames, config.video.fps, config.model.max_length) == (12, 1.5, 4000)
    assert f"task.think = True, as was chosen ({checkpoint} was trained with False)" in notes
    assert f"task.answer = bins, as {checkpoint} was trained (not seconds)" in notes


def test_without_a_choice_all_is_as_the_checkpoint_was_trained(checkpoint):
    for words in ((), ("model=qwen3_vl_4b",), ("model=tiny", "rl=dapo", "lora=none")):
        config, notes = adopted(checkpoint, *words)
        assert not config.task.think and (config.task.answer, config.video.max_frames) == ("bins", 12)
        assert config.model.max_length == 4000
        assert not any("as was chosen" in note for note in notes)


def test_what_an_experiment_sets_stays(checkpoint):
    config, notes = adopted(checkpoint, "experiment=long_videos")
    assert (config.video.fps, config.video.max_frames, config.model.max_length) == (1.0, 768, 40960)
    assert config.task.answer == "bins"
    assert f"video.fps = 1.0, as was chosen ({checkpoint} was trained with 1.5)" in notes


def test_a_group_and_a_key_of_the_command_line_stay(checkpoint):
    config, _ = adopted(checkpoint, "task=relative", "video.fps=4", "++video.max_frames=20")
    assert (config.task.answer, config.task.decimals) == ("relative", 1)
    assert (config.video.fps, config.video.max_frames) == (4.0, 20)


def test_what_ones_own_experiment_sets_to_the_usual_value_or_chooses_through_another_stays(checkpoint, tmp_path):
    mine = tmp_path / "conf" / "experiment"
    mine.mkdir(parents=True)
    (mine / "first.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /task: seconds\n  - _self_\nvideo:\n  fps: 2.0\n"
    )
    (mine / "mine.yaml").write_text("# @package _global_\ndefaults:\n  - first\n  - _self_\nvideo: {min_frames: 8}\n")
    config, _ = adopted(checkpoint, "experiment=mine", folder=mine.parent)
    assert config.task == TaskConfig()
    assert (config.video.fps, config.video.min_frames, config.video.max_frames) == (2.0, 8, 12)
    assert config.video != VideoConfig()
