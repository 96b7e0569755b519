"""What a training of latents leaves to read: errors of every test clip, metrics.json, and the table by horizon."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vtg.console import aligned
from vtg.latents.future_scores import MODEL, HorizonScore, LatentErrors, horizon_scores
from vtg.latents.predictors.baselines import BASELINES
from vtg.storage.json_files import write_json, write_jsonl
from vtg.training.latents.clip_dataset import ClipDataset

ERRORS_FILE = "futures.jsonl"
"""In a run directory: of every test clip the horizons of its latents, and the errors of all predictions of them."""

SHOWN = "l2"
"""The error that the closing table shows."""


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
        write_jsonl(self.run_dir / ERRORS_FILE, [self._row(index, rows) for index, rows in self.found])
        write_json(self.run_dir / "metrics.json", metrics(self.scores))
        lines = ["", *self._table(), *(f"note: {note}" for note in notes)]
        if skipped:
            lines.append(f"{skipped} rows were skipped: {self.run_dir / 'skipped.jsonl'}")
        return "\n".join([*lines, "", *(str(self.run_dir / name) for name in ("metrics.json", ERRORS_FILE))])

    def _row(self, index: int, rows: Sequence[LatentErrors]) -> dict[str, Any]:
        window, sample = self.dataset.rows[index]
        part = {"video_start": window.start_s, "video_end": window.end_s}
        errors = {
            name: {kind: [row.errors[name][kind] for row in rows] for kind in rows[0].errors[name]}
            for name in rows[0].errors
        }
        return {"video": sample.video, **part, "horizons_s": [row.horizon_s for row in rows], "errors": errors}

    def _table(self) -> list[str]:
        if not self.scores:
            return ["no test clip could be read"]
        cells: list[tuple[str, ...]] = [("seconds ahead", "latents", MODEL, *BASELINES, "model / copy_last (95 %)")]
        for score in self.scores:
            ratio = score.ratios[SHOWN]
            cells.append(
                (
                    horizon_name(score),
                    str(score.latents),
                    *(f"{score.errors[name][SHOWN]:.4f}" for name in (MODEL, *BASELINES)),
                    f"{ratio.ratio:.3f} ({ratio.low:.3f} to {ratio.high:.3f})",
                )
            )
        return [*aligned(cells), f"{SHOWN}: squared error in variances of the training latents; 1: always their mean"]


def horizon_name(score: HorizonScore) -> str:
    """`0-1` seconds, or `all`."""
    return "all" if score.to_s is None else f"{score.over_s:g}-{score.to_s:g}"


def metrics(scores: Sequence[HorizonScore]) -> dict[str, Any]:
    """{"model": {"all": {"l2": …}, "0-1": {…}}, "copy_last": …, …, "ratio": …, "latents": …} by seconds ahead.

    `ratio` is the model's error over copy_last's, with a 95 % interval over clips.
    """
    by_horizon = {horizon_name(score): score.document() for score in [*scores[-1:], *scores[:-1]]}
    names = [MODEL, *BASELINES, "ratio", "latents", "clips"]
    return {name: {horizon: one[name] for horizon, one in by_horizon.items()} for name in names}
