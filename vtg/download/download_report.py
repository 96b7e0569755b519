"""What vtg.download says: tables of sets before and after, and as JSON."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vtg.console import aligned
from vtg.download.data_sets import SETS
from vtg.download.downloading import BY_HAND, FAILED, NOT_TRIED, Planned
from vtg.download.published_set import PublishedSet
from vtg.download.set_folder import WANTED, SetFolder

UNKNOWN = "unknown"


def size_text(count: int | None) -> str:
    """`1.2 GB`, `350 kB`; `unknown` for None."""
    if count is None:
        return UNKNOWN
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] in ("B", "kB") else f"{value:.1f} {units[0]}"


def listed(names: Sequence[str], root: Path) -> list[dict[str, Any]]:
    """What is known of sets without asking anybody."""
    return [_known(name, SETS[name], SetFolder(root, name, SETS[name])) for name in names]


def _known(name: str, published: PublishedSet, folder: SetFolder) -> dict[str, Any]:
    record = folder.record()
    return {
        "name": name,
        "stage": published.stage,
        "title": published.title,
        "source": published.where,
        "by_hand": published.by_hand,
        "licence": (record and record.licence) or published.licence,
        "bytes": published.known_size,
        "here": "whole" if record and record.is_whole else "in part" if record else "no",
        "videos": published.videos,
    }


def listed_lines(sets: Sequence[dict[str, Any]]) -> list[str]:
    """A table of `listed`; a licence or size that nobody has seen yet is `unknown`."""
    head = ("name", "stage", "size", "here", "licence", "what it is", "from")
    cells = [
        (
            one["name"],
            one["stage"],
            "by hand" if one["by_hand"] else size_text(one["bytes"]),
            one["here"],
            one["licence"] or UNKNOWN,
            one["title"],
            one["source"] or one["videos"],
        )
        for one in sets
    ]
    widths = [max(len(row[at]) for row in (head, *cells)) for at in range(len(head) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)), row[-1]])
        for row in (head, *cells)
    ]


def before_lines(sets: Sequence[Planned], needed: int, free: int) -> Iterator[str]:
    """What will be fetched, under which licence, and the room that it takes."""
    rows = [("data set", "files", "to fetch", "bytes")]
    for one in sets:
        if one.state == NOT_TRIED:
            size = size_text(one.missing_bytes) + ("+" if one.has_unknown_sizes else "")
            rows.append((one.name, str(len(one.listing.files)), str(len(one.missing)), size))
    if len(rows) == 1:
        return
    licences = ["licence"] + [one.listing.licence or "none is stated" for one in sets if one.state == NOT_TRIED]
    yield from (f"{line}  {licence}" for line, licence in zip(aligned(rows), licences, strict=True))
    least = " at least (+: files whose size nobody states)" if any(one.has_unknown_sizes for one in sets) else ""
    yield f"room: {size_text(needed)} needed{least}, {size_text(free)} free"


def after_lines(sets: Sequence[Planned]) -> Iterator[str]:
    """The table at the end: what became of each set; then what is left for a person to do."""
    rows = [("data set", "state", "files", "size", "rows", "videos to get")]
    for one in sets:
        record = one.record
        kept = record.files.values() if record else ()
        tables = record.rows if record else {}
        counts = ", ".join(f"{table.removesuffix('.parquet')} {count:,}" for table, count in tables.items())
        wanted = f"{record.videos_missing:,} of {record.videos_named:,}" if record and record.videos_named else "-"
        size = size_text(sum(file.size for file in kept))
        rows.append((one.name, one.state, str(len(kept)), size, counts or "-", wanted))
    yield from aligned(rows)
    for one in sets:
        if one.why:
            yield f"{one.name}: {one.state}: {one.why}"
    for one in sets:
        if one.state in (FAILED, NOT_TRIED, BY_HAND) or one.record is None:
            continue
        if one.published.videos:
            ids = f" ({one.folder.path / WANTED} lists them)" if one.record.videos_missing else ""
            yield f"{one.name}: {one.published.videos}{ids}"
        if one.published.data:
            yield f"{one.name}: python train_sft.py data={one.published.data} data.root={one.folder.path}"


def document(sets: Sequence[Planned]) -> dict[str, Any]:
    """The same as JSON."""
    return {"sets": [_outcome(one) for one in sets]}


def _outcome(one: Planned) -> dict[str, Any]:
    record = one.record
    return {
        "name": one.name,
        "state": one.state,
        "why": one.why or None,
        "folder": str(one.folder.path),
        "revision": record and record.revision,
        "licence": one.listing.licence,
        "files": len(record.files) if record else 0,
        "bytes": sum(file.size for file in record.files.values()) if record else 0,
        "rows": record.rows if record else {},
        "videos_named": record.videos_named if record else 0,
        "videos_missing": record.videos_missing if record else 0,
        "to_do": one.published.videos or None,
    }
