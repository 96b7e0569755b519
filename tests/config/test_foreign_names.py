"""Names of other projects get the key of this one, in one line, before torch is imported."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from vtg.config.arguments import trainer_names
from vtg.config.foreign_names import FLAGS, FOREIGN_KEYS, OPTIONS, our_key
from vtg.config.programs import PredictConfig
from vtg.config.rl_settings import RewardsConfig
from vtg.config.schema import RLConfig, SFTConfig
from vtg.config.unknown import HYDRA_FLAGS, check_choice, check_flags, has_key, unknown_key
from vtg.entry import conf_dir
from vtg.errors import ConfigError
from vtg.training.rl.rewards.mixture import reward_terms

ROOT = Path(__file__).parents[2]
GROUPS = {folder.name for folder in conf_dir().iterdir() if folder.is_dir()}


def targets(instead: str) -> list[str]:
    """The keys and groups that a remark names before an equals sign, or by which it begins."""
    return [re.split(r"[ =]", instead, maxsplit=1)[0], *re.findall(r"([a-z_]+(?:\.[a-z_]+)*)=", instead)]


@pytest.mark.parametrize("name", [*FOREIGN_KEYS, *FLAGS])
def test_what_is_named_instead_of_a_brought_name_is_there(name):
    instead = (FOREIGN_KEYS | FLAGS)[name]
    if instead.startswith("nothing: "):
        return
    named = targets(instead)
    if name in FLAGS:
        named = named[1:]
    assert named and all(has_key(target, RLConfig) or target in GROUPS for target in named), instead


@pytest.mark.parametrize("name", FOREIGN_KEYS)
def test_a_brought_name_is_none_of_ours(name):
    assert not has_key(name, SFTConfig) or "." not in name
    if "." not in name:
        assert name not in GROUPS


# What issues and guides of other projects were seen to use → how the answer begins.
SEEN = {
    "model.name_or_path": "set model.path",
    "name_or_path": "set model.path",
    "model.torch_dtype": "set model.dtype",
    "model.attn_implementation": "set model.attention",
    "lora.lora_alpha": "set lora.alpha",
    "lora.lora_dropout": "set lora.dropout",
    "lora_alpha": "set lora.alpha",
    "duration_batching.enabled": "set batching=duration",
    "duration_batching.target_batch_duration": "set batching.target_batch_duration",
    "duration_batching.max_batch_size": "set batching.max_batch_size",
    "duration_batching.min_batch_size": "set batching.min_batch_size",
    "duration_batching.drop_last": "set batching.drop_last",
    "duration_batching.anything": "set batching=duration and batching.target_batch_duration",
    "temporal.num_bins": "set task.num_bins",
    "temporal.num_temporal_tokens": "set task.num_bins",
    "temporal.use_temporal_tokens": "set task=tokens",
    "temporal.anything": "set task=seconds",
    "dataloader.num_workers": "set trainer.dataloader_num_workers",
    "dataloader.pin_memory": "set trainer.dataloader_pin_memory",
    "dataloader.prefetch_factor": "set trainer.dataloader_prefetch_factor",
    "dataloader.persistent_workers": "there is none (",
    "rl.algorithm": "set rl=grpo",
    "algorithm": "set rl=grpo",
    "rl.kl_coef": "set rl.beta",
    "kl_coef": "set rl.beta",
    "clip_range": "set rl.epsilon",
    "rl.clip_range": "set rl.epsilon",
    "reward.mode": "set rewards.terms=",
    "rewards.mode": "set rewards.terms=",
    "sampling_strategy": "set video.sampling",
    "video.sampling_strategy": "set video.sampling",
    "resolution": "set video.frame_size",
    "video.resolution": "set video.frame_size",
    "warmup_ratio": "set trainer.warmup_steps",
    "trainer.warmup_ratio": "set trainer.warmup_steps",
    "learning_rate": "set trainer.learning_rate",
    "training.learning_rate": "set trainer.learning_rate",
    "num_train_epochs": "set trainer.num_train_epochs",
    "num_generations": "set rl.num_generations",
}


@pytest.mark.parametrize("key", SEEN)
def test_every_name_that_was_seen_gets_the_right_key(key):
    assert unknown_key(key, RLConfig).startswith(f"{key}: there is no such key; {SEEN[key]}")


def test_a_name_is_answered_with_what_its_program_has():
    assert unknown_key("video.fps", PredictConfig) == "video.fps: there is no such key; set settings.video.fps"
    assert unknown_key("num_frames", PredictConfig).endswith("set settings.video.max_frames")
    assert "valid keys of the top level: checkpoint" in unknown_key("learning_rate", PredictConfig)
    assert unknown_key("kl_coef", SFTConfig).endswith("rl.beta is a setting of train_rl.py")
    assert unknown_key("rewards", SFTConfig).endswith("rewards is a setting of train_rl.py")
    assert our_key("seed") is None and "learning_rate" in trainer_names()


FLAGGED = {
    "--config x.yaml": "--config-dir FOLDER experiment=NAME",
    "--data_config x.yaml": "data=NAME, a file data/NAME.yaml in a folder of yours",
    "--data-config=x.yaml": "data=NAME, a file data/NAME.yaml in a folder of yours",
    "--deepspeed ds.json": "deepspeed=zero2 (or zero3, zero2_offload, zero3_offload), or deepspeed.file=ds.json",
    "--file rows.jsonl": "write data=jsonl data.annotation_file=rows.jsonl",
    "--data rows.jsonl": "write data=jsonl data.annotation_file=rows.jsonl",
    "--learning_rate 1e-4": "write trainer.learning_rate=1e-4",
    "--num-train-epochs=3": "write trainer.num_train_epochs=3",
    "--seed 3": "write seed=3",
    "--nonsense": "--help lists them",
}


@pytest.mark.parametrize("words", FLAGGED)
def test_a_flag_of_another_project_gets_the_words_to_write(words):
    with pytest.raises(ConfigError) as error:
        check_flags(words.split(), SFTConfig)
    flag = words.replace("=", " ").split()[0]
    assert str(error.value).startswith(f"{flag}: settings are given as key=value, without dashes; ")
    assert str(error.value).endswith(FLAGGED[words]) or FLAGGED[words] in str(error.value)


def test_the_flags_of_hydra_pass():
    from hydra._internal.utils import get_args_parser

    theirs = {option.removeprefix("--") for action in get_args_parser()._actions for option in action.option_strings}
    assert {name for name in theirs if not name.startswith("-")} == set(HYDRA_FLAGS)
    check_flags(["--config-dir", "x", "--multi", "-m", "--cfg=job", "seed=1"], SFTConfig)


def test_a_group_given_a_file_a_model_or_a_switch_says_what_to_set():
    wrong = {
        "lora=false": "set lora=none (choices of lora: default, dora, none, qlora, r16, r64, r8, tiny)",
        "lora=null": "set lora=none (",
        "lora=true": "set lora=default (",
        "data=mine/rows.jsonl": "set data=jsonl data.annotation_file=mine/rows.jsonl (",
        "data=rows.jsonl": "set data=jsonl data.annotation_file=rows.jsonl (",
        "model=Qwen/Qwen3-VL-4B-Instruct": "set model.path=Qwen/Qwen3-VL-4B-Instruct, with the choice of its family",
        "deepspeed=ds_config.json": "set deepspeed.file=ds_config.json (",
        "experiment=null": "leave experiment out (",
    }
    for word, way in wrong.items():
        group = word.partition("=")[0]
        choices = [path.stem for path in (conf_dir() / group).glob("*.yaml")]
        with pytest.raises(ConfigError) as error:
            check_choice(word, choices)
        assert str(error.value).startswith(f"{word}: {group} takes the name of one of its choices; {way}")
    check_choice("lora=none,tiny", ["none", "tiny"])
    check_choice("lora=v1.5", ["none", "v1.5"])


def test_an_option_of_a_reward_too():
    with pytest.raises(ConfigError, match=rf"rewards\.terms\[0\]\.mode: .*{re.escape(OPTIONS['mode'])}"):
        reward_terms(RewardsConfig(terms=[{"name": "segment_overlap", "weight": 1.0, "mode": "f1"}]))


@pytest.mark.parametrize(
    ("script", "words", "said"),
    [
        ("train_sft.py", "model.name_or_path=x", "model.name_or_path: there is no such key; set model.path"),
        ("train_sft.py", "--data rows.jsonl", "--data: settings are given as key=value, without dashes; write "),
        ("train_rl.py", "rl.algorithm=grpo", "rl.algorithm: there is no such key; set rl=grpo "),
        ("train_rl.py", "trainer.warmup_ratio=0.1", "trainer.warmup_ratio: there is no such key; set trainer."),
        ("train_sft.py", "model=Qwen/Qwen3-VL-4B-Instruct", "model=Qwen/Qwen3-VL-4B-Instruct: model takes "),
        ("-m vtg.predict", "video.fps=4", "video.fps: there is no such key; set settings.video.fps"),
    ],
)
def test_the_answer_is_one_line_before_torch_is_imported(script, words, said):
    command = [sys.executable, *script.split(), *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stderr.startswith(f"error: {said}") and done.stderr.count("\n") == 1
    assert (done.returncode, done.stdout) == (2, "")
