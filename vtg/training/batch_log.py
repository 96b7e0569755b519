"""Log lines about batches: at the start what they are filled up to, and at every entry how large they were."""

import logging
from typing import Any

import torch

log = logging.getLogger(__name__)


def log_target(
    by: str, *, limit: float, mean_s: float, expected: float, accumulation: int, ranks: int, of: str
) -> None:
    """Logs what batches are to hold.

    Args:
        by: `batching.by`.
        limit: seconds, tokens or samples of a batch, as `batching.by` counts.
        mean_s: mean duration of the clips.
        expected: mean number of samples (of prompts) of a batch on one rank.
        of: what is counted: samples, clips or prompts.
    """
    target = {"duration": f"{limit:g} s of video", "tokens": f"{limit:.0f} tokens"}.get(by, f"{limit:.0f} {of}")
    log.info(
        "batches (batching.by = %s): target %s, gradient accumulation %d, world size %d; clips of %.1f s on average; "
        "expected: %.1f %s a batch, %.1f an optimizer step",
        *(by, target, accumulation, ranks, mean_s, expected, of, expected * accumulation * ranks),
    )


class BatchSizes:
    """The sizes of this rank's batches since the last log entry."""

    def __init__(self) -> None:
        self._sizes: list[int] = []

    def add(self, size: int) -> None:
        self._sizes.append(size)

    def take(self, accelerator: Any) -> dict[str, float]:
        """Mean, least and most samples of a batch, of all ranks; {} without batches. Every rank has to call it."""
        sizes, self._sizes = self._sizes, []
        # The least negated, so that one maximum over ranks serves both; a rank without batches must not win it.
        mine = torch.tensor([[sum(sizes), len(sizes), -min(sizes, default=1 << 30), max(sizes, default=0)]])
        ranks = accelerator.gather(mine.to(accelerator.device)).cpu()
        total, count = ranks[:, :2].sum(0).tolist()
        least, most = ranks[:, 2:].max(0).values.tolist()
        if not count:
            return {}
        return {"batch/samples": total / count, "batch/samples_min": -least, "batch/samples_max": most}
