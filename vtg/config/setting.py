"""How a setting is declared: its default, its line of explanation, its choices, and whether a resume may change it.

A setting is a field of a dataclass in `schema.py`, `*_settings.py` or `programs.py`. What `--help`, the checks, the
resume and docs/settings.md say of it is read from that field.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, make_dataclass
from typing import Any, Literal, TypeVar

SchemaT = TypeVar("SchemaT")

# `may_change`: the run learns the same with any value, or the value holds for the remaining steps, or what it names is
# compared by its content. `fixed` is the default: a value that is changed by mistake would mix two runs in one.
OnResume = Literal["fixed", "may_change"]


@dataclass(frozen=True)
class Setting:
    """What is known of a setting besides its type and default.

    `choices`: the allowed values, each with a few words of its own ("" where the value says it all).
    """

    help: str
    choices: Mapping[str, str]
    on_resume: OnResume

    def explanation(self) -> str:
        """One line: the help, and the choices with what they mean."""
        if not self.choices:
            return self.help
        listed = " | ".join(f"{name}: {meaning}" if meaning else name for name, meaning in self.choices.items())
        return f"{self.help}{'; ' if any(self.choices.values()) else ': '}{listed}"

    def summary(self) -> str:
        """A shorter line: the help, and the names of the choices."""
        return f"{self.help}: {' | '.join(self.choices)}" if self.choices else self.help


def setting(
    default: Any = MISSING,
    help: str = "",
    *,
    choices: Mapping[str, str] | Sequence[str] = (),
    on_resume: OnResume = "fixed",
    factory: Any = MISSING,
) -> Any:
    """A dataclass field that is a setting; `factory` makes the default where it is a list or mapping."""
    named = dict(choices) if isinstance(choices, Mapping) else dict.fromkeys(choices, "")
    known = {"setting": Setting(help=help, choices=named, on_resume=on_resume)}
    if factory is not MISSING:
        return field(default_factory=factory, metadata=known)
    return field(default=default, metadata=known)


def setting_of(entry: Field[Any]) -> Setting | None:
    """What is known of the setting that a field is; None for a group of settings."""
    return entry.metadata.get("setting")


def dataclass_of(annotation: Any) -> type | None:
    """The group of settings that a field's type is, or may be beside None."""
    # `DemoConfig | None` is a union, whose members stand in __args__.
    options = (annotation, *getattr(annotation, "__args__", ()))
    return next((option for option in options if isinstance(option, type) and is_dataclass(option)), None)


def is_named(entry: Field[Any]) -> bool:
    """Whether a field holds any number of groups of settings, each under a name of the user's (`data.sources`)."""
    return getattr(entry.type, "__origin__", None) is dict and dataclass_of(entry.type) is not None


def settings(schema: type, prefix: str = "") -> Iterator[tuple[str, Field[Any], Setting]]:
    """Every setting of a schema, in order, with its dotted key; a name of the user's in it is NAME."""
    for entry in fields(schema):
        inner, known = dataclass_of(entry.type), setting_of(entry)
        if inner is not None:
            yield from settings(inner, f"{prefix}{entry.name}.{'NAME.' if is_named(entry) else ''}")
        elif known is not None:
            yield f"{prefix}{entry.name}", entry, known


def overrides_of(schema: type, *, without: Sequence[str] = ()) -> Any:
    """A class decorator: the fields of `schema`, each null unless it is to differ from a checkpoint's own setting."""

    def derive(declared: type[SchemaT]) -> type[SchemaT]:
        kept = [entry for entry in fields(schema) if entry.name not in without]
        types: list[Any] = [entry.type for entry in kept]
        nullable = [
            (entry.name, kind | None, field(default=None, metadata=entry.metadata))
            for entry, kind in zip(kept, types, strict=True)
        ]
        derived = make_dataclass(declared.__name__, nullable, namespace={"__doc__": declared.__doc__})
        # make_dataclass says "types", where pickle would look for the class.
        derived.__module__ = declared.__module__
        return derived

    return derive
