"""What a checkpoint is asked with by programs that are no Hydra program: settings checked before torch is imported."""

from collections.abc import Sequence
from dataclasses import dataclass

from vtg.config.programs import PredictConfig
from vtg.config.rules import check_counts
from vtg.entry import compose_settings
from vtg.models.checkpoint import Settings
from vtg.models.checkpoint_settings import checkpoint_settings
from vtg.models.hub import find_model
from vtg.tasks.span_task import SpanTask


@dataclass(frozen=True)
class AskSettings:
    """A checkpoint's settings, how they differ from training (a line each), and the most tokens of an answer."""

    settings: Settings
    differences: tuple[str, ...]
    max_new_tokens: int


def ask_settings(checkpoint: str, overrides: Sequence[str] = ()) -> AskSettings:
    """What `python -m vtg.predict checkpoint=... [overrides]` would ask with. No weights are read.

    Raises:
        ConfigError: the checkpoint is not there, or an override is no setting or has a value that cannot be.
    """
    config = compose_settings("predict", overrides, PredictConfig)
    check_counts(config, "max_new_tokens")
    found = checkpoint_settings(checkpoint, overrides=config.settings, fallback=config.fallback)
    task = SpanTask(found.settings.task)
    room = config.max_new_tokens or task.room
    task.check_room(room, key="max_new_tokens")
    find_model(checkpoint, key="checkpoint")
    return AskSettings(found.settings, found.differences, room)
