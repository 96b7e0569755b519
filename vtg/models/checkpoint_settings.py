"""The settings a checkpoint is used with: those of its training, except where the command line overrides them."""

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vtg.config.model_settings import ModelConfig
from vtg.config.programs import FallbackSettings, SettingsOverrides
from vtg.config.rules import check_settings
from vtg.config.schema import SFTConfig
from vtg.config.video_settings import VIDEO_MEANS
from vtg.models.checkpoint import SETTINGS_FILE, Settings, read_settings, resolve_checkpoint

# Groups in which training and use must agree: with other sampling or prompts the model gets inputs it never learned.
TIME_CONTRACT = ("video", "task")

# Keys of these groups that may differ: decoders and caches give the same frames, what may be decoded is no input, and
# what temporal tokens began as no longer matters.
FREE_KEYS = (*(f"video.{key}" for key in VIDEO_MEANS), "task.constrained", "task.token_init")


@dataclass(frozen=True)
class CheckpointSettings:
    """The settings to use, their source, and how they differ from training, a line each.

    `is_plain`: there are none beside it: a model that vtg did not train.
    """

    settings: Settings
    source: str
    differences: tuple[str, ...] = ()
    is_plain: bool = False


def checkpoint_settings(
    checkpoint: str, *, overrides: SettingsOverrides, fallback: FallbackSettings
) -> CheckpointSettings:
    """The settings to use `checkpoint` with. Reads `vtg.json` alone; `model.path` becomes the checkpoint itself.

    Raises:
        ConfigError: for a checkpoint that does not exist, or invalid overrides.
    """
    where = resolve_checkpoint(checkpoint)
    saved = read_settings(where)
    own = saved or Settings(fallback.model, fallback.video, fallback.task)
    # dtype and attention are those of this machine; an adapter was trained on the rounded weights of its base.
    trained = {"max_length": own.model.max_length, "quantization": own.model.quantization}
    model = replace(fallback.model, path=checkpoint, **trained)
    settings = Settings(
        model=replace(model, **_given(overrides.model)),
        video=replace(own.video, **_given(overrides.video)),
        task=replace(own.task, **_given(overrides.task)),
    )
    check_settings(settings, prefix="settings.")
    if saved is None:
        source = f"{checkpoint} has no {SETTINGS_FILE}: using the `fallback` settings"
        return CheckpointSettings(settings, source, is_plain=True)
    return CheckpointSettings(settings, str(Path(where) / SETTINGS_FILE), differences(saved, settings))


def differences(trained: Settings, used: Settings) -> tuple[str, ...]:
    """`video.fps = 4.0 here, 2.0 in training`, for every setting of the time contract that differs."""
    found = []
    for group in TIME_CONTRACT:
        before, now = asdict(getattr(trained, group)), asdict(getattr(used, group))
        keys = [key for key in now if now[key] != before[key] and f"{group}.{key}" not in FREE_KEYS]
        found += [f"{group}.{key} = {now[key]} here, {before[key]} in training" for key in keys]
    return tuple(found)


def adopt(config: SFTConfig, chosen: Collection[str]) -> list[str]:
    """Sets sampling, prompt and answer form to those that the vtg checkpoint at `config.model.path` was trained with,
    unless the user chose otherwise. Returns what was changed, and what was chosen otherwise, a line each.

    Args:
        chosen: keys and whole groups that stay as they are (`vtg.config.chosen.chosen_settings`).
    """
    saved = read_settings(resolve_checkpoint(config.model.path))
    if saved is None:
        return []
    pairs = [("video", saved.video), ("task", saved.task), ("model", replace(config.model, **_size(saved.model)))]
    notes = []  # logged by the caller, so that no setting changes in silence
    for group, trained in pairs:
        now = getattr(config, group)
        for key, value in asdict(trained).items():
            name, current = f"{group}.{key}", getattr(now, key)
            if current == value or name in FREE_KEYS:
                continue
            if name in chosen or group in chosen:
                notes.append(f"{name} = {current}, as was chosen ({config.model.path} was trained with {value})")
            else:
                notes.append(f"{name} = {value}, as {config.model.path} was trained (not {current})")
                setattr(now, key, value)
    return notes


def _size(model: ModelConfig) -> dict[str, Any]:
    return {"max_length": model.max_length, "patch_factor": model.patch_factor}


def _given(overrides: Any) -> dict[str, Any]:
    return {key: value for key, value in asdict(overrides).items() if value is not None}
