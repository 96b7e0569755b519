"""Which names of videos and shards are opened at all.

Rows and checkpoints come from anywhere, while fsspec opens whatever has a scheme: chains of file systems, archives on
other machines, descriptions of files that it runs as templates. So a name is a path, or an address of one of `SCHEMES`,
and `::` in it only names a member of a tar file, which vtg reads itself.
"""

import os

# `shard.tar::clip.mp4` is the video `clip.mp4` in the tar file `shard.tar`. fsspec's own chains (`tar://a::b`) are not
# used: any file system can stand in one.
TAR_MEMBER = ".tar::"

SCHEMES = ("file", "gs", "https", "s3")
ALIASES = ("gcs", "s3a")

PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
"""Of still pictures, which stand where a video does and have no times."""

AND = "|"
"""Between the names of several pictures that are seen together: a.jpg|b.jpg."""

# Environment variable: 1 lets http:// addresses be opened, which anybody on the network path can read and replace.
ALLOW_HTTP = "VTG_ALLOW_HTTP"

# Schemes that a program opens beside these, by extending the set in its own code; tests add `memory`. Nothing that is
# read from a file, a row or a checkpoint gets here.
MORE: set[str] = set()


def schemes() -> tuple[str, ...]:
    """The schemes that are opened in this process."""
    http = ("http",) if os.environ.get(ALLOW_HTTP) == "1" else ()
    return (*SCHEMES, *http, *sorted(MORE), *ALIASES)


def is_address(name: str) -> bool:
    """Whether a name is meant as an address, not as a path on this machine."""
    return "://" in name.partition(TAR_MEMBER)[0]


def parts_of(name: str) -> list[str]:
    """The pictures that a name joins by `AND`; of any other name, itself."""
    parts = name.split(AND)
    return parts if len(parts) > 1 and all(part.lower().endswith(PICTURE_ENDINGS) for part in parts) else [name]


def is_picture(name: str) -> bool:
    """Whether a name is of one still picture or several, by its endings."""
    return name.lower().endswith(PICTURE_ENDINGS) and (AND not in name or len(parts_of(name)) > 1)


def fault(name: str) -> str | None:
    """Why the name of a video, a shard or their folder is not opened; None if it may be."""
    if len(parts := parts_of(name)) > 1:
        return next((found for part in parts if (found := fault(part))), None)
    holder = name.partition(TAR_MEMBER)[0]
    scheme, mark, rest = holder.partition("://")
    if not mark:
        return None
    shown = f"{holder[:60]}…" if len(holder) > 60 else holder
    if scheme not in schemes():
        known = ", ".join(f"{allowed}://" for allowed in schemes() if allowed not in ALIASES)
        http = "" if "http" in schemes() else f"; http:// where {ALLOW_HTTP}=1 is set in the environment"
        return f"{shown!r} is not opened: give a path, or an address with {known}{http}"
    if "::" in rest:
        return f"{shown!r} is not opened: in an address :: only names a member of a tar file, shard.tar::clip.mp4"
    if scheme == "file" and not rest.startswith("/"):
        return f"{shown!r} is not opened: it names another machine; a file on this one is file:///folder/a.mp4"
    return None
