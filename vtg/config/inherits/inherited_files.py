"""Reads YAML configs that name others under `inherits:`, and those, and so on: FutureLatents' form.

A path is relative to the file that names it. Nothing of a file is run: tags that make objects are refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vtg.errors import ConfigError

INHERITS = "inherits"

# Keys that Hydra reads itself at the top of a config.
HYDRAS_OWN = ("defaults", "hydra")

SAFE_TAGS = tuple(f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null"))


@dataclass(frozen=True)
class InheritedFile:
    """A file as it stands.

    Attributes:
        values: of its own, without `inherits`; interpolations as written.
        parents: the files it names, in its order.
        key: (first, last) character of the word `inherits` in `text`; None where it inherits nothing.
        items: the same of each name in the list.
        listed: the same of the whole list, and whether it is written in brackets.
    """

    path: Path
    text: str
    values: dict[str, Any]
    parents: tuple[Path, ...] = ()
    key: tuple[int, int] | None = None
    items: tuple[tuple[int, int], ...] = ()
    listed: tuple[int, int] = (0, 0)
    in_brackets: bool = field(default=False)


def read_inherited(path: Path) -> dict[Path, InheritedFile]:
    """Resolved path → file, of all that a file inherits and itself, which is last.

    Raises ConfigError naming file and line: missing, no YAML mapping, keys twice, unsafe tags, or a cycle.
    """
    files: dict[Path, InheritedFile] = {}
    _read_into(files, path.resolve(), chain=(), named_at="")
    return files


def _read_into(files: dict[Path, InheritedFile], path: Path, *, chain: tuple[Path, ...], named_at: str) -> None:
    if path in chain:
        names = " → ".join(str(one) for one in (*chain[chain.index(path) :], path))
        raise ConfigError(f"{named_at}: inherits in a circle: {names}; remove one of the names")
    if path in files:
        return
    file, lines = _read(path, named_at)
    for parent, line in zip(file.parents, lines, strict=True):
        _read_into(files, parent, chain=(*chain, path), named_at=f"{path}:{line}")
    files[path] = file


def _read(path: Path, named_at: str) -> tuple[InheritedFile, list[int]]:
    """(The file, the line of each name in its list.)"""
    before = f"{named_at}: " if named_at else ""
    try:
        # -sig: a byte order mark, which editors on Windows write, would stand in the middle below Hydra's header.
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{before}{path}: there is no such file; correct the path") from None
    except IsADirectoryError:
        raise ConfigError(f"{before}{path}: is a folder; name a YAML file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: is no UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}{_line_of(error)}: is no YAML: {_problem(error)}") from None
    if root is None:  # nothing but comments
        return InheritedFile(path, text, {}), []
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{path}:{_line(root)}: must be a mapping of keys to values, not {_kind(root)}")
    _check(path, root)
    # Numbers such as 1e-5 are numbers to OmegaConf, which read these files and reads Hydra's, and text to PyYAML.
    try:
        values: Any = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path}: {error.full_key}: {str(error).splitlines()[0]}; correct the value") from None
    assert isinstance(values, dict)
    values.pop(INHERITS, None)
    pairs = {key.value: (key, value) for key, value in root.value}
    for name in HYDRAS_OWN:
        if name in pairs:
            line = _line(pairs[name][0])
            raise ConfigError(f"{path}:{line}: {name} at the top of a config is Hydra's own key; give it another name")
    if INHERITS not in pairs:
        return InheritedFile(path, text, values), []
    key, listed = pairs[INHERITS]
    names = _names(path, listed)
    file = InheritedFile(
        path=path,
        text=text,
        values=values,
        parents=tuple((path.parent / name.value).resolve() for name in names),
        key=_place(key),
        items=tuple(_place(name) for name in names),
        listed=_place(listed),
        in_brackets=bool(listed.flow_style),
    )
    return file, [_line(name) for name in names]


def _names(path: Path, listed: yaml.Node) -> list[yaml.ScalarNode]:
    """The names in a list, each written in it."""
    first, last = _place(listed)
    if not isinstance(listed, yaml.SequenceNode):
        raise ConfigError(f"{path}:{_line(listed)}: {INHERITS} must be a list of paths, not {_kind(listed)}")
    for name in listed.value:
        if not isinstance(name, yaml.ScalarNode) or name.tag != SAFE_TAGS[2] or not name.value:
            raise ConfigError(f"{path}:{_line(name)}: {INHERITS} must list paths, not {_kind(name)}")
        # An alias has the place of its anchor, where the name must not be replaced.
        if not first <= name.start_mark.index <= last:
            raise ConfigError(f"{path}:{_line(listed)}: {INHERITS} must be written out, without *{name.value}")
    return listed.value


def _check(path: Path, root: yaml.Node) -> None:
    """Raises ConfigError for a tag that is none of YAML's plain ones, and for a key that stands twice."""
    for node in _nodes(root, set()):
        if node.tag not in SAFE_TAGS and node.tag not in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:merge"):
            raise ConfigError(f"{path}:{_line(node)}: the tag {node.tag} is not read (a config is data); remove it")
        if not isinstance(node, yaml.MappingNode):
            continue
        seen: dict[Any, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:null":
                raise ConfigError(f"{path}:{_line(key)}: a key must be text or a number, not {_kind(key)}")
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise ConfigError(
                    f"{path}:{_line(key)}: the key {key.value} stands twice (first in line {seen[key.value]}); "
                    "remove one"
                )
            seen[key.value] = _line(key)


def _nodes(node: yaml.Node, seen: set[int]) -> Iterator[yaml.Node]:
    if id(node) in seen:  # by an alias
        return
    seen.add(id(node))
    yield node
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _nodes(key, seen)
            yield from _nodes(value, seen)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _nodes(value, seen)


def _place(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.index, node.end_mark.index


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return f"{node.value!r}" if node.value else "nothing"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"


def _line_of(error: yaml.YAMLError) -> str:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    return f":{mark.line + 1}" if mark else ""


def _problem(error: yaml.YAMLError) -> str:
    return str(error.problem) if isinstance(error, yaml.MarkedYAMLError) else str(error).splitlines()[0]
