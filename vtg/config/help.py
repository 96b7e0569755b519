"""Hydra's `--help` with a line of explanation beside every setting, and without choices that only others build on."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from inspect import getdoc

from vtg.config.library_help import RL_HELP, TRAINER_HELP
from vtg.config.setting import dataclass_of, settings

# First words of the lines in conf/'s help templates above the list of groups, and above the settings.
GROUPS_BEGIN = "The groups and their choices"
SETTINGS_BEGIN = "The settings as composed now"

# Files that the other choices of their group build on, and that are no choice themselves.
INTERNAL_CHOICES = {"model": ("defaults",)}

WITHOUT_SCHEMA = {"experiment": "trainer", "budget": "budgets"}
"""Group that is no part of a schema → the setting of the programs that take it. An experiment's file sets keys of all
other groups; of budgets several are taken at once."""

OTHERS = {"trainer": "see TrainingArguments of transformers", "rl": "see GRPOConfig of TRL"}
"""Group → what to say of a name of the library's that `vtg.config.library_help` does not explain."""

# Where explanations begin, so that most stand below each other.
COLUMN = 44


def offered(group: str, choices: Iterable[str]) -> list[str]:
    """The choices of a group that a user can take."""
    return [choice for choice in choices if choice not in INTERNAL_CHOICES.get(group, ())]


def explained(text: str, schema: type) -> str:
    """`text`, as Hydra shows it, for a program with the settings of `schema`."""
    return "\n".join(_lines(text.rstrip().split("\n"), schema)) + "\n"


def explanations(schema: type) -> dict[str, str]:
    """Key → one line, for every setting of `schema`, the groups they stand in, and what conf/ sets of the libraries."""
    lines = dict(_groups(schema))
    lines |= {key: known.summary() for key, _, known in settings(schema)}
    for group, named in (("trainer", TRAINER_HELP), ("rl", RL_HELP)):
        if group in lines:
            lines |= {f"{group}.{name}": line for name, line in named.items()}
    return lines


def _groups(schema: type, prefix: str = "") -> Iterator[tuple[str, str]]:
    for entry in fields(schema):
        inner = dataclass_of(entry.type)
        if inner is not None:
            yield f"{prefix}{entry.name}", (getdoc(inner) or "").split("\n")[0]
            yield from _groups(inner, f"{prefix}{entry.name}.")


def _lines(lines: list[str], schema: type) -> Iterator[str]:
    known = explanations(schema)
    groups = {entry.name for entry in fields(schema)}
    groups |= {group for group, setting in WITHOUT_SCHEMA.items() if setting in groups}
    part, parents = "", []
    for line in lines:
        heading = next((title for title in (GROUPS_BEGIN, SETTINGS_BEGIN) if line.startswith(title)), None)
        if heading is not None:
            part = heading
        group = re.match(r"(\w+): (.+)$", line)
        if part == GROUPS_BEGIN and group is not None:
            if group[1] in groups:
                yield f"{group[1]}: {', '.join(offered(group[1], group[2].split(', ')))}"
            continue
        setting = re.match(r"( *)(\w+):( |$)", line)
        if part == SETTINGS_BEGIN and setting is not None:
            parents = [*parents[: len(setting[1]) // 2], setting[2]]
            why = known.get(".".join(parents)) or (len(parents) == 2 and OTHERS.get(parents[0]))
            yield f"{line:<{COLUMN}} # {why}" if why else line
            continue
        yield line
