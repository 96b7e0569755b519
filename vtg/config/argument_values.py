"""What the values under `trainer.*` and `rl.*` may be: their types and choices, and what GRPO needs of them.

They are read from the source of transformers and TRL, without importing either, which takes many seconds.
"""

import ast
import math
from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vtg.config.derived import CHECKPOINTING
from vtg.config.schema import RLConfig, RunConfig
from vtg.errors import ConfigError

TRAINER = ("transformers", "training_args.py", "TrainingArguments")
GRPO = ("trl", "trainer/grpo_config.py", "GRPOConfig")
# Files of transformers that define the enumerations of TrainingArguments.
CHOICES_STAND_IN = ("trainer_utils.py", "training_args.py")

NUMBERS = {"int", "float"}


def _at_least(least: float) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value >= least, f"at least {least:g}"


# Where transformers checks nothing, or its error does not name the setting.
RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "per_device_train_batch_size": _at_least(1),
    "gradient_accumulation_steps": _at_least(1),
    "learning_rate": _at_least(0),
    "warmup_steps": _at_least(0),
    "weight_decay": _at_least(0),
    "adam_beta1": (lambda value: 0 <= value < 1, "at least 0 and below 1"),
    "adam_beta2": (lambda value: 0 <= value < 1, "at least 0 and below 1"),
    "adam_epsilon": _at_least(0),
    "max_grad_norm": _at_least(0),
    "dataloader_num_workers": _at_least(0),
    "num_train_epochs": (lambda value: value > 0, "above 0"),
    "max_steps": (lambda value: value == -1 or value >= 1, "at least 1, or -1 for num_train_epochs"),
    "logging_steps": (lambda value: value > 0, "above 0"),
    "eval_steps": (lambda value: value > 0, "above 0"),
    "save_steps": (lambda value: value > 0, "above 0"),
    "save_total_limit": _at_least(1),
    "label_smoothing_factor": (lambda value: 0 <= value < 1, "at least 0 and below 1"),
}


@cache
def annotations(package: str, file: str, name: str) -> dict[str, str]:
    """Field → annotation of a dataclass in a file of a package, from its source."""
    body = next(node for node in _tree(package, file).body if isinstance(node, ast.ClassDef) and node.name == name).body
    named = ((node.target, node.annotation) for node in body if isinstance(node, ast.AnnAssign))
    fields = {target.id: ast.unparse(kind) for target, kind in named if isinstance(target, ast.Name)}
    return {key: kind for key, kind in fields.items() if not key.startswith("_")}


def check_values(config: RunConfig) -> None:
    """Raises ConfigError for a value under `trainer` or `rl` of another type or choice than the library takes.

    The names are known (`vtg.config.arguments`).
    """
    _check("trainer", config.trainer, annotations(*TRAINER))
    for key, (allows, allowed) in RANGES.items():
        value = config.trainer.get(key)
        if value is not None and not allows(float(value)):
            raise ConfigError(f"trainer.{key} = {value}: must be {allowed}")
    if isinstance(config, RLConfig) and config.rl:
        _check_group(config)
        _check("rl", config.rl, annotations(*GRPO))
        _check_steps(config)


def _check(group: str, given: Mapping[str, Any], known: Mapping[str, str]) -> None:
    for key, value in given.items():
        if group == "trainer" and key in ("gradient_checkpointing", "activation_checkpointing"):
            if not isinstance(value, bool) and value not in CHECKPOINTING:
                ways = ", ".join(CHECKPOINTING)
                raise ConfigError(f"trainer.{key} = {value!r}: must be one of {ways} (true is full, false none)")
            continue
        fault = _fault(value, [option.strip() for option in known[key].split("|")]) if key in known else None
        if fault is not None:
            raise ConfigError(f"{group}.{key} = {value!r}: must be {fault}")


def _fault(value: Any, options: list[str]) -> str | None:
    """What the value must be where it is not; None where it may be."""
    kinds = set(options) - {"None"}
    choices = next((values for kind in options if (values := _choices().get(kind))), None)
    if value is None and "None" in options:
        return None
    if choices is not None:
        return None if value in choices else f"one of {', '.join(choices)}"
    if kinds == {"bool"}:
        return None if isinstance(value, bool) else "true or false"
    if kinds and kinds <= NUMBERS:
        number = _number(value)
        if number is None:
            return "a number"
        return None if "float" in kinds or number == int(number) else "a whole number"
    return None  # text, or what only the library can judge


def number_of(key: str, value: Any) -> float:
    """The number that a setting gives, as such or as text. Raises ConfigError where it gives none."""
    number = _number(value)
    if number is None:
        raise ConfigError(f"{key} = {value!r}: must be a number")
    return number


def _number(value: Any) -> float | None:
    # A bool is an int in Python: learning_rate=true would be 1.
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _check_group(config: RLConfig) -> None:
    # An advantage is a reward's distance from the mean of its group: in a group of one it is always 0.
    group = config.rl.get("num_generations", 8)
    if type(group) is not int or group < 2:
        raise ConfigError(f"rl.num_generations = {group!r}: must be an integer of at least 2, or no answer is better")
    length = config.rl.get("max_completion_length", 64)
    if type(length) is not int or length < 1:
        # TRL takes None for as many tokens as the model has room for: memory is to be told beforehand.
        raise ConfigError(
            f"rl.max_completion_length = {length!r}: must be an integer of at least 1: tokens of an answer"
        )
    for key in ("eval_strategy", "save_strategy"):
        if config.trainer.get(key) == "epoch":
            raise ConfigError(f"trainer.{key} = 'epoch': prompts are a stream; set steps, and trainer.{key[:4]}_steps")


def _check_steps(config: RLConfig) -> None:
    accumulation = int(config.trainer.get("gradient_accumulation_steps", 1))
    steps = int(config.rl.get("steps_per_generation") or accumulation)
    if config.batching.by != "fixed" and steps % accumulation:
        raise ConfigError(
            f"rl.steps_per_generation = {steps}: with batching.by = {config.batching.by} it must be a multiple of "
            f"trainer.gradient_accumulation_steps = {accumulation}"
        )


@cache
def _choices() -> dict[str, tuple[str, ...]]:
    """Enumeration → its values, of those that TrainingArguments name."""
    classes = [
        node
        for file in CHOICES_STAND_IN
        for node in _tree("transformers", file).body
        if isinstance(node, ast.ClassDef) and any(ast.unparse(parent) == "ExplicitEnum" for parent in node.bases)
    ]
    return {node.name: tuple(_strings(node)) for node in classes}


def _strings(node: ast.ClassDef) -> list[str]:
    values = [line.value for line in node.body if isinstance(line, ast.Assign)]
    return [value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)]


@cache
def _tree(package: str, file: str) -> ast.Module:
    spec = find_spec(package)
    assert spec is not None and spec.submodule_search_locations
    return ast.parse((Path(spec.submodule_search_locations[0]) / file).read_text(encoding="utf-8"))
