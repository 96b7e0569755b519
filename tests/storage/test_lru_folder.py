"""Which files of a bounded folder go: its own alone, the least recently used first, and no more than needed."""

import os
import re
import time
from pathlib import Path

from vtg.storage.lru_folder import STALE_S, Entry, evict, list_entries, mark_used

NAME, TEMPORARY = re.compile(r"[0-9]"), re.compile(r"[0-9]\.tmp")


def listed(folder: Path) -> tuple[list[Entry], int]:
    return list_entries(str(folder), is_entry=NAME.fullmatch, is_temporary=TEMPORARY.fullmatch, follow_symlinks=False)


def write(path: Path, size: int, *, used_s: float) -> str:
    path.write_bytes(bytes(size))
    os.utime(path, (used_s, used_s))
    return str(path)


def removed(path: str) -> bool:
    os.unlink(path)
    return True


def test_only_own_files_are_listed_and_of_those_only_what_a_dead_process_left_is_removed(tmp_path):
    now = time.time()
    one = write(tmp_path / "1", 10, used_s=1)
    write(tmp_path / "2.tmp", 3, used_s=now)
    write(tmp_path / "3.tmp", 5, used_s=now - 2 * STALE_S)
    write(tmp_path / "notes.tmp", 7, used_s=1)
    assert listed(tmp_path) == ([Entry(10**9, one, 10)], 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2.tmp", "notes.tmp"]


def test_the_least_recently_used_go_until_enough_is_freed_but_none_that_stays_in_use(tmp_path):
    paths = [write(tmp_path / str(number), 10, used_s=number + 1) for number in range(5)]
    mark_used(paths[0])
    mark_used(str(tmp_path / "absent"))
    entries, _ = listed(tmp_path)
    evicted = evict(entries, excess=11, remove=lambda path: path != paths[1] and removed(path))
    assert [entry.path for entry in evicted] == paths[2:4]
    assert sorted(map(str, tmp_path.iterdir())) == [paths[0], paths[1], paths[4]]
    assert evict(entries, excess=0, remove=removed) == []
