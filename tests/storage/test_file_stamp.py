"""A file that changes is told apart without being read."""

import os

from vtg.storage.file_stamp import file_stamp


def test_a_file_that_changes_has_another_version(tmp_path):
    path = tmp_path / "a.mp4"
    assert file_stamp(str(path)) == (-1, -1)
    path.write_bytes(b"12")
    os.utime(path, ns=(1, 5))
    assert file_stamp(str(path)) == (2, 5)
