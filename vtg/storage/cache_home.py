"""Where vtg keeps what it can make again."""

import os
from pathlib import Path


def cache_home() -> Path:
    """Where vtg keeps what it can make again: `vtg` under $XDG_CACHE_HOME or ~/.cache. It may not be there yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vtg"
