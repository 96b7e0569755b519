"""All sets by name, and which of them are meant."""

import difflib
from collections.abc import Sequence

from vtg.download.grounding_sets import GROUNDING_SETS
from vtg.download.molmo2_sets import MOLMO2_SETS
from vtg.download.published_set import PublishedSet
from vtg.errors import ConfigError

SETS: dict[str, PublishedSet] = MOLMO2_SETS | GROUNDING_SETS
"""Name, also of the set's folder → where it is published."""


def chosen(names: Sequence[str], stage: str | None, *, include_eval: bool) -> list[str]:
    """The names of the sets that are meant, each once, in the table's order for a stage.

    Args:
        names: of SETS, in any case; also the last part of a hub name (`Molmo2-Cap`).
        stage: one of STAGES, `all` for pretraining and sft, or None.
        include_eval: those of `eval` as well, beside a stage.

    Raises:
        ConfigError: a name that is none, with the one it may be.
    """
    stages = {None: (), "all": ("pretraining", "sft")}.get(stage, (stage,))
    stages = (*stages, "eval") if include_eval and stage is not None else stages
    of_stages = [name for name, one in SETS.items() if one.stage in stages]
    return list(dict.fromkeys([*(known_name(name) for name in names), *of_stages]))


def known_name(name: str) -> str:
    """The name in SETS that is meant. Raises ConfigError where there is none."""
    wanted = name.rpartition("/")[2].lower()
    if wanted in SETS:
        return wanted
    close = difflib.get_close_matches(wanted, SETS, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise ConfigError(f"{name}: no data set of this name; {hint}python -m vtg.download --list names them")
