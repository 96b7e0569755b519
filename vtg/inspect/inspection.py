"""What looking into anything gives: a report, the spread of its values, and pictures of some of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtg.video.episodes.records import VideoRecord

Report = dict[str, Any]

# Problems, unreadable files and missing videos that are shown by name; they are counted all.
SHOWN = 10


@dataclass(frozen=True, slots=True)
class SheetCell:
    """A frame of a sheet: what a camera of the record (None: its first) shows at a time, and what is written on it."""

    record: VideoRecord
    time_s: float
    label: str
    camera: str | None = None


@dataclass(slots=True)
class Inspection:
    """What was found.

    Attributes:
        report: JSON values, shown as they are.
        spreads: name of a measure → its values (N,), for histograms.
        cells: pictures for a sheet.
        failed: whether something of it cannot be read.
    """

    report: Report
    spreads: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    cells: list[SheetCell] = field(default_factory=list)
    failed: bool = False


def distribution(values: Iterable[float] | NDArray[np.float64]) -> dict[str, float] | None:
    """Smallest, quartiles, largest and mean; None without values."""
    numbers = np.array(values if isinstance(values, np.ndarray) else list(values), dtype=np.float64)
    if len(numbers) == 0:
        return None
    quartiles = np.percentile(numbers, [0, 25, 50, 75, 100])
    named = zip(("min", "p25", "median", "p75", "max"), quartiles, strict=True)
    return {name: round(float(value), 4) for name, value in named} | {"mean": round(float(numbers.mean()), 4)}


def evenly(count: int, wanted: int) -> list[int]:
    """At most `wanted` of the numbers below `count`, spread over all of them, the first one among them."""
    return sorted({at * count // wanted for at in range(wanted)}) if count > wanted else list(range(count))


def shortened(value: Any, *, length: int = 200, items: int = 8) -> Any:
    """A value of a sample as JSON that fits a screen: long texts and lists cut, bytes as their number."""
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes>"
    if isinstance(value, str):
        return value if len(value) <= length else f"{value[:length]}… ({len(value):,} characters)"
    if isinstance(value, list | tuple | np.ndarray):
        cut = [shortened(one, length=length, items=items) for one in list(value)[:items]]
        return cut if len(value) <= items else [*cut, f"… ({len(value):,} in all)"]
    if isinstance(value, dict):
        return {str(key): shortened(one, length=length, items=items) for key, one in value.items()}
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)  # JSON has no such numbers
    return value if value is None or isinstance(value, bool | int | float) else str(value)
