"""What is said of a key, a choice or a flag that is not there: what it is called here, or the nearest that are."""

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from vtg.config.arguments import rl_names, trainer_names
from vtg.config.foreign_names import FLAGS, our_key
from vtg.config.help import offered
from vtg.config.schema import RLConfig, SFTConfig
from vtg.config.setting import dataclass_of, is_named
from vtg.errors import ConfigError

# What Hydra takes with two dashes. argparse would refuse any other with its usage text, and no word on key=value.
HYDRA_FLAGS = (
    *("help", "hydra-help", "version", "cfg", "resolve", "package", "run", "multirun", "shell-completion"),
    *("config-path", "config-name", "config-dir", "experimental-rerun", "info"),
)

RL_ONLY = {entry.name for entry in fields(RLConfig)} - {entry.name for entry in fields(SFTConfig)}


def unknown_key(key: str, schema: type) -> str:
    """The message for a key that `schema` does not have: its name here, or the nearest valid keys and all beside it."""
    instead = called_here(key, schema)
    if instead is not None:
        return f"{key}: there is no such key; {instead}"
    *parents, last = key.split(".")
    owner: Any = schema
    named = False
    for at, name in enumerate(parents):
        if named:  # the user's own name of a group, which may be called as a setting is
            named = False
            continue
        entry = _field(owner, name)
        named = entry is not None and is_named(entry)
        inner = _inner(owner, name)
        if inner is None:
            last, parents = name, parents[:at]
            break
        owner = inner
    valid = [entry.name for entry in fields(owner)]
    close = difflib.get_close_matches(last, valid, n=1)
    hint = f"did you mean {'.'.join([*parents, close[0]])}? " if close else ""
    place = ".".join(parents) or "the top level"
    return f"{key}: there is no such key; {hint}valid keys of {place}: {', '.join(valid)}"


def called_here(key: str, schema: type) -> str | None:
    """`set model.path` for a key of another project (`name_or_path`), or one that stands elsewhere in `schema`."""
    last = key.rpartition(".")[2]
    instead = our_key(key)
    if instead is None:
        # A known name without its group, or in the wrong one: `learning_rate`, `beta`, `optimizer.max_grad_norm`.
        groups = {"trainer": trainer_names(), "rl": rl_names(), "settings": ()}
        instead = next((f"{group}.{last}" for group, names in groups.items() if last in names), f"settings.{key}")
    if instead.startswith("nothing: "):
        return f"there is none ({instead.removeprefix('nothing: ')})"
    target = re.split(r"[ =]", instead, maxsplit=1)[0]
    if has_key(target, schema):
        return f"set {instead}"
    if has_key(f"settings.{target}", schema):
        return f"set settings.{instead}"
    of_rl = next((name for name in (target, key) if name.partition(".")[0] in RL_ONLY), None)
    return None if of_rl is None or not has_key("trainer", schema) else f"{of_rl} is a setting of train_rl.py"


def has_key(key: str, schema: type) -> bool:
    """Whether a key or a group is in a schema. `trainer` and `rl` take any name."""
    *parents, last = key.split(".")
    owner: Any = schema
    for name in parents:
        if name in ("trainer", "rl") and owner is schema:
            return last in (trainer_names() if name == "trainer" else rl_names()) and _field(owner, name) is not None
        owner = _inner(owner, name)
        if owner is None:
            return False
    return _field(owner, last) is not None


def check_flags(words: Sequence[str], schema: type) -> None:
    """Raises ConfigError for a word with two dashes that is none of Hydra's."""
    for at, word in enumerate(words):
        name, is_set, value = word.removeprefix("--").partition("=")
        # argparse takes a flag's beginning where it is unique: --multi for --multirun.
        known = name in HYDRA_FLAGS or sum(flag.startswith(name) for flag in HYDRA_FLAGS) == 1
        if not word.startswith("--") or word == "--" or known:
            continue
        # `--lr 1e-4` as in other projects: the next word is the value, unless it is a setting or a flag itself.
        follows = words[at + 1] if at + 1 < len(words) else ""
        if not is_set and not follows.startswith("-") and "=" not in follows:
            value = follows
        key = name.replace("-", "_")
        instead = FLAGS.get(key) or (key if has_key(key, schema) else "")
        if not instead:
            instead = (called_here(key, schema) or "").removeprefix("set ")
        if " " not in instead and "=" not in instead and instead:
            instead += f"={value or 'VALUE'}"
        way = f"write {instead.replace('FILE', value or 'FILE')}" if instead else "--help lists them"
        raise ConfigError(f"--{name}: settings are given as key=value, without dashes; {way}")


def check_no_group(word: str, schema: type) -> None:
    """Raises ConfigError for `settings.task=tokens`: a group without files of choices takes no value, its keys do."""
    key, _, value = word.partition("=")
    owner: Any = schema
    for name in key.split("."):
        owner = None if owner is None else _inner(owner, name)
    if owner is None or value.startswith(("{", "$")):
        return
    keys = [entry.name for entry in fields(owner)]
    raise ConfigError(
        f"{word}: {key} is a group of settings; set one of its keys, such as {key}.{keys[0]}={value} "
        f"(keys of {key}: {', '.join(keys)})"
    )


def check_choice(word: str, choices: Collection[str]) -> None:
    """Raises ConfigError for a group that is given what is no name of a choice: a model, a file, true, false or null.

    Args:
        word: group=value of the command line.
        choices: of the group.
    """
    group, _, value = word.partition("=")
    # lora=null, or deepspeed=true: people take a group for a value, and Hydra's own error does not say otherwise.
    switched = value.lower() in ("null", "none", "false", "true", "~", "")
    if value in choices or not (switched or "/" in value or Path(value).suffix or Path(value).is_file()):
        return
    listed = f"choices of {group}: {', '.join(offered(group, sorted(choices)))}"
    ways = {
        "model": f"set model.path={value}, with the choice of its family and size (model=qwen3_vl_4b)",
        "data": f"set data=jsonl data.annotation_file={value}",
        "deepspeed": f"set deepspeed.file={value}",
    }
    if switched:
        way = next((f"set {group}={name}" for name in _switches(value) if name in choices), f"leave {group} out")
    else:
        way = ways.get(group, "give the name of one")
    raise ConfigError(f"{word}: {group} takes the name of one of its choices; {way} ({listed})")


def _switches(value: str) -> tuple[str, ...]:
    return ("default", "zero2") if value.lower() == "true" else ("none",)


def _field(owner: Any, name: str) -> Any:
    return next((entry for entry in fields(owner) if entry.name == name), None)


def _inner(owner: Any, name: str) -> type | None:
    entry = _field(owner, name)
    return None if entry is None else dataclass_of(entry.type)
