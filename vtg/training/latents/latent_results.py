"""What a training of latents leaves to read: errors of every test clip, metrics.json, and the table by horizon."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vtg.latents.future_scores import LatentErrors, horizon_scores
from vtg.latents.horizon_table import score_document, score_table
from vtg.storage.json_files import write_json, write_jsonl
from vtg.training.latents.clip_dataset import ClipDataset

ERRORS_FILE = "futures.jsonl"
"""In a run directory: of every test clip the horizons of its latents, and the errors of all predictions of them."""


class LatentResults:
    """The errors of a trained predictor on its test clips.

    Args:
        found: (index in the data set, errors of its latents) of every clip that was read.
        bin_s: width of a range of horizons.
    """

    def __init__(
        self, run_dir: Path, dataset: ClipDataset, found: Sequence[tuple[int, list[LatentErrors]]], *, bin_s: float
    ) -> None:
        self.run_dir, self.dataset, self.found = run_dir, dataset, found
        self.scores = horizon_scores([row for _, rows in found for row in rows], bin_s=bin_s)

    def write(self, *, notes: Sequence[str], skipped: int) -> str:
        """Writes the files and returns the closing table, with `notes` below."""
        # Whole before the scores: who reads metrics.json finds what they are of.
        write_jsonl(self.run_dir / ERRORS_FILE, [self._row(index, rows) for index, rows in self.found])
        write_json(self.run_dir / "metrics.json", score_document(self.scores))
        table = score_table(self.scores) if self.scores else ["no test clip could be read"]
        lines = ["", *table, *(f"note: {note}" for note in notes)]
        if skipped:
            lines.append(f"{skipped} rows were skipped: {self.run_dir / 'skipped.jsonl'}")
        return "\n".join([*lines, "", *(str(self.run_dir / name) for name in ("metrics.json", ERRORS_FILE))])

    def _row(self, index: int, rows: Sequence[LatentErrors]) -> dict[str, Any]:
        # The window too: a video may be parted into several rows.
        window, sample = self.dataset.rows[index]
        part = {"video_start": window.start_s, "video_end": window.end_s}
        errors = {
            name: {kind: [row.errors[name][kind] for row in rows] for kind in rows[0].errors[name]}
            for name in rows[0].errors
        }
        return {"video": sample.video, **part, "horizons_s": [row.horizon_s for row in rows], "errors": errors}
