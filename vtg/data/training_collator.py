"""Items of a dataset → a batch for training, padded or packed."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from vtg.config.data_settings import BatchingConfig
from vtg.config.derived import is_packed
from vtg.data.encoding import IGNORE_INDEX
from vtg.data.grounding_dataset import GroundingItem
from vtg.data.packing import pack, share
from vtg.data.padding import collate


class TrainingCollator:
    """Items of a training `GroundingDataset` as a padded batch, with what was left out and what the clips cost."""

    def __init__(self, pad_token_id: int, batching: BatchingConfig) -> None:
        self.pad_token_id, self.batching = pad_token_id, batching

    def __call__(self, items: Sequence[GroundingItem]) -> dict[str, Any]:
        """A batch as `vtg.data.padding.collate` or `vtg.data.packing.pack` says, and three entries more.

        `rows`: a list of BatchRow. `skipped`: a list of Skipped. `counts`: a Counter of the clips, and of `samples`
        with labels, `batches`, `tokens` that are attended to and `slots`, tokens that are computed.
        """
        features = [item.features for item in items]
        batch: dict[str, Any]
        if is_packed(self.batching):
            batch = pack(share(features) if self.batching.share_video else features)
            tokens = int((batch["segments"] >= 0).sum())
        else:
            batch = collate(features, pad_token_id=self.pad_token_id)
            tokens = int(batch["attention_mask"].sum())
        batch["rows"] = [item.row for item in items]
        batch["skipped"] = [item.skipped for item in items if item.skipped is not None]
        samples = sum(bool((one["labels"] != IGNORE_INDEX).any()) for one in features)
        slots = batch["input_ids"].numel()
        own = Counter(samples=samples, batches=1, tokens=tokens, slots=slots)
        batch["counts"] = sum((item.counts for item in items), own)
        return batch
