"""The journal of an editing: every step on the disk before it counts, so that a crash, a kill or a reload loses none.

A JSONL file beside the saved one. Its first line says which rows were begun with; then a line a step (`row_list`), and
one for each saving: `{"saves": {path: [bytes, ns]}}`, the files just before they take their names. Played again over
the same rows it gives the same ones, with all there is to undo.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from vtg.errors import ConfigError
from vtg.storage.atomic import holds_something_else
from vtg.storage.json_files import json_text
from vtg.storage.locks import locked

SIGNATURE = b'{"journal": "vtg.app.rows"'
VERSION = 1


class EditJournal:
    """An open journal, locked so that no second process edits the same rows.

    Raises:
        ConfigError: it is another file, of other rows or of another version, or a process has it open.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, *, begin: Mapping[str, Any]) -> None:
        """`begin`: what the rows were read from; a journal that begins otherwise is not played over them."""
        if path.exists() and path.stat().st_size and holds_something_else(path, SIGNATURE):
            raise ConfigError(f"{path} is no journal of edits; move it away, or name another --save-as")
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stack = ExitStack()
        self._file = self._stack.enter_context(path.open("ab", buffering=0))
        if not self._stack.enter_context(locked(self._file.fileno(), wait=False)):
            self._stack.close()
            raise ConfigError(f"{path}: another vtg.app edits these rows; use its page, or end it")
        try:
            self.steps = self._read(begin)
        except ConfigError:
            self._stack.close()
            raise

    def _read(self, begin: Mapping[str, Any]) -> list[dict[str, Any]]:
        whole = self.path.read_bytes()
        # A kill in the middle of a write leaves half a line; the step did not count yet.
        end = whole.rfind(b"\n") + 1
        self._file.truncate(end)
        lines = list(_objects(self.path, whole[:end]))
        first = {"journal": "vtg.app.rows", "version": VERSION, **begin}
        if not lines:
            self.append(first)
        elif lines[0] != json.loads(json_text(first)):
            raise ConfigError(
                f"{self.path}: these edits were begun on other rows (a file or the list of videos has changed since); "
                "restore them, or move the journal away to begin anew"
            )
        return lines[1:]

    def append(self, step: Mapping[str, Any]) -> None:
        """Puts a line on the disk. Raises OSError, and leaves the journal as it was."""
        end = self._file.seek(0, os.SEEK_END)
        try:
            # A raw file may take a part: half a step is no step.
            line = (json_text(step) + "\n").encode()
            if self._file.write(line) != len(line):
                raise OSError(f"{self.path}: the disk is full")
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(end)
            raise

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> "EditJournal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _objects(path: Path, text: bytes) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text.split(b"\n")[:-1], 1):
        try:
            value = json.loads(line)
        except ValueError as error:
            raise ConfigError(
                f"{path}:{number}: cannot be read ({error}); move the journal away to begin anew"
            ) from None
        yield value if isinstance(value, dict) else {}
