"""Which videos the rows of a downloaded set name, and which of them are not there."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from vtg.annotations.formats import format_of
from vtg.annotations.sample import Sample, resolve_video
from vtg.download.published_set import PublishedSet
from vtg.download.set_folder import WANTED, SetFolder
from vtg.storage.atomic import write_text
from vtg.storage.json_files import json_text

# Columns that name the video of a row, the likeliest first.
VIDEO_COLUMNS = ("video_id", "video", "video_path", "video_name", "vid")
# A file of some of Molmo2's sets: id → {gcp_url, youtube_url}.
ADDRESSES, ADDRESS_KEYS = "youtube_id_to_urls_mapping.json", ("gcp_url", "youtube_url")


def count_videos(folder: SetFolder, published: PublishedSet, tables: list[str]) -> tuple[int, int]:
    """(videos that the rows name, those that are not in the folder `videos`); writes the latter to `videos.txt`, one a
    line, with an address where the set brings one."""
    named = dict.fromkeys(_named(folder, published, tables))
    videos = folder.path / "videos"
    is_empty = not videos.is_dir()
    missing = [name for name in named if is_empty or not os.path.exists(resolve_video(name, str(videos)))]
    listed = folder.path / WANTED
    if missing:
        addresses = _addresses(folder.files / ADDRESSES)
        lines = (f"{name}\t{addresses[name]}" if name in addresses else name for name in missing)
        write_text(listed, "".join(f"{line}\n" for line in lines))
    else:
        listed.unlink(missing_ok=True)
    return len(named), len(missing)


def _named(folder: SetFolder, published: PublishedSet, tables: list[str]) -> Iterator[str]:
    for rows in published.rows:
        form, _, name = rows.partition(":")
        if (folder.path / name).is_file():
            for item in format_of(f"{form}:{folder.path / name}").samples(f"{form}:{folder.path / name}"):
                if isinstance(item, Sample):
                    yield item.video
    for table in tables:
        with pq.ParquetFile(folder.path / table) as file:
            column = next((name for name in VIDEO_COLUMNS if name in file.schema_arrow.names), None)
            if column is None or str(file.schema_arrow.field(column).type) not in ("string", "large_string"):
                continue
            for batch in file.iter_batches(columns=[column]):
                yield from (name for name in batch.column(0).unique().to_pylist() if name)


def _addresses(path: Path) -> dict[str, str]:
    """Id → where its video is had; nothing where the file is not there, or of another form."""
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    found: dict[str, str] = {}
    for name, entry in value.items() if isinstance(value, dict) else ():
        known = entry if isinstance(entry, dict) else {}
        address = next((known[key] for key in ADDRESS_KEYS if isinstance(known.get(key), str)), None)
        if address:
            found[name] = json_text(address)[1:-1]  # on one line, whatever it holds
    return found
