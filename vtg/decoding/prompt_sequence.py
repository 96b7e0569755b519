"""Prompts with a video, and how they stand in a sequence: what those about one clip begin with alike, once.

    prompts = beginning_alike([Prompt(features, encoded), …])
    inputs = Sequenced.of(prompts).inputs()              # each clip once, then each question

`vtg.decoding.shared_prefix` puts completions after them.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from vtg.data.encoding import Features
from vtg.data.layout import LAYOUT, Layout, no_mask
from vtg.data.packing import common_length, groups_by_clip
from vtg.data.pixels import PIXELS, join_videos
from vtg.decoding.completion_tree import CompletionTree
from vtg.video.clip import Clip

TOKENS = ("input_ids", "attention_mask", "mm_token_type_ids", "position_ids")
"""The features whose last axis is the tokens of a prompt."""


@dataclass(frozen=True)
class Prompt:
    """A prompt of P tokens: features of `vtg.data.encoding.encode`, on the model's device.

    `encoded`: what `encode_video` made of its clip, or None where the vision tower is to see the pixels.
    `clip`: what it asks about, kept where another engine than transformers' is to read it.
    `duration_s`: of that clip, which bounds the times of an answer.
    `common`: how many tokens at its beginning other prompts have too, which it `begins_as`; the whole clip is among
    them, and they are fewer than P - 1. 0: it begins as nobody else.
    `group`: the same object in all that begin alike, where clips of the same pixels may have other times.
    """

    features: Features
    encoded: torch.Tensor | None = None
    clip: Clip | None = None
    duration_s: float = math.nan
    common: int = 0
    group: object = None

    @property
    def shown(self) -> torch.Tensor:
        """Its clip, encoded or as pixels: the same tensor, and not an equal one, tells prompts of one clip."""
        return self.features[PIXELS] if self.encoded is None else self.encoded

    @property
    def beginning(self) -> tuple[int, int, int]:
        """Equal in prompts that begin alike, as long as these are there."""
        return id(self.shown), id(self.group), self.common

    def begins_as(self, other: "Prompt") -> bool:
        """Whether it has its `common` tokens, and their clip, in common with another."""
        return self.common > 0 and self.beginning == other.beginning

    def inputs(self) -> Features:
        """The features, with the clip encoded where it is."""
        return self.features if self.encoded is None else self.features | {PIXELS: self.encoded}


def beginning_alike(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The prompts, those about the same clip with what they have in `common`: at least all up to the clip's end.

    None have where padding lies among their tokens, which recurrent layers would have to be told of.
    """
    found = list(prompts)
    whole = [at for at, prompt in enumerate(prompts) if bool(prompt.features["attention_mask"].all())]
    for group in groups_by_clip([prompts[at].features for at in whole]):
        if len(group) > 1:
            alike = [whole[at] for at in group]
            rows = [prompts[at].features for at in alike]
            # Before a prompt's last token, which begins its completions, a question of one token at least.
            common = min(common_length(rows), *(len(row["input_ids"]) - 2 for row in rows))
            same = object()
            for at in alike:
                found[at] = replace(prompts[at], common=common, group=same)
    return found


@dataclass(frozen=True)
class Sequenced:
    """Prompts without their last tokens, as they stand in a sequence: all heads, then all questions.

    Attributes:
        groups: which prompts each head is the beginning of: those about one clip, or one alone.
        heads: what the prompts of a group have in common, or a whole prompt: its features along the tokens.
        questions: what is left of the prompts that share a head.
        parents: of each head and question the number of the part that it goes on from, -1 of a head.
        last: of each prompt the part that it ends with.
    """

    prompts: Sequence[Prompt]
    groups: list[list[int]]
    heads: list[Features]
    questions: list[Features]
    parents: list[int]
    last: list[int]

    @property
    def parts(self) -> list[Features]:
        """All heads, then all questions."""
        return [*self.heads, *self.questions]

    def parts_of(self, prompt: int) -> tuple[int, ...]:
        """The numbers of the parts that a prompt consists of, in order."""
        last = self.last[prompt]
        return (last,) if self.parents[last] < 0 else (self.parents[last], last)

    @classmethod
    def of(cls, prompts: Sequence[Prompt]) -> "Sequenced":
        by_clip: dict[object, list[int]] = {}
        for at, prompt in enumerate(prompts):
            by_clip.setdefault(prompt.beginning if prompt.common else at, []).append(at)
        groups, heads, questions = list(by_clip.values()), list[Features](), list[Features]()
        parents, last = [-1] * len(groups), [0] * len(prompts)
        for number, group in enumerate(groups):
            first = prompts[group[0]]
            common = first.common if len(group) > 1 else -1
            heads.append(_part_of(first, slice(common)))
            for at in group:
                last[at] = number
                if len(group) > 1:
                    questions.append(_part_of(prompts[at], slice(common, -1)))
                    last[at] = len(parents)
                    parents.append(number)
        return cls(prompts, groups, heads, questions, parents, last)

    def inputs(self, trees: Sequence[CompletionTree] = (), *, both_ways: bool = False) -> dict[str, Any]:
        """What the model's forward takes: the prompts, and after all of them the completions of each; () for none.

        `both_ways`: as `vtg.decoding.shared_prefix.shared_batch` takes it.
        """
        parts, parents = self.parts, list(self.parents)
        lengths = [len(part["input_ids"]) for part in parts]
        for tree, prompt, last in zip(trees, self.prompts, self.last, strict=bool(trees)):
            parents += [last if parent < 0 else len(lengths) + parent for parent in tree.parents]
            lengths += tree.lengths
            parts.append(_tokens_after(prompt, tree))
        batch = {key: torch.cat([part[key] for part in parts], dim=-1) for key in TOKENS}
        attended = batch.pop("attention_mask")
        numbers = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
        which = numbers.to(attended.device).masked_fill(attended == 0, -1)
        is_vision = batch["mm_token_type_ids"] > 0 if both_ways else None
        return {
            **{key: value.unsqueeze(-2) for key, value in batch.items()},
            "attention_mask": no_mask(which.device),
            **join_videos([self.prompts[group[0]].inputs() for group in self.groups]),
            LAYOUT: Layout.of_parts(which, parents, is_vision),
        }

    def places(self, trees: Sequence[CompletionTree]) -> torch.Tensor:
        """(rows, C) int64: from which token of the sequence each token of the completions is predicted."""
        before = sum(len(part["input_ids"]) for part in self.parts)
        starts = itertools.accumulate((len(tree.ids) for tree in trees), initial=before)
        places = torch.cat([start + tree.places for start, tree in zip(starts, trees, strict=False)])
        return places.clamp(max=before + sum(len(tree.ids) for tree in trees) - 1)  # of those of no tokens


def _part_of(prompt: Prompt, tokens: slice) -> Features:
    return {key: prompt.features[key][..., tokens] for key in TOKENS}


def _tokens_after(prompt: Prompt, tree: CompletionTree) -> Features:
    last = prompt.features["position_ids"][..., -1:]
    return {
        "input_ids": tree.ids,
        "attention_mask": torch.ones_like(tree.ids),
        "mm_token_type_ids": torch.zeros_like(tree.ids),
        "position_ids": last + tree.depths,
    }
