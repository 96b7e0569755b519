"""`export.json`: which files an export is of, so that what else lies in its folder is never published."""

import json
from pathlib import Path

from vtg import __version__
from vtg.errors import ConfigError
from vtg.storage.json_files import write_json

MANIFEST_FILE = "export.json"


def write_manifest(folder: Path) -> None:
    """Lists the files that lie in `folder`."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    write_json(folder / MANIFEST_FILE, {"vtg": __version__, "files": names})


def exported_files(folder: Path) -> dict[str, int]:
    """Name → bytes of the files of an export, in order, without `export.json` itself and what was added later.

    Raises:
        ConfigError: `folder` is no export, or files of it are gone.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise ConfigError(
            f"{folder}: is no exported folder (it has no {MANIFEST_FILE}); export it first: "
            f"python -m vtg.export {folder} -o DIR --push NAME"
        )
    try:
        names = json.loads(path.read_text(encoding="utf-8"))["files"]
        # A name that leads out of the folder would publish any file of this machine.
        is_whole = isinstance(names, list) and all(
            (folder / name).resolve().is_relative_to(folder.resolve()) for name in names
        )
    except (ValueError, KeyError, TypeError):
        is_whole, names = False, []
    if not is_whole:
        raise ConfigError(f"{path}: is not the list of an export's files; export the run again into a new folder")
    if gone := [name for name in names if not (folder / name).is_file()]:
        raise ConfigError(f"{folder}: lacks {', '.join(gone)} of the export; export the run again into a new folder")
    return {name: (folder / name).stat().st_size for name in names}
