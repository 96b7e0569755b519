"""What a kind of target that is not spans must offer, and how it says what is wrong with a row."""

import math
from typing import Any, ClassVar, Protocol, Self

Row = dict[str, Any]


class RowFault(ValueError):
    """What is wrong with a row's target: `field` of the row, `kind` as a name for counts, and a message that says what
    is allowed and what to do."""

    def __init__(self, field: str, kind: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field, self.kind, self.message = field, kind, message


class RowTarget(Protocol):
    """A kind of target: a frozen dataclass with slots, compared by value, made of some keys of a row.

    Attributes:
        kind: under which tables store it: a stored name must never change its meaning.
        task: name of its task in `vtg.tasks.all_tasks.TASKS`.
        keys: of a row that it reads. A row without `timestamp` that has the first of them is of this kind.
        asks: whether a row needs a question or sentence (`sentence`, `question` or `query`).
        spans: none; it is there so that all targets can be asked.
    """

    kind: ClassVar[str]
    task: ClassVar[str]
    keys: ClassVar[tuple[str, ...]]
    asks: ClassVar[bool]
    spans: ClassVar[tuple[tuple[float, float], ...]] = ()

    @classmethod
    def of_row(cls, row: Row, *, duration_s: float) -> Self:
        """The target of a row, of which only `keys` are looked at; times are in seconds of the clip.

        Raises:
            RowFault: the first thing wrong with it, whatever JSON values the keys hold.
        """
        ...

    def row(self) -> Row:
        """The keys again, as JSON values: `of_row` of them gives an equal target."""
        ...


def text_of(value: object, field: str) -> str:
    """A string of a row that says something. Raises RowFault for anything else."""
    if not isinstance(value, str):
        raise RowFault(field, f"{_name(field)}-type", f"must be a string, not {shown(value)}; put it in quotes")
    if not value.strip():
        raise RowFault(field, f"{_name(field)}-empty", "is empty; fill it in, or drop the row")
    return value


def number_of(value: object, field: str) -> float:
    """A finite number of a row. Raises RowFault for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RowFault(field, f"{_name(field)}-type", f"must be a number, not {shown(value)}; correct it")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise RowFault(field, f"{_name(field)}-type", "must be a finite number; correct it")
    return number


def list_of(value: object, field: str, *, what: str) -> list[Any]:
    """A list of a row; `what` it is of, for the message. Raises RowFault for anything else."""
    if not isinstance(value, list):
        raise RowFault(field, f"{_name(field)}-type", f"must be a list of {what}, not {shown(value)}; correct it")
    return value


def shown(value: object) -> str:
    """A JSON value in a few words."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return f"the string {value[:40]!r}"
        case list():
            return f"a list of {len(value)}"
        case dict():
            return "an object"
    return str(value)[:40]


def _name(field: str) -> str:
    # `events[3].caption` is counted with the others of its kind.
    return field.partition("[")[0]
