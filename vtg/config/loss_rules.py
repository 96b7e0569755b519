"""Losses that cannot be, alone or with other settings: found before any weights load."""

import math
from dataclasses import asdict

from vtg.config.loss_settings import LossConfig
from vtg.config.programs import reinforces
from vtg.config.schema import SFTConfig
from vtg.errors import ConfigError


def check_loss(config: SFTConfig) -> None:
    """Raises ConfigError for a loss whose numbers cannot be, or that what is trained does not have."""
    loss, plain = config.loss, asdict(LossConfig())
    if reinforces(config):
        for key, value in asdict(loss).items():
            if value != plain[key]:
                raise ConfigError(
                    f"loss.{key} = {value!r}: changes nothing in train_rl.py (GRPO has no labels); set "
                    f"loss.{key}={plain[key]}, or loss=cross_entropy"
                )
    if not 0 <= loss.label_smoothing < 1:
        raise ConfigError(f"loss.label_smoothing = {loss.label_smoothing}: must be at least 0 and below 1")
    if not 0 <= loss.soft_time <= 1:
        raise ConfigError(f"loss.soft_time = {loss.soft_time}: must be a share of the target, from 0 to 1")
    if not 0 < loss.soft_time_sigma_s < math.inf:
        raise ConfigError(
            f"loss.soft_time_sigma_s = {loss.soft_time_sigma_s}: must be over 0 seconds; loss.soft_time=0 is without"
        )
    if not loss.soft_time and loss.soft_time_sigma_s != plain["soft_time_sigma_s"]:
        raise ConfigError(
            f"loss.soft_time_sigma_s = {loss.soft_time_sigma_s}: changes nothing where loss.soft_time = 0; set "
            "loss=soft_time, or remove it"
        )
    for key in ("expected_time_weight", "boundary_weight"):
        if not 0 <= (weight := getattr(loss, key)) < math.inf:
            raise ConfigError(f"loss.{key} = {weight}: must be 0 (off) or more")
    for key in ("caption_weight", "point_weight"):
        if not 0 < (weight := getattr(loss, key)) < math.inf:
            raise ConfigError(f"loss.{key} = {weight}: must be over 0; leave rows of a task out to train without it")
        if loss.token_weights != "by_task" and weight != plain[key]:
            raise ConfigError(
                f"loss.{key} = {weight}: changes nothing where loss.token_weights = {loss.token_weights!r}; set "
                "loss=by_task, or remove it"
            )
    other = config.trainer.get("label_smoothing_factor")
    if other and loss.label_smoothing:
        raise ConfigError(
            f"trainer.label_smoothing_factor = {other} and loss.label_smoothing = {loss.label_smoothing} are both "
            "set, and are the same; remove trainer.label_smoothing_factor"
        )
