"""conf/ and the schema say the same of every setting: its default, and its explanation as the comment beside it."""

import re
from dataclasses import asdict, fields

import pytest
from omegaconf import OmegaConf

from vtg.config.clip_settings import ClipsConfig
from vtg.config.encoder_settings import EncoderConfig
from vtg.config.latent_settings import PredictorConfig
from vtg.config.latents_schema import FutureConfig, LatentsConfig
from vtg.config.library_help import RL_HELP, TRAINER_HELP
from vtg.config.programs import DoctorConfig, PredictConfig, SettingsOverrides
from vtg.config.schema import RLConfig, RunConfig
from vtg.config.score_settings import ScoreConfig
from vtg.config.setting import dataclass_of, setting_of
from vtg.entry import conf_dir

CONF = conf_dir()
DEFAULTS = {
    "data": "jsonl",
    "video": "default",
    "augmentation": "none",
    "task": "seconds",
    "loss": "cross_entropy",
    "model": "defaults",
    "parts": "default",
    "lora": "default",
    "batching": "fixed",
    "evaluation": "default",
    "deepspeed": "none",
    "rewards": "iou",
    "curriculum": "none",
    "rollout": "default",
    "encoder": "qwen_tower",
    "clips": "default",
    "predictor": "regression",
    "future": "default",
}
"""Group → the choice that holds a default for each of its settings. Other choices say only how they differ."""

GROUPS = {entry.name: dataclass_of(entry.type) for entry in fields(RLConfig) if dataclass_of(entry.type)} | {
    "encoder": EncoderConfig,
    "clips": ClipsConfig,
    "predictor": PredictorConfig,
    "future": FutureConfig,
}
TOP = {
    "run": RunConfig,
    "latents": LatentsConfig,
    "doctor": DoctorConfig,
    "predict": PredictConfig,
    "score": ScoreConfig,
}


def test_every_group_has_a_choice_with_its_defaults():
    assert GROUPS.keys() == DEFAULTS.keys()


def shown_comments(file: str) -> dict[str, str]:
    """Top-level keys of a config file that have a value, and the comment beside it."""
    lines = (CONF / file).read_text(encoding="utf-8").splitlines()
    found = (re.match(r"(\w+):(?: (?:[^#]|(?<=\S)#)*?)? # (.*)$", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


@pytest.mark.parametrize("group", DEFAULTS)
def test_a_default_is_the_same_in_the_schema_and_in_its_file(group):
    schema = GROUPS[group]
    assert schema is not None
    written = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{DEFAULTS[group]}.yaml"))
    assert isinstance(written, dict)
    expected = asdict(schema()) | ({"path": "???"} if group == "model" else {})  # there is no model to take unasked
    assert written == expected


@pytest.mark.parametrize("program", TOP)
def test_the_defaults_of_a_program_are_the_same_in_the_schema_and_in_its_file(program):
    written = OmegaConf.to_container(OmegaConf.load(CONF / f"{program}.yaml"), resolve=False)
    assert isinstance(written, dict)
    expected = asdict(TOP[program]())
    for key, value in written.items():
        if key in expected and not isinstance(value, dict) and key not in ("run_name", "output_dir"):
            assert value == expected[key], key


@pytest.mark.parametrize("program", ["predict", "score"])
def test_every_setting_of_a_checkpoint_can_be_overridden_and_is_not_unless_asked(program):
    written = OmegaConf.load(CONF / f"{program}.yaml").settings
    assert OmegaConf.to_container(written) == asdict(SettingsOverrides())


@pytest.mark.parametrize("group", DEFAULTS)
def test_the_comment_beside_a_default_is_the_explanation_of_the_setting(group):
    schema = GROUPS[group]
    assert schema is not None
    known = {entry.name: setting_of(entry) for entry in fields(schema)}
    expected = {name: one.explanation() for name, one in known.items() if one is not None}
    assert shown_comments(f"{group}/{DEFAULTS[group]}.yaml") == expected


@pytest.mark.parametrize("program", TOP)
def test_the_comments_of_a_program_are_the_explanations_of_its_settings(program):
    known = {entry.name: setting_of(entry) for entry in fields(TOP[program])}
    comments = shown_comments(f"{program}.yaml")
    assert comments
    for name, comment in comments.items():
        one = known[name]
        assert one is not None and comment == one.explanation()


@pytest.mark.parametrize(("file", "known"), [("trainer/default.yaml", TRAINER_HELP), ("rl/grpo.yaml", RL_HELP)])
def test_the_comments_beside_settings_of_the_libraries_are_their_explanations(file, known):
    comments = shown_comments(file)
    written = OmegaConf.to_container(OmegaConf.load(CONF / file))
    assert isinstance(written, dict)
    assert comments == {name: known[name] for name in written}


@pytest.mark.parametrize(("group", "known"), [("trainer", TRAINER_HELP), ("rl", RL_HELP)])
def test_every_setting_of_the_libraries_that_conf_sets_is_explained(group, known):
    for file in CONF.rglob("*.yaml"):
        values = OmegaConf.to_container(OmegaConf.load(file))
        assert isinstance(values, dict)
        is_own = file.parent.name == group and "# @package _global_" not in file.read_text(encoding="utf-8")
        own = values if is_own else values.get(group, {})
        assert not own.keys() - {"defaults"} - known.keys(), file
