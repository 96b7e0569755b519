"""Words of a command line in Hydra's quotes: its grammar takes few characters without, and no letter beyond ASCII."""

import os
import re
from collections.abc import Sequence

# Text keys that are config groups too → the key that holds the text. Hydra would look for a file video/a.mp4.yaml.
GROUP_NAMES = {"video": "video_file"}

_STRUCTURE = re.compile(r"[=,(){}\[\]]")

_MANY = re.compile(r"\s*[\[{]|\w+\(|.*,", re.DOTALL)
"""How a list, a mapping, a sweep by a function (`choice(1,2)`) and one by commas begin; anything else is one text."""

_INTERPOLATION = re.compile(r"\$\{[^{}]*\}")

_FOREIGN = re.compile(r"[^\w\s/\\+.$%*@?|:,(){}\[\]'\"=-]", re.ASCII)
"""What Hydra's lexer has no token for (1.3, OverrideLexer.g4)."""

_PARTS = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|(?:\$\{[^{}]*\}|[^,(){}\[\]'"])+""")
"""Texts in quotes, and those without between brackets and commas."""


def quoted(word: str, *, text_keys: Sequence[str] = ()) -> str:
    """`KEY=VALUE` with the value in Hydra's quotes where it would be refused, or taken apart, without.

    That is where the key is a text (`query=he sits, then stands`; also under the name of the key that holds it), where
    the value is the name of a file or folder, and where it has characters such as `é`, `#`, or brackets and `=` in the
    middle (`checkpoint=outputs/sweep/lora.r=4`): in a list or a sweep every such element by itself.
    """
    key, equals, value = word.partition("=")
    if key in text_keys:
        return f"{GROUP_NAMES.get(key, key)}={_as_text(value)}"
    if not equals or key.startswith("-"):
        return word
    has_structure, is_foreign = bool(_STRUCTURE.search(_INTERPOLATION.sub("", value))), bool(_FOREIGN.search(value))
    if (has_structure or is_foreign) and (not _MANY.match(value) or os.path.exists(value)):
        return f"{key}={_as_text(value)}"
    if not is_foreign:
        return word
    is_mapping = value.lstrip().startswith("{")
    return f"{key}={_PARTS.sub(lambda part: _element(part[0], is_mapping=is_mapping), value)}"


def _element(part: str, *, is_mapping: bool) -> str:
    if part[0] in "'\"" or not _FOREIGN.search(part):
        return part
    name, colon, text = part.rpartition(":") if is_mapping else ("", "", part)
    inner = text.strip()
    return f"{name}{colon}{text.replace(inner, _as_text(inner), 1)}"


def _as_text(value: str) -> str:
    """In quotes, unless it is, or is nothing."""
    is_quoted = len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]
    if is_quoted or value in ("", "null"):
        return value
    # Hydra's quoting: backslashes are doubled before a quote and at the end of the text alone.
    escaped = re.sub(r'(\\*)("|$)', lambda match: match[1] * 2 + match[2].replace('"', '\\"'), value)
    return f'"{escaped}"'
