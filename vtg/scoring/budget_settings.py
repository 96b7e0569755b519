"""The settings of a checkpoint at budgets of input, whose tokens are those of its own processor."""

import logging
from collections.abc import Mapping
from dataclasses import replace

from vtg.config.budgets import room_for, video_at
from vtg.config.rules import check_settings
from vtg.config.score_settings import BudgetConfig
from vtg.data.encoding import token_cost
from vtg.models.checkpoint import Settings
from vtg.models.loading import load_processor

log = logging.getLogger(__name__)


def settings_at(budgets: Mapping[str, BudgetConfig | None], own: Settings) -> dict[str, Settings]:
    """The settings of a checkpoint, `own`, at each budget (None: its own). Raises ConfigError where they cannot be."""
    cost = token_cost(load_processor(own.model.path))
    model = replace(own.model, patch_factor=cost.factor)
    settings = {}
    for name, budget in budgets.items():
        video = own.video if budget is None else video_at(budget, own.video, cost)
        settings[name] = replace(own, video=video, model=model if budget is None else room_for(video, model, cost))
        check_settings(settings[name], prefix="settings.")
        shown = (video.fps, video.min_frames, video.max_frames, video.min_pixels, video.max_pixels, video.total_pixels)
        log.info("%s: %g fps, %d to %d frames of %d to %d pixels, %d pixels together", name, *shown)
    return settings
