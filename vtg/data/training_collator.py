"""Items of a dataset → a batch for training, padded or packed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vtg.annotations.joined_tables import SOURCE
from vtg.config.data_settings import BatchingConfig
from vtg.config.derived import is_packed
from vtg.data.encoding import DURATION, IGNORE_INDEX
from vtg.data.grounding_dataset import GroundingItem
from vtg.data.packing import pack, share
from vtg.data.padding import collate


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """The tokens of an answer that a batch trains on, and the length of the clip that it is about."""

    ids: tuple[int, ...]
    duration_s: float


class TrainingCollator:
    """Items of a training `GroundingDataset` as a padded batch, with what was left out and what the clips cost."""

    def __init__(self, pad_token_id: int, batching: BatchingConfig) -> None:
        self.pad_token_id, self.batching = pad_token_id, batching

    def __call__(self, items: Sequence[GroundingItem]) -> dict[str, Any]:
        """A batch as `vtg.data.padding.collate` or `vtg.data.packing.pack` says, and five entries more.

        `rows`: a list of BatchRow. `answers`: a LabelledAnswer for each unbroken run of labels, row by row. `skipped`:
        a list of Skipped. `counts`: a Counter of the clips, and of `samples` with labels, `batches`, `tokens` that are
        attended to and `slots`, tokens that are computed. `drawn`: a Counter of the samples with labels, and of their
        tokens, of each source of a mixture: `NAME/samples`, `NAME/tokens`.
        """
        # A whole number: DeepSpeed's Trainer makes bfloat16 of what is not, and so of no length that is exact.
        lengths_us = [round(item.row.duration_s * 1e6) for item in items]
        features = [
            item.features | {DURATION: torch.full_like(item.features["labels"], length_us)}
            for item, length_us in zip(items, lengths_us, strict=True)
        ]
        batch: dict[str, Any]
        if is_packed(self.batching):
            batch = pack(share(features) if self.batching.share_video else features)
            tokens = int((batch["segments"] >= 0).sum())
        else:
            batch = collate(features, pad_token_id=self.pad_token_id)
            tokens = int(batch["attention_mask"].sum())
        batch["answers"] = _answers(batch["labels"], batch.pop(DURATION))
        batch["rows"] = [item.row for item in items]
        batch["skipped"] = [item.skipped for item in items if item.skipped is not None]
        is_labelled = [bool((one["labels"] != IGNORE_INDEX).any()) for one in features]
        batch["drawn"] = _drawn([item for item, labelled in zip(items, is_labelled, strict=True) if labelled])
        samples = sum(is_labelled)
        slots = batch["input_ids"].numel()
        own = Counter(samples=samples, batches=1, tokens=tokens, slots=slots)
        batch["counts"] = sum((item.counts for item in items), own)
        return batch


def _drawn(items: Sequence[GroundingItem]) -> Counter[str]:
    drawn = Counter[str]()
    for item in items:
        if (name := item.sample.metadata.get(SOURCE)) is not None:
            drawn += Counter({f"{name}/samples": 1, f"{name}/tokens": item.row.tokens})
    return drawn


def _answers(labels: torch.Tensor, durations_us: torch.Tensor) -> list[LabelledAnswer]:
    """The answers of labels (B, L), in their order: before each stands its prompt, which has no labels."""
    found = []
    for row, lengths_us in zip(labels, durations_us, strict=True):
        places = (row != IGNORE_INDEX).nonzero()[:, 0]
        breaks = (places.diff() > 1).nonzero()[:, 0] + 1
        for run in places.tensor_split(breaks.tolist()) if len(places) else ():
            found.append(LabelledAnswer(tuple(row[run].tolist()), int(lengths_us[run[0]]) / 1e6))
    return found
