"""Prints exact pins of all that vtg needs, as installed in this environment, or in several of different Pythons.

    python env/lock.py [EXTRA ...] [--python PYTHON ...] > env/constraints.txt

Where Pythons got different versions, each pin says for which it is. Exit code 1: something vtg needs is not installed.
"""

import argparse
import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from itertools import groupby

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

Version = tuple[int, int]
"""Of a Python: (3, 11)."""


def main() -> int:
    """Prints the pins, sorted by name; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="*", metavar="EXTRA", help="extras of vtg to pin too (test, video, ...)")
    parser.add_argument("--python", action="append", metavar="PYTHON", help="the interpreter of an environment to read")
    parser.add_argument("--json", action="store_true", help="print the pins of this environment as JSON")
    args = parser.parse_args()
    if args.json:
        print(json.dumps([sys.version_info[:2], closure("vtg", set(args.extras))]))
        return 0
    try:
        found = dict(read(python, args.extras) for python in args.python or [sys.executable])
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    missing = sorted(
        set[str]().union(*found.values()) - {name for pins in found.values() for name in pins if pins[name]}
    )
    if missing:
        wanted = f".[{','.join(args.extras)}]" if args.extras else "."
        print(f"error: {', '.join(missing)} not installed; pip install -e '{wanted}' first", file=sys.stderr)
        return 1
    pythons = ", ".join(f"{major}.{minor}" for major, minor in sorted(found))
    print(f"# Python {pythons} on {sys.platform}: python env/lock.py", *args.extras)
    print(*merged(found), sep="\n")
    return 0


def read(python: str, extras: list[str]) -> tuple[Version, dict[str, str | None]]:
    """The version of an interpreter, and the pins of its environment: None for what is not installed in it."""
    done = subprocess.run([python, __file__, "--json", *extras], stdout=subprocess.PIPE, text=True, check=True)
    (major, minor), pins = json.loads(done.stdout)
    return (major, minor), pins


def closure(root: str, extras: set[str]) -> dict[str, str | None]:
    """Name and version of everything `root` with `extras` depends on, near or far; `root` is left out.

    The version of what is not installed is None.
    """
    wanted = [(root, frozenset(extras))]
    seen: set[tuple[str, frozenset[str]]] = set()
    versions: dict[str, str | None] = {}
    while wanted:
        name, chosen = wanted.pop()
        if (name, chosen) in seen:
            continue
        seen.add((name, chosen))
        try:
            found = distribution(name)
        except PackageNotFoundError:
            versions[name] = None
            continue
        versions[name] = found.version
        for line in found.requires or []:
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in chosen | {""}):
                wanted.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    versions.pop(root, None)
    return versions


def merged(found: dict[Version, dict[str, str | None]]) -> list[str]:
    """Lines `name==version`, with the Pythons it is for where others have another version."""
    lines = []
    for name in sorted(set[str]().union(*found.values())):
        by_python = [(python, pins[name]) for python, pins in sorted(found.items()) if pins.get(name)]
        runs = [(version, [python for python, _ in run]) for version, run in groupby(by_python, key=lambda one: one[1])]
        for at, (version, pythons) in enumerate(runs):
            first = f"python_version >= '{_dotted(pythons[0])}'" if at else ""
            last = f"python_version < '{_dotted(runs[at + 1][1][0])}'" if at + 1 < len(runs) else ""
            marker = " and ".join(filter(None, (first, last)))
            lines.append(f"{name}=={version}" + (f"; {marker}" if marker else ""))
    return lines


def _dotted(python: Version) -> str:
    return ".".join(map(str, python))


if __name__ == "__main__":
    sys.exit(main())
