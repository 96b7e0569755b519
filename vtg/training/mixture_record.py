"""What a run draws of each source of its mixture, and how each is answered: mixture.json in the run directory."""

import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vtg.batching import Mixture
from vtg.console import aligned
from vtg.errors import ConfigError
from vtg.ranks import is_main_process
from vtg.storage.json_files import write_json

log = logging.getLogger(__name__)

MIXTURE_FILE = "mixture.json"


@dataclass
class SourceRecord:
    """One source.

    Attributes:
        rows: its training samples.
        wanted: its share of the samples drawn, of 1.
        samples, tokens: that were trained on until now.
        drawn: its share of all samples that were trained on.
        scores: column (base, tuned, …) → metrics of its test questions, where it has any.
        compared: the same → name and value of the number by which they are compared (mIoU, or `score` of other tasks).
    """

    name: str
    rows: int
    wanted: float
    samples: int = 0
    tokens: int = 0
    drawn: float = 0.0
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    compared: dict[str, tuple[str, float]] = field(default_factory=dict)


@dataclass
class MixtureRecord:
    """All sources, and the samples of an epoch."""

    epoch_samples: int
    sources: list[SourceRecord]

    @classmethod
    def of(cls, mixture: Mixture) -> "MixtureRecord":
        """The record before anything is drawn."""
        parts = zip(mixture.names, mixture.sizes, mixture.wanted.tolist(), strict=True)
        return cls(mixture.count, [SourceRecord(name, size, wanted) for name, size, wanted in parts])

    @classmethod
    def read(cls, run: Path) -> "MixtureRecord | None":
        """That of a run directory, None where its run has no mixture."""
        file = run / MIXTURE_FILE
        if not file.is_file():
            return None
        saved = json.loads(file.read_text(encoding="utf-8"))
        return cls(saved["epoch_samples"], [SourceRecord(**source) for source in saved["sources"]])

    def write(self, run: Path) -> None:
        """Writes it into a run directory."""
        write_json(run / MIXTURE_FILE, asdict(self))

    def count(self, total: Mapping[str, int]) -> None:
        """Sets what was drawn, as `DrawnSources.total` says it."""
        whole = sum(total.get(f"{source.name}/samples", 0) for source in self.sources)
        for source in self.sources:
            source.samples = total.get(f"{source.name}/samples", 0)
            source.tokens = total.get(f"{source.name}/tokens", 0)
            source.drawn = source.samples / whole if whole else 0.0

    def plan(self) -> str:
        """What an epoch holds, for the log at the start."""
        rows = [["source", "rows", "share wanted", "an epoch", "passes"]]
        for source in self.sources:
            count = self.epoch_samples * source.wanted
            passes = f"{count / source.rows:.2f}" if source.rows else "-"
            rows.append([source.name, str(source.rows), f"{100 * source.wanted:.2f} %", f"{count:.0f}", passes])
        return "\n".join(aligned(rows))

    def table(self) -> str:
        """What was drawn against what was wanted, and the scores of each source."""
        columns = list(dict.fromkeys(name for source in self.sources for name in source.scores))
        rows = [["source", "share wanted", "drawn", "samples", "tokens", *columns]]
        for source in self.sources:
            scores = [source.compared.get(name) for name in columns]
            rows.append(
                [
                    *(source.name, f"{100 * source.wanted:.2f} %", f"{100 * source.drawn:.2f} %"),
                    *(str(source.samples), str(source.tokens)),
                    *("-" if one is None else f"{one[0]} {one[1]:.1f}" for one in scores),
                ]
            )
        return "\n".join(aligned(rows))


class DrawnSources:
    """Counts what this rank trains on of each source, and writes the sum of all ranks into mixture.json."""

    def __init__(self, mixture: Mixture, run: Path) -> None:
        self._record, self._run = MixtureRecord.of(mixture), run
        self._counts = Counter[str]()

    def add(self, counts: Mapping[str, int]) -> None:
        """Adds `NAME/samples` and `NAME/tokens` of a batch, or of all ranks before a resume (on one of them)."""
        self._counts.update(counts)

    def total(self, accelerator: Any, *, without: Mapping[str, int] | None = None) -> dict[str, int]:
        """The same of all ranks since the run began, less what each gives as `without`; every rank has to call it."""
        keys = [f"{source.name}/{what}" for source in self._record.sources for what in ("samples", "tokens")]
        own = [self._counts[key] - (without or {}).get(key, 0) for key in keys]
        mine = torch.tensor([own], dtype=torch.int64, device=accelerator.device)
        return dict(zip(keys, accelerator.gather(mine).sum(0).tolist(), strict=True))

    def logged(self, accelerator: Any) -> dict[str, float]:
        """For a log entry: `drawn/NAME/samples`, `tokens` and `share`; every rank has to call it."""
        self._record.count(self.total(accelerator))
        if is_main_process():
            self._record.write(self._run)
        entries = {}
        for source in self._record.sources:
            values = {"samples": float(source.samples), "tokens": float(source.tokens), "share": source.drawn}
            entries |= {f"drawn/{source.name}/{what}": value for what, value in values.items()}
        return entries


def log_mixture(mixture: Mixture) -> None:
    """Says what an epoch draws of each source, and warns of what a reader of its weights would not expect."""
    log.info("an epoch draws %d samples:\n%s", mixture.count, MixtureRecord.of(mixture).plan())
    for name, size, quota, share in zip(mixture.names, mixture.sizes, mixture.quotas(), mixture.wanted, strict=True):
        if share and not quota:
            log.warning(
                "data.sources.%s: its share of %.3g %% is less than one sample of an epoch of %d: it is never drawn; "
                "raise data.epoch_samples, or its weight",
                *(name, 100 * share, mixture.count),
            )
        elif quota > size:
            log.warning(
                "data.sources.%s: its %d rows are fewer than the %d that its weight asks of an epoch: each comes %.1f "
                "times; lower its weight or data.epoch_samples for fewer",
                *(name, size, quota, quota / size),
            )


def without_over_budget(mixture: Mixture, over: np.ndarray) -> Mixture:
    """The mixture without the samples that no batch can hold, (N,) bool `over`.

    Raises:
        ConfigError: nothing of a source with a weight is left.
    """
    try:
        return mixture.kept(~over)
    except ValueError as error:
        raise ConfigError(f"batching.oversize = 'skip' with data.sources: {error}") from None
