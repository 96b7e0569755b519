"""What is known of every setting: one line of explanation, its choices, and whether a resumed run may change it."""

from dataclasses import asdict, fields

import pytest
from test_values import composed

from vtg.config.programs import DoctorConfig, ModelOverrides, PredictConfig, TaskOverrides, VideoOverrides
from vtg.config.resume import RL_MEANS, TRAINER_MEANS, TRAINER_REMAINING_STEPS, may_change_on_resume
from vtg.config.rules import check_choices
from vtg.config.schema import RLConfig, SFTConfig
from vtg.config.setting import dataclass_of, is_named, setting_of, settings
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VIDEO_MEANS, VideoConfig
from vtg.errors import ConfigError


def every_field(schema: type, prefix: str = ""):
    for entry in fields(schema):
        inner = dataclass_of(entry.type)
        if inner is None:
            yield f"{prefix}{entry.name}", entry
        else:
            yield from every_field(inner, f"{prefix}{entry.name}.{'NAME.' if is_named(entry) else ''}")


@pytest.mark.parametrize("schema", [DoctorConfig, PredictConfig])
def test_every_setting_has_one_line_of_explanation(schema):
    keys = []
    for key, entry in every_field(schema):
        known = setting_of(entry)
        assert known is not None and known.explanation(), f"{key}: declare it with setting(default, help)"
        assert "\n" not in known.explanation()
        assert not known.choices or entry.default is None or entry.default in known.choices
        keys.append(key)
    assert keys == [key for key, _, _ in settings(schema)]


def test_a_run_may_resume_with_other_means_but_not_with_what_it_learns_changed():
    may = ("on_nan", "data.max_bad_share", "evaluation.batch_size", "model.attention", "trainer.save_total_limit")
    may += ("trainer.dataloader_num_workers", "trainer.gradient_checkpointing_kwargs.use_reentrant")
    may += ("rl.vllm_gpu_memory_utilization", "rollout.engine", *(f"video.{name}" for name in VIDEO_MEANS))
    may += ("trainer.learning_rate", "trainer.max_steps", "trainer.per_device_train_batch_size", "data.annotation_file")
    may += ("data.sources.mine.video_dir", "batching.global_size")
    may_not = ("seed", "data.val_share", "video.fps", "task.answer", "model.path", "lora.r", "deepspeed.stage")
    may_not += ("data.sources.mine.weight", "data.weights", "data.epoch_samples")
    may_not += ("trainer.weight_decay", "trainer.lr_scheduler_type", "rl.beta", "rewards.terms", "no.such", "trainer")
    assert [key for key in may if not may_change_on_resume(key)] == []
    assert [key for key in may_not if may_change_on_resume(key)] == []


def test_only_the_means_among_the_video_settings_may_change_on_resume():
    assert {entry.name for entry in fields(VideoConfig) if may_change_on_resume(f"video.{entry.name}")} == set(
        VIDEO_MEANS
    )


def test_the_means_of_trainer_and_rl_are_names_that_the_libraries_have():
    from transformers import TrainingArguments
    from trl.trainer.grpo_config import GRPOConfig

    from vtg.config.arguments import REPLACED, RL_REPLACED, RL_WITHOUT_EFFECT, WITHOUT_EFFECT

    assert {entry.name for entry in fields(TrainingArguments)} >= TRAINER_MEANS | TRAINER_REMAINING_STEPS
    assert {entry.name for entry in fields(GRPOConfig)} >= RL_MEANS
    assert not TRAINER_MEANS & (REPLACED | WITHOUT_EFFECT).keys()
    assert not RL_MEANS & (RL_REPLACED | RL_WITHOUT_EFFECT).keys()


def test_overrides_have_the_fields_of_what_they_override_and_are_null():
    assert [entry.name for entry in fields(VideoOverrides)] == [entry.name for entry in fields(VideoConfig)]
    kept = {entry.name for entry in fields(TaskOverrides)}
    assert {entry.name for entry in fields(TaskConfig)} - kept == {"name", "token_init"}
    for overrides in (VideoOverrides(), TaskOverrides(), ModelOverrides()):
        assert set(asdict(overrides).values()) == {None}
    assert asdict(VideoOverrides(fps=4.0))["fps"] == 4.0


@pytest.mark.parametrize(
    "words, error",
    [
        (["rollout.key_gib=0"], r"^rollout\.key_gib = 0\.0: must be more than 0"),
        (["rollout.key_gib=4", "rollout.engine=vllm"], r"^rollout\.key_gib = 4\.0: vLLM has a budget of its own"),
        (["rollout.compiled_after=0"], r"^rollout\.compiled_after = 0: must be at least 1"),
        (["rollout.compiled_after=8", "rollout.engine=vllm"], r"^rollout\.compiled_after = 8: vLLM compiles by itself"),
    ],
)
def test_what_decoding_cannot_do_or_does_not_read_is_refused(words, error):
    with pytest.raises(ConfigError, match=error):
        composed(*words, program="rl")


def test_a_value_outside_its_choices_is_named_with_them_in_any_group():
    config = RLConfig()
    check_choices(config)
    config.rollout.engine = "sglang"
    with pytest.raises(ConfigError, match=r"^rollout\.engine = 'sglang': must be one of transformers, vllm$"):
        check_choices(config)
    predict = PredictConfig()
    check_choices(predict)
    predict.settings.task.answer = "words"  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"^settings\.task\.answer = 'words': must be one of seconds, relative"):
        check_choices(predict)
    assert SFTConfig().resume == "auto"
