"""What vtg writes is whole, readable by whom the umask says, and leaves nothing behind for good."""

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from vtg.storage.atomic import atomic_folder, follow_umask, sweep, sync, temporary_name, write_text, written_beside
from vtg.storage.json_files import write_json

WRITER = """
import os, sys, time
from vtg.storage.atomic import atomic_folder, written_beside
with written_beside(sys.argv[1]) as beside:
    if sys.argv[2] == "folder":
        beside.mkdir()
        beside /= "file"
    beside.write_text("half")
    print("writing", flush=True)
    time.sleep(600)
"""


def start_writing(path: Path, what: str) -> subprocess.Popen:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path), what], stdout=subprocess.PIPE)
    assert writer.stdout is not None and writer.stdout.readline() == b"writing\n"
    return writer


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_a_kill_leaves_goes_when_the_next_process_writes_there(tmp_path, what):
    running, killed = start_writing(tmp_path / "a", what), start_writing(tmp_path / "b", what)
    own = [tmp_path / ".vtg-notes.tmp", tmp_path / ".a.1234.tmp", tmp_path / f".vtg-{'0' * 8}-1-{'0' * 8}.tmp"]
    for path in own:
        path.write_text("the user's, or another machine's")
    try:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        left = set(tmp_path.iterdir()) - set(own)
        assert len(left) == 2
        code = "import sys; from vtg.storage.atomic import write_text; write_text(sys.argv[1], '')"
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "c")], check=True)
        rest = set(tmp_path.iterdir()) - set(own)
        assert tmp_path / "c" in rest and len(rest & left) == 1 and str(running.pid) in next(iter(rest & left)).name
        assert all(path.exists() for path in own)
    finally:
        running.kill()
        running.wait()
    sweep(tmp_path)
    assert set(tmp_path.iterdir()) == {*own, tmp_path / "c"}


def test_what_fails_leaves_nothing_and_what_was_there_stays(tmp_path):
    write_text(tmp_path / "a", "before")
    with pytest.raises(RuntimeError), written_beside(tmp_path / "a") as beside:
        beside.write_text("half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_text() == "before"


def test_a_link_stays_and_the_file_that_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "disk").mkdir()
    link, target = tmp_path / "link", tmp_path / "disk" / "rows"
    link.symlink_to(target)
    write_text(link, "made")  # a link to nothing yet
    write_text(link, "replaced")
    assert link.is_symlink() and target.read_text() == "replaced" and list(target.parent.iterdir()) == [target]
    with written_beside(link, follows_links=False) as beside:
        beside.write_text("own")
    assert not link.is_symlink() and (link.read_text(), target.read_text()) == ("own", "replaced")


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE)
    write_text(pipe, "text")
    assert reader.communicate()[0] == b"text" and stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_name_as_long_as_names_can_be_can_be_written(tmp_path):
    write_text(tmp_path / ("é" * 127), "text")
    assert (tmp_path / ("é" * 127)).read_text() == "text"


@pytest.mark.parametrize(("umask", "rights"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_follow_the_umask_whoever_wrote_them(tmp_path, umask, rights):
    import numpy as np
    from safetensors.numpy import save_file

    before = os.umask(umask)
    try:
        (tmp_path / "in").mkdir()
        write_json(tmp_path / "settings.json", {})
        save_file({"weight": np.zeros(3)}, tmp_path / "in" / "model.safetensors")
        follow_umask(tmp_path)
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 2 and {stat.S_IMODE(path.stat().st_mode) for path in files} == {rights}


def test_rights_that_somebody_chose_stay(tmp_path):
    path = tmp_path / "run.sh"
    path.touch(0o700)
    follow_umask(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_all_files_and_folders_are_synced(tmp_path, monkeypatch):
    seen: list[str] = []
    real = os.fsync

    def fsync(file: int) -> None:
        seen.append(os.readlink(f"/proc/self/fd/{file}"))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").touch()
    sync(tmp_path / "a")
    assert set(seen) == {str(tmp_path / "a"), str(tmp_path / "a" / "b"), str(tmp_path / "a" / "b" / "c")}


def test_an_error_names_the_file_that_was_to_be_written_and_not_the_one_beside(tmp_path):
    (tmp_path / "folder" / "in").mkdir(parents=True)
    with pytest.raises(IsADirectoryError) as refused:
        write_text(tmp_path / "folder", "text")
    assert str(refused.value) == f"[Errno {errno.EISDIR}] Is a directory: '{tmp_path / 'folder'}'"
    # The file beside cannot be opened: there is a folder of its name.
    with pytest.raises(IsADirectoryError) as refused, written_beside(tmp_path / "file") as beside:
        beside.mkdir()
        beside.write_text("text")
    assert refused.value.filename == str(tmp_path / "file")
    with pytest.raises(FileNotFoundError) as refused, written_beside(tmp_path / "file"):
        (tmp_path / "other").read_text()
    assert refused.value.filename == str(tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_temporary_names_are_told_apart_within_a_process(tmp_path):
    assert len({temporary_name(tmp_path / "a") for _ in range(100)}) == 100


def test_a_folder_appears_when_it_is_whole_and_not_at_all_when_its_making_fails(tmp_path):
    with atomic_folder(tmp_path / "in" / "a") as folder:
        (folder / "file").write_text("whole")
        assert not (tmp_path / "in" / "a").exists()
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "in" / "b") as folder:
        (folder / "file").write_text("half")
        raise RuntimeError
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["in", "in/a", "in/a/file"]


def test_a_folder_that_another_process_made_first_stays_if_it_is_whole(tmp_path):
    def make(name: str, **options: str) -> None:
        with atomic_folder(tmp_path / "a", **options) as folder:
            (folder / "proof").write_text("mine")
            (tmp_path / "a").mkdir()
            (tmp_path / "a" / name).write_text("another's")

    make("proof", proof="proof")
    assert (tmp_path / "a" / "proof").read_text() == "another's"
    (tmp_path / "a" / "proof").rename(tmp_path / "a" / "else")
    for options in ({"proof": "proof"}, {}):
        with pytest.raises(OSError, match="not empty"), atomic_folder(tmp_path / "a", **options) as folder:
            (folder / "proof").write_text("mine")
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and (tmp_path / "a" / "else").exists()
