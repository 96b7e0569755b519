"""What `vtg.latents probe` scored on a run's rows, as columns beside the run's own."""

import json
from pathlib import Path
from typing import Any

PROBE_FILE = "probe.json"

EXPLANATION = (
    " linear probe, nearest moment: by frozen latents, without a language model; training prior, whole video: without "
    "looking (vtg.latents probe)."
)


def reference_columns(folder: Path) -> tuple[dict[str, dict[str, Any]], str]:
    """Column → metric → value of a run's probe.json, and what the columns are; a broken file is told there instead."""
    try:
        columns = json.loads((folder / PROBE_FILE).read_text(encoding="utf-8"))["columns"]
        return {name.replace("_", " "): dict(column) for name, column in columns.items()}, EXPLANATION
    except FileNotFoundError:
        return {}, ""
    # Edited by hand, or of another program: it must not cost the page.
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}, f" {PROBE_FILE} is not what vtg.latents probe writes."
