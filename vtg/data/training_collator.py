"""Items of a dataset → a batch for training, padded or packed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vtg.annotations.joined_tables import SOURCE
from vtg.config.data_settings import BatchingConfig
from vtg.config.derived import is_packed
from vtg.data.encoding import IGNORE_INDEX, ITEM, Features
from vtg.data.grounding_dataset import GroundingItem
from vtg.data.packing import pack, share
from vtg.data.padding import collate
from vtg.data.pixels import PIXELS, vision_inputs
from vtg.data.seen_clip import TICKET
from vtg.tasks.all_tasks import SPAN

NO_PIXELS = torch.empty(0)


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """The tokens of an answer that a batch trains on, the length of the clip that it is about, and its task."""

    ids: tuple[int, ...]
    duration_s: float
    task: str = SPAN


class TrainingCollator:
    """Items of a training `GroundingDataset` as a padded batch, with what was left out and what the clips cost.

    `parts_clips`: the batch has `clips`, a list of what the vision tower reads or has made of each, in place of all
    their pixels joined.
    """

    def __init__(self, pad_token_id: int, batching: BatchingConfig, *, parts_clips: bool = False) -> None:
        self.pad_token_id, self.batching, self.parts_clips = pad_token_id, batching, parts_clips

    def __call__(self, items: Sequence[GroundingItem]) -> dict[str, Any]:
        """A batch as `vtg.data.padding.collate` or `vtg.data.packing.pack` says, and five entries more.

        `rows`: a list of BatchRow. `answers`: a LabelledAnswer for each unbroken run of labels, row by row. `skipped`:
        a list of Skipped. `counts`: how many clips, `samples` with labels, `batches`, `tokens` that are attended to and
        `slots`, tokens that are computed. `drawn`: how many samples with labels, and how many tokens they have, of each
        source of a mixture: `NAME/samples`, `NAME/tokens`. Both are plain dicts: PyTorch pins a mapping's copy by its
        `update`, which in a Counter adds, so that every number would be twice what it is.
        """
        # Of labels alone: what rows that share their clip have in common must be the same in all of them.
        features = [
            item.features | {ITEM: at * (item.features["labels"] != IGNORE_INDEX).long()}
            for at, item in enumerate(items)
        ]
        sequences = share(features) if is_packed(self.batching) and self.batching.share_video else features
        clips = [_clip(sequence) for sequence in sequences]
        if self.parts_clips:
            sequences = [sequence | {PIXELS: NO_PIXELS} for sequence in sequences]
        batch: dict[str, Any]
        if is_packed(self.batching):
            batch = pack(sequences)
            tokens = int((batch["segments"] >= 0).sum())
        else:
            batch = collate(sequences, pad_token_id=self.pad_token_id)
            tokens = int(batch["attention_mask"].sum())
        if self.parts_clips:
            batch["clips"] = clips
        batch["answers"] = _answers(batch["labels"], batch.pop(ITEM), items)
        batch["rows"] = [item.row for item in items]
        batch["skipped"] = [item.skipped for item in items if item.skipped is not None]
        is_labelled = [bool((one["labels"] != IGNORE_INDEX).any()) for one in features]
        batch["drawn"] = dict(_drawn([item for item, labelled in zip(items, is_labelled, strict=True) if labelled]))
        samples = sum(is_labelled)
        slots = batch["input_ids"].numel()
        own = Counter(samples=samples, batches=1, tokens=tokens, slots=slots)
        batch["counts"] = {"samples": 0} | sum((item.counts for item in items), own)  # a Counter's sum leaves 0 out
        return batch


def _clip(features: Features) -> Features:
    return {name: features[name] for name in (*vision_inputs(features), TICKET) if name in features}


def _drawn(items: Sequence[GroundingItem]) -> Counter[str]:
    drawn = Counter[str]()
    for item in items:
        if (name := item.sample.metadata.get(SOURCE)) is not None:
            drawn += Counter({f"{name}/samples": 1, f"{name}/tokens": item.row.tokens})
    return drawn


def _answers(labels: torch.Tensor, item_of: torch.Tensor, items: Sequence[GroundingItem]) -> list[LabelledAnswer]:
    """The answers of labels (B, L), in their order: before each stands its prompt, which has no labels.

    `item_of`: (B, L), of which item each label is.
    """
    found = []
    for row, numbers in zip(labels, item_of, strict=True):
        places = (row != IGNORE_INDEX).nonzero()[:, 0]
        breaks = (places.diff() > 1).nonzero()[:, 0] + 1
        for run in places.tensor_split(breaks.tolist()) if len(places) else ():
            item = items[int(numbers[run[0]])]
            found.append(LabelledAnswer(tuple(row[run].tolist()), item.row.duration_s, item.sample.target.task))
    return found
