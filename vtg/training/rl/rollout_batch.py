"""A rollout with its completions: their prompts, the tensors that TRL makes of them, and which rows carry loss."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from vtg.annotations.joined_tables import SOURCE
from vtg.data.grounding_dataset import GroundingItem
from vtg.decoding.prompt_sequence import Prompt

Tensors = dict[str, torch.Tensor]


def drawn_of(items: Sequence[GroundingItem], completion_tokens: Sequence[int]) -> Counter[str]:
    """Prompts of each source of a mixture, and the tokens of each once and of all its completions, as `DrawnSources`
    counts them; stand-ins of clips that could not be read are not among them.
    """
    drawn = Counter[str]()
    for item, tokens in zip(items, completion_tokens, strict=True):
        if item.skipped is None and (name := item.sample.metadata.get(SOURCE)) is not None:
            drawn += Counter({f"{name}/samples": 1, f"{name}/tokens": item.row.tokens + tokens})
    return drawn


@dataclass(frozen=True)
class MicroBatch:
    """The prompts of one micro-batch, and which rows of a rollout are theirs: `generations` for each, in order."""

    prompts: list[Prompt]
    rows: slice
    generations: int

    @property
    def alone(self) -> "MicroBatch":
        """The micro-batch by itself: its rows start at 0."""
        return MicroBatch(self.prompts, slice(0, self.rows.stop - self.rows.start), self.generations)


@dataclass
class SampledRollout:
    """A rollout with its completions, of this rank.

    Attributes:
        indices: of the samples, a list for each micro-batch.
        batches: their prompts.
        tensors: of all rows (completion_ids, completion_mask, advantages …), as TRL makes them.
        live: (rows,) bool, which rows carry loss.
        live_rows: of each micro-batch, on all ranks together; known once the loss was taken off the other rows.
    """

    indices: list[list[int]]
    batches: list[MicroBatch]
    tensors: Tensors
    live: torch.Tensor
    live_rows: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Prompts are in `batches`: TRL only concatenates these with the completions.
        self.tensors["prompt_ids"] = self.tensors["prompt_mask"] = self.tensors["completion_ids"][:, :0]

    @property
    def length(self) -> int:
        """Tokens of the longest completion, to which all are padded."""
        return self.tensors["completion_ids"].shape[1]

    def inputs(self, at: int) -> dict[str, Any]:
        """What the loss of micro-batch `at` is made of."""
        rows = self.batches[at].rows
        return {key: value[rows] if value.ndim else value for key, value in self.tensors.items()}

    def replace_groups_without_loss(
        self, fresh: "SampledRollout", padded: Callable[[str, torch.Tensor, int], torch.Tensor]
    ) -> None:
        """Puts live groups of `fresh` in the place of groups without loss, within each micro-batch.

        Args:
            fresh: prompts of the same micro-batches.
            padded: key, tensor and a number of tokens → the tensor, padded to so many.
        """
        # The two rounds were padded to different lengths.
        longest = max(self.length, fresh.length)
        for rollout in (self, fresh):
            rollout.tensors = {key: padded(key, value, longest) for key, value in rollout.tensors.items()}
        # Within a micro-batch only: its prompts were planned to fit in memory together.
        for at, batch in enumerate(self.batches):
            g = batch.generations
            groups = range(batch.rows.start // g, batch.rows.stop // g)
            spare = [group for group in groups if fresh.live[group * g]]
            for group in groups:
                if not self.live[group * g] and spare:
                    other, place = spare.pop(0), group - groups.start
                    batch.prompts[place] = fresh.batches[at].prompts[other - groups.start]
                    self.indices[at][place] = fresh.indices[at][other - groups.start]
                    to, of = slice(group * g, group * g + g), slice(other * g, other * g + g)
                    self.live[to] = True
                    for key, value in self.tensors.items():
                        if value.ndim:
                            value[to] = fresh.tensors[key][of]

    def saved(self) -> Tensors:
        """Tensors that `SavedRollout` reads back. Without prompts: clips are large, and are encoded again on resume."""
        # safetensors refuses tensors that are not contiguous.
        tensors = {key: value.contiguous() for key, value in self.tensors.items() if not key.startswith("prompt_")}
        prompts = [prompt for batch in self.batches for prompt in batch.prompts]
        # What they share: where some came in place of others, not all that could.
        groups = {beginning: number for number, beginning in enumerate({prompt.beginning for prompt in prompts})}
        return tensors | {
            "indices": torch.tensor([index for batch in self.indices for index in batch]),
            "common": torch.tensor([prompt.common for prompt in prompts]),
            "groups": torch.tensor([groups[prompt.beginning] for prompt in prompts]),
            "live": self.live,
            "live_rows": torch.tensor(self.live_rows),
        }


class SavedRollout:
    """A rollout restored from a checkpoint, still without its prompts.

    Attributes:
        shared: of each prompt what says which others it shares its clip with.
    """

    def __init__(self, tensors: Tensors) -> None:
        self.tensors = dict(tensors)
        self.indices: list[int] = self.tensors.pop("indices").tolist()
        # In a checkpoint from before prompts shared clips there is none of either.
        common, groups = (self.tensors.pop(key, torch.tensor([])).tolist() for key in ("common", "groups"))
        objects = [object() for _ in groups]
        self.shared: list[dict[str, Any]] = [
            {"common": length, "group": objects[number]} for length, number in zip(common, groups, strict=True)
        ]
        self.live = self.tensors.pop("live")
        self.live_rows: list[int] = self.tensors.pop("live_rows").tolist()

    def with_prompts(
        self, sizes: list[int], prompts: Callable[[list[int]], list[Prompt]], generations: int
    ) -> SampledRollout:
        """The rollout again.

        Args:
            sizes: prompts of each micro-batch.
            prompts: indices of samples → their prompts.
            generations: completions of each.
        """
        left: Iterator[int] = iter(self.indices)
        indices = [[next(left) for _ in range(size)] for size in sizes]
        shared = iter(self.shared)
        batches, start = [], 0
        for batch in indices:
            stop = start + len(batch) * generations
            own = [replace(prompt, **next(shared, {})) for prompt in prompts(batch)]
            batches.append(MicroBatch(own, slice(start, stop), generations))
            start = stop
        return SampledRollout(indices, batches, self.tensors, self.live, self.live_rows)
