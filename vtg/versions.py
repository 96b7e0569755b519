"""Which versions run: of vtg, and of the libraries that decide what it does. Nothing is imported to tell."""

import platform
from importlib.metadata import PackageNotFoundError, version

from vtg import __version__

PACKAGES = (
    "torch",
    "torchvision",
    "transformers",
    "peft",
    "trl",
    "accelerate",
    "deepspeed",
    "flash-attn",
    "av",
    "numpy",
)


def versions() -> dict[str, str | None]:
    """vtg, Python and `PACKAGES`, None for what is not installed.

    vtg's own is that of the code that runs, not of what pip noted once of a folder that has changed since.
    """
    found: dict[str, str | None] = {"vtg": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found
