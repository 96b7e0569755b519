"""The rewards of a run: the settings' terms, checked, with their weights."""

import difflib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vtg.config import foreign_names
from vtg.config.rl_settings import RewardsConfig
from vtg.errors import ConfigError
from vtg.training.rl.rewards import REWARDS
from vtg.training.rl.rewards.completion import Completion
from vtg.training.rl.rewards.overlap import MEASURES


@dataclass(frozen=True, slots=True)
class Term:
    """One reward of the mixture: called with a completion, it gives the reward clipped and not yet weighted."""

    name: str
    label: str
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)
    clip: tuple[float, float] | None = None

    def __call__(self, completion: Completion) -> float:
        reward = REWARDS[self.name](completion, **self.options)
        return reward if self.clip is None else min(max(reward, self.clip[0]), self.clip[1])


def reward_terms(config: RewardsConfig) -> list[Term]:
    """The terms of the mixture, in the order of the config, all options filled in.

    Raises:
        ConfigError: no terms, an unknown reward or option (the valid ones are listed), a value that an option cannot
            have, a label given twice, or weights that are all zero.
    """
    if not config.terms:
        raise ConfigError(f"rewards.terms is empty: give at least one reward, such as {EXAMPLE}; there are {_NAMES}")
    terms = [_term(f"rewards.terms[{i}]", given) for i, given in enumerate(config.terms)]
    for i, term in enumerate(terms):
        # TRL logs rewards by label: two of one name would be mixed in the log.
        first = [earlier.label for earlier in terms].index(term.label)
        if first < i:
            raise ConfigError(
                f"rewards.terms[{i}].label = {term.label!r}: rewards.terms[{first}] has the same; give each a label of "
                "its own (it is the reward's name unless set)"
            )
    # abs: a penalty (negative weight) is part of the mixture's scale, and +1 with -1 must not divide by 0.
    total = sum(abs(term.weight) for term in terms)
    if total == 0:
        raise ConfigError("rewards.terms: every weight is 0, so nothing would be learned; set one that is not")
    return [replace(term, weight=term.weight / total) for term in terms] if config.normalise_weights else terms


EXAMPLE = "{name: temporal_iou, weight: 1.0}"
_NAMES = ", ".join(REWARDS)


def _is_number(value: Any) -> bool:
    # bool is an int to Python; `weight: true` is a slip. The bound refuses inf, NaN, and ints that float() cannot hold.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_clip(value: Any) -> bool:
    is_pair = isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value))
    return value is None or (is_pair and value[0] < value[1])


# An option means the same in every reward that has it, so that one table can check them all.
CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "weight": (_is_number, "a finite number"),
    "label": (lambda value: isinstance(value, str) and bool(value.strip()), "a name of its own for the logs"),
    "clip": (_is_clip, "[low, high], two finite numbers with low < high"),
    "threshold": (lambda value: _is_number(value) and 0 <= value <= 1, "a number from 0 to 1"),
    "scale": (lambda value: _is_number(value) and value > 0, "a finite number above 0"),
    "beta": (lambda value: _is_number(value) and value > 0, "a finite number above 0"),
    "binary": (lambda value: isinstance(value, bool), "true or false"),
    "think": (lambda value: isinstance(value, bool), "true or false"),
    "measure": (lambda value: value in MEASURES, f"one of {', '.join(MEASURES)}"),
}
"""Key of a term → whether a value is allowed, and what the error says is. Others: by the type of their default."""


def _term(place: str, given: Any) -> Term:
    if not isinstance(given, Mapping):
        raise ConfigError(f"{place} = {given!r}: must be a mapping, such as {EXAMPLE}")
    name = given.get("name")
    if not isinstance(name, str) or name not in REWARDS:
        known = foreign_names.REWARDS.get(name) if isinstance(name, str) else None
        meant = f"that is {known} here; " if known else _suggestion(name, REWARDS)
        raise ConfigError(f"{place}.name = {name!r}: {meant}must be one of {_NAMES}")
    # Read off the signature, so that a new reward needs no second list of its options and their defaults.
    options = {key: parameter.default for key, parameter in inspect.signature(REWARDS[name]).parameters.items()}
    del options["completion"]
    settings = {"label": name, "weight": 1.0, "clip": None} | options
    for key, value in given.items():
        if key == "name":
            continue
        if key not in settings:
            valid = ("name", *settings)
            # Names of other GRPO code bases, whose users find ours by them.
            meant = f"set {foreign_names.OPTIONS[key]}; " if key in foreign_names.OPTIONS else _suggestion(key, valid)
            raise ConfigError(f"{place}.{key}: {name} has no such key; {meant}valid keys are {', '.join(valid)}")
        allows, allowed = CHECKS.get(key) or _check_by_default(settings[key])
        if not allows(value):
            raise ConfigError(f"{place}.{key} = {value!r}: must be {allowed}")
        settings[key] = value
    clip = settings["clip"]
    return Term(
        name=name,
        label=settings["label"],
        weight=float(settings["weight"]),
        options={key: settings[key] for key in options},
        clip=None if clip is None else (float(clip[0]), float(clip[1])),
    )


def _check_by_default(default: Any) -> tuple[Callable[[Any], bool], str]:
    """What an option may hold that has no line in `CHECKS`: values of the type of its default."""
    if isinstance(default, bool):
        return CHECKS["binary"]
    if isinstance(default, int | float):
        return CHECKS["weight"]
    if isinstance(default, str):
        return (lambda value: isinstance(value, str)), "a text"
    return (lambda value: True), "anything"


def _suggestion(written: Any, valid: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(written), valid, n=1)
    return f"did you mean {close[0]}? " if close else ""
