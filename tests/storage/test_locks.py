"""One process at a time holds a lock, a child forked meanwhile does not keep it, and readers keep their files."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vtg.storage.locks import locked, one_at_a_time, remove_unless_locked

TRY = """
import os, sys
from vtg.storage.locks import locked
with locked(os.open(sys.argv[1], os.O_RDWR), shared=sys.argv[2] == "shared", wait=False) as is_mine:
    print(is_mine)
"""


def another_process_gets(path: Path, *, shared: bool = False) -> bool:
    mode = "shared" if shared else "alone"
    return subprocess.check_output([sys.executable, "-c", TRY, str(path), mode], text=True).strip() == "True"


def test_a_lock_keeps_other_processes_out_and_a_shared_one_only_those_that_want_it_alone(tmp_path):
    path = tmp_path / "a"
    path.touch()
    file = os.open(path, os.O_RDWR)
    with locked(file) as is_mine:
        assert is_mine and not another_process_gets(path) and not another_process_gets(path, shared=True)
    with locked(file, shared=True):
        assert another_process_gets(path, shared=True) and not another_process_gets(path)
    assert another_process_gets(path)
    os.close(file)


def test_a_child_forked_while_a_lock_is_held_does_not_keep_it(tmp_path):
    path = tmp_path / "a"
    path.touch()
    file = os.open(path, os.O_RDWR)
    read, write = os.pipe()
    with locked(file):
        child = os.fork()
        if child == 0:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
    os.close(file)
    try:
        assert another_process_gets(path)
    finally:
        os.close(write)
        os.close(read)
        os.waitpid(child, 0)


def test_a_file_that_is_read_stays_until_its_reader_is_done(tmp_path):
    path = tmp_path / "a"
    path.touch()
    file = os.open(path, os.O_RDONLY)
    with locked(file, shared=True):
        assert not remove_unless_locked(str(path)) and path.exists()
    os.close(file)
    assert remove_unless_locked(str(path)) and not path.exists()
    assert not remove_unless_locked(str(path))


@pytest.mark.parametrize("remove", [False, True])
def test_a_lock_file_stays_or_goes_as_is_asked(tmp_path, remove):
    with one_at_a_time(tmp_path / ".lock", remove=remove) as error:
        assert error is None and not another_process_gets(tmp_path / ".lock")
    assert (tmp_path / ".lock").exists() != remove


@pytest.mark.parametrize("remove", [False, True])
def test_work_is_done_where_the_file_system_has_no_locks(tmp_path, monkeypatch, remove):
    def no_locks(file: int, mode: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    done = False
    with one_at_a_time(tmp_path / ".lock", remove=remove) as error:
        assert error is not None and error.errno == errno.ENOLCK
        done = True
    assert done and (tmp_path / ".lock").exists() != remove


def test_an_error_inside_is_not_taken_for_one_of_the_lock(tmp_path):
    with pytest.raises(OSError, match="of the work"), one_at_a_time(tmp_path / ".lock", remove=True):
        raise OSError("of the work")
    assert not (tmp_path / ".lock").exists()


def test_a_file_that_took_the_name_while_another_removed_the_last_one_stays(tmp_path, monkeypatch):
    path, flock = tmp_path / "a", fcntl.flock
    path.write_bytes(b"the last one")

    def lock_after_another_removed_it(file: int, mode: int) -> None:
        if path.read_bytes() == b"the last one":
            path.unlink()
            path.write_bytes(b"a new one")
        flock(file, mode)

    monkeypatch.setattr(fcntl, "flock", lock_after_another_removed_it)
    assert not remove_unless_locked(str(path))
    assert path.read_bytes() == b"a new one"
