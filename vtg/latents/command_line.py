"""What the commands of `python -m vtg.latents` have in common: settings among their words, and how they end."""

import os
import sys
from collections.abc import Sequence

from vtg.errors import ConfigError


def without_settings(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """(What to read, settings of train_latents.py) among the words of a command, each in their order."""
    # A file may have such a name too.
    settings = [word for word in words if "=" in word and not os.path.exists(word)]
    return [word for word in words if word not in settings], settings


def check_settings(settings: Sequence[str], *, read: Sequence[str], but: Sequence[str]) -> None:
    """Raises ConfigError for a setting that a command does not read; it reads groups and keys `read`, less `but`."""
    for word in settings:
        key = word.partition("=")[0]
        if key in but or not any(f"{key}.".startswith(f"{one}.") for one in read):
            raise ConfigError(f"{word}: no setting of this command, which reads {', '.join(read)}; leave it out")


def exit_code(failed: Sequence[str], *, interrupted: bool) -> int:
    """Says on stderr which videos are left out, and why; 0 where none is, 130 after Ctrl-C."""
    for why in failed:
        print(f"left out: {why}", file=sys.stderr)
    if interrupted:
        return 130
    return 1 if failed else 0
