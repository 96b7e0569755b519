"""Names of the Trainer's and of TRL's arguments: known without importing them; none is accepted that does nothing."""

from dataclasses import fields
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from vtg.config import arguments
from vtg.config.load import load_config
from vtg.config.programs import DoctorConfig
from vtg.config.schema import RLConfig, SFTConfig
from vtg.entry import conf_dir
from vtg.errors import ConfigError

SCHEMAS = {"sft": SFTConfig, "rl": RLConfig, "doctor": DoctorConfig}
OURS = arguments.REPLACED | arguments.WITHOUT_EFFECT
RL_OURS = arguments.RL_REPLACED | arguments.RL_WITHOUT_EFFECT


def refusal(program: str, *words: str) -> str:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose(program, overrides=list(words))
    with pytest.raises(ConfigError) as error:
        load_config(config, SCHEMAS[program])
    return str(error.value)


def test_the_names_read_from_source_are_those_of_the_classes():
    from transformers import TrainingArguments
    from trl.trainer.grpo_config import GRPOConfig

    trainer = {entry.name for entry in fields(TrainingArguments) if entry.init}
    assert arguments.trainer_names() == trainer
    assert arguments.rl_names() == {entry.name for entry in fields(GRPOConfig) if entry.init} - trainer
    assert (OURS | arguments.WITHOUT_EFFECT_IN_RL).keys() <= trainer
    assert RL_OURS.keys() <= arguments.rl_names()


@pytest.mark.parametrize("key", OURS)
def test_a_training_argument_without_effect_is_refused_with_the_key_or_the_reason(key):
    said = refusal("sft", f"++trainer.{key}=1")
    instead = arguments.REPLACED.get(key)
    wanted = f"is set by vtg; set {instead} instead" if instead else "changes nothing here ("
    assert said.startswith(f"trainer.{key} {wanted}")
    assert "remove it" in said or instead


@pytest.mark.parametrize("key", RL_OURS)
def test_so_is_one_of_grpo(key):
    said = refusal("rl", f"++rl.{key}=1")
    assert said.startswith((f"rl.{key} is set by vtg; set ", f"rl.{key} changes nothing here ("))
    assert (arguments.RL_REPLACED.get(key) or arguments.RL_WITHOUT_EFFECT[key]) in said


def test_what_only_fine_tuning_reads_is_refused_in_reinforcement_learning():
    for key, reason in arguments.WITHOUT_EFFECT_IN_RL.items():
        assert refusal("rl", f"++trainer.{key}=0") == f"trainer.{key} changes nothing here ({reason}); remove it"
    said = refusal("rl", "batching=packed")
    assert said.startswith("batching.packing = true: changes nothing in train_rl.py (") and "another batching" in said
    assert refusal("rl", "batching.min_batch_size=2").startswith("batching.min_batch_size = 2: changes nothing")
    assert refusal("doctor", "rl=grpo", "batching.drop_last=true").startswith("batching.drop_last = true: changes")
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        for program in ("sft", "doctor"):
            words = ["++trainer.label_smoothing_factor=0.1", "batching=packed"]
            assert load_config(compose(program, overrides=words), SCHEMAS[program]).batching.packing


def test_an_unknown_name_gets_the_near_ones_or_the_place_where_it_is():
    assert refusal("sft", "++trainer.max_stepz=3").startswith(
        "trainer.max_stepz: TrainingArguments of transformers has no such setting; did you mean max_steps"
    )
    listed = refusal("rl", "++rl.zzz=1")
    assert listed.startswith("rl.zzz: GRPOConfig of trl has no such setting; its names: ")
    names = set(listed.partition("names: ")[2].split(", "))
    assert {"beta", "epsilon_high", "loss_type", "num_generations"} <= names and not names & RL_OURS.keys()
    assert refusal("rl", "++trainer.epsilon=1") == "trainer.epsilon: there is no such key; set rl.epsilon"
    assert refusal("rl", "++rl.weight_decay=1") == (
        "rl.weight_decay: is a setting of the Trainer; set trainer.weight_decay"
    )


def test_every_name_that_is_left_was_looked_through():
    """A new version of transformers or TRL brings names of which somebody has to say what they do here."""
    seen = (Path(__file__).parent / "argument_names.txt").read_text(encoding="utf-8").split()
    left = (arguments.trainer_names() - OURS.keys()) | (arguments.rl_names() - RL_OURS.keys())
    assert sorted(left) == seen
