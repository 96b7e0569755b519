"""The files of conf/budget/: found by name, checked, and as the video settings of a model."""

import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from vtg.config.derived import longest_clip_tokens
from vtg.config.load import conf_dir, typed
from vtg.config.model_settings import ModelConfig
from vtg.config.score_settings import OWN_BUDGET, BudgetConfig
from vtg.config.video_settings import VideoConfig
from vtg.errors import ConfigError
from vtg.models.families.token_cost import TokenCost

LIMITS = ("min_frames", "max_frames"), ("min_frame_tokens", "max_frame_tokens"), ("max_frame_tokens", "total_tokens")
"""Pairs of keys of which the first may not be the larger."""


def read_budgets(names: Sequence[str], folders: Sequence[Path] = ()) -> dict[str, BudgetConfig | None]:
    """The budgets by name; None for `own`.

    `folders`: of configs, the user's own first; the shipped ones come last.

    Raises:
        ConfigError: for no name, one that is given twice or that no file has (the valid ones are listed), and for a
            file that is no budget.
    """
    folders = [*folders, conf_dir()]
    known = {path.stem: path for folder in reversed(folders) for path in sorted((folder / "budget").glob("*.yaml"))}
    if not names:
        raise ConfigError(f"budgets = []: names none; give some of {', '.join([OWN_BUDGET, *known])}")
    found: dict[str, BudgetConfig | None] = {}
    for name in names:
        if name in found:
            raise ConfigError(f"budgets = [{', '.join(names)}]: {name} is there twice; name each budget once")
        if name != OWN_BUDGET and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise ConfigError(
                f"budgets = [{', '.join(names)}]: there is no budget {name}; {hint}budgets: "
                f"{', '.join([OWN_BUDGET, *known])}; your own: FOLDER/budget/NAME.yaml with --config-dir FOLDER"
            )
        found[name] = None if name == OWN_BUDGET else _budget(known[name])
    return found


def _budget(path: Path) -> BudgetConfig:
    read = OmegaConf.load(path)
    assert isinstance(read, DictConfig)
    try:
        budget = typed(read, BudgetConfig)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not budget.fps > 0:
        raise ConfigError(f"{path}: fps = {budget.fps}: must be positive")
    for low, high in LIMITS:
        least, most = getattr(budget, low), getattr(budget, high)
        if not 1 <= least <= most:
            raise ConfigError(f"{path}: {low} = {least}, {high} = {most}: must be 1 <= {low} <= {high}")
    return budget


def video_at(budget: BudgetConfig, video: VideoConfig, cost: TokenCost) -> VideoConfig:
    """`video` with the frames and sizes of the budget; `cost`: of the model, what a token is in pixels."""
    token_pixels = cost.factor**2
    return replace(
        video,
        sampling="fps",
        fps=budget.fps,
        last_frame=False,
        min_frames=budget.min_frames,
        max_frames=budget.max_frames,
        min_pixels=budget.min_frame_tokens * token_pixels,
        max_pixels=budget.max_frame_tokens * token_pixels,
        frame_size=0,
        total_pixels=budget.total_tokens * cost.token_pixels,  # of all the frames that a token spans
    )


def room_for(video: VideoConfig, model: ModelConfig, cost: TokenCost) -> ModelConfig:
    """`model` with a `max_length` that takes the longest clip of `video`: the budget is the limit that counts."""
    return replace(model, max_length=max(model.max_length, longest_clip_tokens(video, cost)))
