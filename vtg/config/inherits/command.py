"""Makes Hydra configs of YAML files that inherit others by a list `inherits:`, as FutureLatents' do.

  python -m vtg.convert inherits configs/vjepa2_kinetics_400.yaml -o hydra
  python -m vtg.convert inherits configs/*.yaml --dry-run --json

Each file, and each that it inherits, becomes a config of the same name below -o; `inherits` becomes `defaults`, the
rest of its text stays. Later files override earlier ones, the file itself all of them; nested mappings are merged,
lists replaced. What Hydra composes is compared with that before anything is written. Every key that one file overrides
in another is named on stderr, with both files and values. Keys keep their names: they are those of the program that
read the files, not vtg's.
Exit code 0: written, or nothing wrong; 1: a file is missing, broken, or inherits itself; 2: wrong usage.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from vtg.config.inherits.hydra_files import check_composed, config_names, hydra_text
from vtg.config.inherits.inherited_files import InheritedFile, read_inherited
from vtg.config.inherits.inherited_values import InheritedValues, Override, interpolations
from vtg.console import stdout_may_close
from vtg.errors import ConfigError, RunError
from vtg.storage.atomic import holds_something_else, write_text
from vtg.storage.json_files import json_text

REPORT_SIGNATURE = b'{"report": "vtg.convert inherits"'


def main(argv: list[str]) -> int:
    """Runs the command; returns its exit code."""
    options = _options(argv)
    try:
        files, sources = _read(options.sources)
        names = config_names(files)
        texts = {names[path]: hydra_text(file, names) for path, file in files.items()}
        # Before anything is written: a config that Hydra reads otherwise would train something else, and not say so.
        check_composed(texts, {names[path]: values.values for path, values in sources.items()})
    except (ConfigError, RunError) as error:
        print(f"vtg.convert inherits: error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"vtg.convert inherits: error: {error}; check the path and its permissions", file=sys.stderr)
        return 1
    try:
        if fault := _path_fault(options, texts, files):
            raise ConfigError(fault)
        for name, text in texts.items() if not options.dry_run else ():
            write_text(Path(options.out, f"{name}.yaml"), text)
        document = _document(options, files, sources, names)
        if options.json not in (None, "-"):
            write_text(options.json, json_text(document) + "\n")
    except (ConfigError, OSError) as error:
        print(f"vtg.convert inherits: error: {error}", file=sys.stderr)
        return 2
    for notice in document["notices"]:
        print(f"notice: {notice}", file=sys.stderr)
    with stdout_may_close():
        print(json_text(document) if options.json == "-" else "\n".join(_lines(options, document)))
    return 0


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m vtg.convert inherits", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="+", metavar="SRC", help="YAML files; those that they inherit are found")
    parser.add_argument("-o", "--out", metavar="OUT_DIR", help="the folder of the configs")
    parser.add_argument("--dry-run", action="store_true", help="read, compose and compare, and write no config")
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="print (or write to FILE) the report as JSON"
    )
    options = parser.parse_args(argv)
    if options.out is None and not options.dry_run:
        parser.error("-o OUT_DIR is missing: name the folder of the configs, or --dry-run")
    return options


def _read(sources: list[str]) -> tuple[dict[Path, InheritedFile], dict[Path, InheritedValues]]:
    """(All files, the values of those that were named.)"""
    files: dict[Path, InheritedFile] = {}
    values: dict[Path, InheritedValues] = {}
    for source in map(Path, sources):
        files |= read_inherited(source)
        values[source.resolve()] = InheritedValues.of(source.resolve(), files)
    return files, values


def _path_fault(options: argparse.Namespace, texts: dict[str, str], files: dict[Path, InheritedFile]) -> str | None:
    out: str | None = options.out
    if out is not None and os.path.exists(out) and not os.path.isdir(out):
        return f"-o {out} is a file; name a folder"
    for path, text in ((Path(out, f"{name}.yaml"), text) for name, text in texts.items()) if out is not None else ():
        if path.resolve() in files:
            return f"-o {out} would overwrite {path}, which is read; name another folder"
        # Bytes: the same command again is no conflict, and a config that was edited by hand is one.
        if path.exists() and (not path.is_file() or path.read_bytes() != text.encode()):
            return f"{path} is there and holds something else; name another folder, or remove it"
    report: str = options.json or "-"
    if report != "-" and holds_something_else(report, REPORT_SIGNATURE):
        return f"--json {report} is there and is no report of vtg.convert inherits; name another file"
    return None


def _document(
    options: argparse.Namespace,
    files: dict[Path, InheritedFile],
    sources: dict[Path, InheritedValues],
    names: dict[Path, str],
) -> dict[str, Any]:
    return {
        "report": "vtg.convert inherits",
        "out": None if options.dry_run else options.out,
        "files": [
            {"source": str(path), "config": names[path], "inherits": [names[parent] for parent in file.parents]}
            for path, file in files.items()
        ],
        "configs": [
            {"source": str(path), "config": names[path], "overridden": [_told(one) for one in values.overrides]}
            for path, values in sources.items()
        ],
        "notices": [
            # Several sources with a base in common would say its overrides once each.
            *dict.fromkeys(_said(one) for values in sources.values() for one in values.overrides),
            *(
                f"{path}: {key} = {text}: Hydra looks it up when all files are merged, not in this one alone"
                for path, file in files.items()
                for key, text in interpolations(file.values)
            ),
        ],
    }


def _told(one: Override) -> dict[str, Any]:
    return {
        "key": one.key,
        "value": one.value,
        "file": str(one.file),
        "overridden_value": one.old_value,
        "overridden_files": [str(path) for path in one.old_files],
    }


def _said(one: Override) -> str:
    old_files = ", ".join(map(str, one.old_files))
    return f"{one.key} = {json.dumps(one.value)} of {one.file} overrides {json.dumps(one.old_value)} of {old_files}"


def _lines(options: argparse.Namespace, document: dict[str, Any]) -> list[str]:
    lines = [f"{one['source']} → {one['config']}" for one in document["files"]]
    configs = "1 config" if len(document["files"]) == 1 else f"{len(document['files'])} configs"
    count = f"{configs}, which Hydra composes to the same values"
    if options.dry_run:
        return [*lines, f"{count}; nothing is written (--dry-run)"]
    first = document["configs"][0]["config"]
    return [*lines, f"wrote {count}, to {options.out}: --config-dir {options.out} --config-name {first}"]
