"""Settings of reinforcement learning that cannot be say so, with the way out, before a model loads."""

from pathlib import Path

import pytest
import trl
from rl_runs import compose, overrides
from transformers import TrainingArguments

from vtg.errors import ConfigError
from vtg.training.hf_arguments import use_one_gpu
from vtg.training.rl.grpo_trainer import CHECKED_TRL, check_trl
from vtg.training.rl.run_rl import grpo_arguments


def refusal(demo_dir: Path, *words: str) -> str:
    with pytest.raises(ConfigError) as error:
        grpo_arguments(compose(overrides(demo_dir, Path("never made"), *words)))
    return str(error.value)


@pytest.mark.parametrize("group", ["1", "0", "2.5", "true"])
def test_a_group_without_a_better_answer_is_refused(demo_dir, group):
    said = refusal(demo_dir, f"rl.num_generations={group}")
    assert said.startswith("rl.num_generations = ") and "an integer of at least 2" in said


def test_what_grpo_config_refuses_itself_is_said_as_a_setting(demo_dir):
    assert refusal(demo_dir, "rl.beta=much") == "rl.beta = 'much': must be a number"
    assert "trainer.save_stragety" in refusal(demo_dir, "trainer.save_stragety=no")
    windows = ("batching.by=tokens", "rl.steps_per_generation=3", "trainer.gradient_accumulation_steps=2")
    assert "must be a multiple of trainer.gradient_accumulation_steps = 2" in refusal(demo_dir, *windows)


def test_clips_that_prompts_cannot_share_are_refused(demo_dir):
    shares = "batching.share_video=true"
    said = refusal(demo_dir, shares, "rollout.share_prompt=false")
    assert said.startswith("batching.share_video = true with rollout.share_prompt = false: ")
    assert "set rollout.share_prompt=true, or batching.share_video=false" in said
    said = refusal(demo_dir, shares, "model.attention=eager")
    assert said.startswith("batching.share_video = true with model.attention = 'eager', which cannot share prompts; ")
    drawn = (shares, "curriculum.zero_variance=resample")
    said = refusal(demo_dir, *drawn, "batching.by=tokens")
    assert said.startswith("curriculum.zero_variance = 'resample' with batching.share_video = true and batching.by = ")
    assert "set curriculum.zero_variance=drop, batching.by=fixed, or batching.share_video=false" in said
    said = refusal(demo_dir, shares, "video.pad=true")
    assert "set video.pad=false, or batching.share_video=false" in said
    said = refusal(demo_dir, shares, "batching.by=duration")
    assert said.endswith("set batching.max_batch_size, or batching=tokens")
    by_seconds = (shares, "batching.by=duration", "batching.max_batch_size=4")
    for words in ((*drawn, "batching.by=fixed"), (shares, "batching.by=tokens"), by_seconds):
        assert compose(overrides(demo_dir, Path("never made"), *words)).batching.share_video


def test_null_shares_clips_unless_another_setting_keeps_prompts_from_it(demo_dir):
    """Nobody asked for both then, so nothing is refused."""

    def shares(*words: str) -> bool | None:
        told = ("batching.share_video=null", *words)
        return compose(overrides(demo_dir, Path("never made"), *told)).batching.share_video

    assert shares() is True and shares("batching.by=tokens") is True
    for word in (
        "rollout.share_prompt=false",
        "model.attention=eager",
        "video.pad=true",
        "augmentation=light",
        "batching.by=duration",
    ):
        assert shares(word) is False, word
    assert shares("batching.by=tokens", "curriculum.zero_variance=resample") is False


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


def test_one_process_trains_on_one_of_several_gpus(tmp_path, caplog):
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    use_one_gpu(arguments)
    assert "GPUs" not in caplog.text
    arguments._n_gpu = 4  # as transformers counts them in a process that no launcher started
    assert arguments.train_batch_size == 4 * arguments.per_device_train_batch_size
    use_one_gpu(arguments)
    assert arguments.n_gpu == 1 and arguments.train_batch_size == arguments.per_device_train_batch_size
    assert "one of 4 GPUs" in caplog.text and "torchrun --nproc_per_node=4" in caplog.text
