"""What a file that inherits others holds: their values in order, then its own, and which of them were overridden."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vtg.config.inherits.inherited_files import InheritedFile

MISSING = "???"
"""OmegaConf's word for a value that is still to be given: it overrides none."""


@dataclass(frozen=True)
class Override:
    """A key whose value in one file gave way to another one's.

    `old_files`: several where a whole mapping gave way.
    """

    key: str
    value: Any
    file: Path
    old_value: Any
    old_files: tuple[Path, ...]


@dataclass(frozen=True)
class _Leaf:
    value: Any
    file: Path


@dataclass
class InheritedValues:
    """The values of a file and of all it inherits: nested mappings merged, lists replaced, the later value holding.

    Attributes:
        overrides: keys whose value changed on the way, in order; a value that is given again as it was is none.
    """

    overrides: list[Override] = field(default_factory=list)
    _tree: dict[Any, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path, files: Mapping[Path, InheritedFile]) -> "InheritedValues":
        """`files`: as `read_inherited` read them."""
        values = cls()
        for one in _in_order(path, files):
            values._merge(values._tree, one.values, file=one.path, place=())
        return values

    @property
    def values(self) -> dict[str, Any]:
        return _plain(self._tree)

    def _merge(self, below: dict[Any, Any], above: Mapping[Any, Any], *, file: Path, place: tuple[str, ...]) -> None:
        for key, value in above.items():
            old, here = below.get(key), (*place, str(key))
            # Anything else replaces: a list, as OmegaConf merges them, and a mapping that was a value before.
            if isinstance(old, dict) and isinstance(value, dict):
                self._merge(old, value, file=file, place=here)
                continue
            if old is not None and value == MISSING:
                continue
            # repr: 1, 1.0 and true are equal, and not the same.
            if old is not None and _plain(old) not in ({}, MISSING) and repr(_plain(old)) != repr(value):
                self.overrides.append(
                    Override(".".join(here), value, file, _plain(old), tuple(dict.fromkeys(_files(old))))
                )
            below[key] = _tree(value, file)


def _in_order(path: Path, files: Mapping[Path, InheritedFile]) -> Iterator[InheritedFile]:
    """A file that is inherited by two comes twice, as it is read for each."""
    for parent in files[path].parents:
        yield from _in_order(parent, files)
    yield files[path]


# Whose value it is is kept at every leaf: a mapping may be of several files.
def _tree(value: Any, file: Path) -> Any:
    return {key: _tree(one, file) for key, one in value.items()} if isinstance(value, dict) else _Leaf(value, file)


def _plain(tree: Any) -> Any:
    return {key: _plain(one) for key, one in tree.items()} if isinstance(tree, dict) else tree.value


def _files(tree: Any) -> Iterator[Path]:
    if isinstance(tree, _Leaf):
        yield tree.file
    else:
        for one in tree.values():
            yield from _files(one)


def interpolations(values: Mapping[Any, Any], place: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """(key, text) of every value that refers to others, as ${model.path} does."""
    for key, value in values.items():
        here = (*place, str(key))
        if isinstance(value, dict):
            yield from interpolations(value, here)
        elif "${" in str(value):
            yield ".".join(here), str(value)
