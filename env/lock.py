"""Prints exact pins of all that vtg needs, as installed in this environment.

    python env/lock.py [EXTRA ...] > env/requirements-cpu.txt

Exit code 1: something vtg needs is not installed.
"""

import argparse
import sys
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def main() -> int:
    """Prints the pins, sorted by name; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="*", metavar="EXTRA", help="extras of vtg to pin too (test, video, ...)")
    extras = parser.parse_args().extras
    try:
        pins = closure("vtg", set(extras))
    except PackageNotFoundError as error:
        print(f"error: {error} is not installed; pip install -e '.[{','.join(extras)}]' first", file=sys.stderr)
        return 1
    print(f"# Python {sys.version_info.major}.{sys.version_info.minor} on {sys.platform}: python env/lock.py", *extras)
    for name, version in sorted(pins.items()):
        print(f"{name}=={version}")
    return 0


def closure(root: str, extras: set[str]) -> dict[str, str]:
    """Name and version of everything `root` with `extras` depends on, near or far; `root` is left out.

    Raises:
        PackageNotFoundError: if one of them is not installed.
    """
    wanted = [(root, frozenset(extras))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while wanted:
        name, chosen = wanted.pop()
        if (name, chosen) in seen:
            continue
        seen.add((name, chosen))
        for line in distribution(name).requires or []:
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in chosen | {""}):
                wanted.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return {name: distribution(name).version for name, _ in seen if name != root}


if __name__ == "__main__":
    sys.exit(main())
