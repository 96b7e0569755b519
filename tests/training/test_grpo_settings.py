"""Settings of reinforcement learning that cannot be say so, with the way out, before a model loads."""

from dataclasses import replace
from pathlib import Path

import pytest
import trl
from rl_runs import compose, overrides

from vtg.errors import ConfigError
from vtg.training.grpo.train import OURS, grpo_arguments
from vtg.training.grpo.trainer import CHECKED_TRL, check_trl


def refusal(demo_dir: Path, *words: str) -> str:
    with pytest.raises(ConfigError) as error:
        grpo_arguments(compose(overrides(demo_dir, Path("never made"), *words)))
    return str(error.value)


def test_an_unknown_name_is_refused_with_what_was_meant(demo_dir):
    assert refusal(demo_dir, "rl.num_generation=4").startswith(
        "rl.num_generation: GRPOConfig of trl has no such setting; did you mean num_generations or "
    )
    listed = refusal(demo_dir, "rl.zzz=1")
    assert listed.startswith("rl.zzz: GRPOConfig of trl has no such setting; its own names: ")
    names = set(listed.partition("names: ")[2].split(", "))
    assert {"beta", "epsilon_high", "loss_type", "num_generations"} <= names and not names & OURS.keys()


def test_a_setting_that_vtg_makes_is_refused_with_the_key_to_set(demo_dir):
    config = compose(overrides(demo_dir, Path("never made")))
    for key, instead in OURS.items():
        with pytest.raises(ConfigError) as error:
            grpo_arguments(replace(config, rl={key: 1}))
        assert str(error.value) == f"rl.{key} is set by vtg; set {instead} instead"
    assert refusal(demo_dir, "rl.use_vllm=true") == "rl.use_vllm is set by vtg; set rollout.engine instead"


def test_a_setting_of_the_trainer_is_sent_there(demo_dir):
    assert refusal(demo_dir, "rl.learning_rate=1e-4") == (
        "rl.learning_rate: is a setting of the Trainer; set trainer.learning_rate"
    )


@pytest.mark.parametrize("group", ["1", "0", "2.5", "true"])
def test_a_group_without_a_better_answer_is_refused(demo_dir, group):
    said = refusal(demo_dir, f"rl.num_generations={group}")
    assert said.startswith("rl.num_generations = ") and "an integer of at least 2" in said


def test_what_grpo_config_refuses_itself_is_said_as_a_setting(demo_dir):
    assert refusal(demo_dir, "rl.beta=much") == "rl.beta = 'much': must be a number"
    assert "trainer.save_stragety" in refusal(demo_dir, "trainer.save_stragety=no")
    windows = ("batching.by=tokens", "rl.steps_per_generation=3", "trainer.gradient_accumulation_steps=2")
    assert "must be a multiple of trainer.gradient_accumulation_steps = 2" in refusal(demo_dir, *windows)


def test_numbers_and_defaults_reach_trl(demo_dir):
    given = ("rl.epsilon=3e-4", "rl.num_generations=5", "rl.loss_type=dapo", "trainer.gradient_accumulation_steps=3")
    arguments = grpo_arguments(compose(overrides(demo_dir, Path("never made"), *given)))
    assert (arguments.epsilon, arguments.loss_type) == (3e-4, "dapo")
    assert arguments.per_device_train_batch_size == 2 * 5  # rows in TRL, prompts in ours
    assert arguments.steps_per_generation == arguments.gradient_accumulation_steps == 3


def test_another_trl_is_refused_because_it_may_train_blindly(monkeypatch):
    check_trl()
    for version in ("1.17.0", "1.1.6", "2.16.0"):
        monkeypatch.setattr(trl, "__version__", version)
        with pytest.raises(ConfigError) as error:
            check_trl()
        assert str(error.value) == (
            f"trl {version} is installed, but video GRPO was checked with {CHECKED_TRL[0]}.* alone: another version "
            f"may compute its loss without the video, and say nothing; pip install 'trl=={CHECKED_TRL[-1]}.*'"
        )
