"""Pictures by matplotlib: the ink of their text, and how they are written."""

import logging
import warnings
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

INK = "#2f3640"


def write_png(figure: "Figure", target: "Path | IO[bytes]", *, dpi: int | None = None) -> None:
    """Writes a figure as PNG, and logs one line where its font lacks letters of a sentence: they are boxes in it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.savefig(target, format="png", dpi=dpi or "figure")
    lacking = [one for one in caught if str(one.message).startswith("Glyph ")]
    if lacking:
        log.warning(
            "letters are boxes in the picture (%d, such as %r): no font that matplotlib takes has them",
            len(lacking),
            str(lacking[0].message).partition(" missing")[0],
        )
    for one in caught:
        if one not in lacking:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
