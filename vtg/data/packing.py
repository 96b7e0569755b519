"""Batches without padding: conversations one after the other in one sequence, and a clip that several ask about once.

    sequences = share([encode(…), encode(…), …])   # rows of one clip become one sequence: the clip, then every query
    batch = pack(sequences)                        # all sequences in one, batch size 1
    model(**attention(batch, implementation="sdpa", dtype=model.dtype))

The loss of a packed batch is the sum of the losses of its conversations, and so are the gradients: a token attends to
the tokens before it of its own conversation and to no other, with the positions that the conversation has alone. A
shared clip is one prefix, encoded and attended to by every query about it, the queries not seeing each other.

What it costs: the model's work grows with the tokens that are there instead of with B times the longest conversation.
Attention is told by a `Layout` (`vtg.data.layout`), or reads where conversations begin off the positions
(FlashAttention), and makes no mask of all tokens by all tokens. Eager attention, and the SDPA of a model that takes no
layout, need one of L x L numbers for a sequence of L tokens and compute all L x L scores.
"""

from collections.abc import Sequence
from typing import Any

import torch

from vtg.data.encoding import IGNORE_INDEX, ITEM, Features, video_end
from vtg.data.layout import ATTENTIONS, LAYOUT, Layout, no_mask
from vtg.data.pixels import join_videos, vision_inputs
from vtg.data.seen_clip import TICKET
from vtg.data.whole_mask import whole_mask
from vtg.errors import ConfigError

TOKENS = ("input_ids", "labels", "attention_mask", "mm_token_type_ids", "position_ids")
"""The features whose last axis is the tokens of a conversation."""


def share(features: Sequence[Features]) -> list[Features]:
    """The conversations with those about the same clip made one, in the order in which their clips first come.

    Rows belong together where pixels, grids and all tokens up to the end of the video are the same. The longest
    beginning that they have in common, short of the token that predicts the first answer token of any of them, stands
    once; what is left of each row follows as a branch, with the positions it has alone.

    Args:
        features: results of `vtg.data.encoding.encode`.

    Returns:
        Features as `encode` returns them. One of several rows has `branches` (L,) int64 besides: 0 on what is shared,
        k on the tokens of the k-th of its rows; its position_ids go back to where the shared part ends with every
        branch, and its pixels are those of one row. A row that shares with no other is returned itself.
    """
    groups = ([features[at] for at in group] for group in groups_by_clip(features))
    return [_shared(group) if len(group) > 1 else group[0] for group in groups]


def groups_by_clip(features: Sequence[Features]) -> list[list[int]]:
    """Which conversations show the same clip after the same words, in the order in which their clips first come."""
    groups: list[list[int]] = []
    for at, row in enumerate(features):
        group = next((group for group in groups if _same_clip(features[group[0]], row)), None)
        if group is None:
            groups.append([at])
        else:
            group.append(at)
    return groups


def _same_clip(one: Features, other: Features) -> bool:
    """Whether two conversations show the same clip after the same words, and neither answers before it ends."""
    end = video_end(one)
    return (
        end == video_end(other)
        and end <= min(_room(one), _room(other))
        and all(torch.equal(one[key][..., :end], other[key][..., :end]) for key in _tokens(one))
        and same_pixels(one, other)
    )


def common_length(rows: Sequence[Features]) -> int:
    """Tokens that conversations begin with alike, short of the one that predicts the first answer token of any."""
    first, length = rows[0], min(_room(row) for row in rows)
    same = torch.ones(length, dtype=torch.bool, device=first["input_ids"].device)
    for row in rows[1:]:
        for key in _tokens(first):
            same &= (row[key][..., :length] == first[key][..., :length]).reshape(-1, length).all(0)
    return int(same.long().cumprod(0).sum())


def pack(features: Sequence[Features]) -> Features:
    """One batch of batch size 1 that holds all conversations, one after the other.

    The tokens of padding frames stay, since the vision tower computes them and its output goes to video tokens in
    their order; nothing attends to them (segment -1).

    Args:
        features: results of `vtg.data.encoding.encode` or of `share`.

    Returns:
        input_ids, labels, mm_token_type_ids (1, L) int64; position_ids (4, 1, L) int64, starting anew with every
        conversation (without the first axis in families without M-RoPE); the pixels of all clips and what tells their
        sizes, as `join_videos` says; segments (1, L) int64:
        which conversation (of `features`), -1 for padding frames; branches (1, L) int64: 0 for what all of a segment
        attend to, k for its k-th query. No label is on the first token of a segment or a branch: the token before it
        belongs to another.
    """
    batch = {
        key: torch.cat([row[key] for row in features], dim=-1).unsqueeze(-2)
        for key in _tokens(features[0])
        if key != "attention_mask"
    }
    batch |= join_videos(features)
    segments, branches = [], []
    for at, row in enumerate(features):
        attended = row["attention_mask"].bool()
        segments.append(torch.where(attended, at, -1))
        branches.append(row.get("branches", torch.zeros_like(row["input_ids"])))
    batch["segments"], batch["branches"] = torch.cat(segments)[None], torch.cat(branches)[None]
    # The token before it is of another conversation, which must not be trained to predict it.
    lengths = torch.tensor([0] + [len(row["input_ids"]) for row in features[:-1]])
    batch["labels"][0, lengths.cumsum(0)] = IGNORE_INDEX
    return batch


def attention(
    batch: Features, *, implementation: str, dtype: torch.dtype, recurrent: bool = False, both_ways: bool = False
) -> dict[str, Any]:
    """A packed batch as the model's forward takes it: `segments` and `branches` become what says who attends to whom.

    - A single conversation needs nothing said: causal attention is the model's own.
    - ATTENTIONS: a `Layout`, by which attention is computed a segment at a time.
    - flash_attention_2: position_ids that start anew say where conversations begin (transformers 5 looks at their first
      row where there is no mask; `cu_seq_lens_q` and its like cannot be given, the vision tower takes them for its
      own). There is no way to say that queries share a clip or that a token is nobody's.
    - sdpa, eager: attention_mask (1, 1, L, L), of L² numbers of `dtype`, once for all layers: `whole_mask`.

    Recurrent layers look at no mask: a model that has them is always told the `Layout`.

    Args:
        batch: a result of `pack`; not changed.
        implementation: the attention of the model, as transformers calls it.
        dtype: in which attention is computed: the model's, or that of autocast where it is on.
        recurrent: whether the model has recurrent layers.
        both_ways: whether the vision tokens of a clip attend to later ones of it.

    Raises:
        ConfigError: an implementation that cannot do it.
    """
    inputs: dict[str, Any] = {key: value for key, value in batch.items() if key not in ("segments", "branches")}
    segments, branches = batch["segments"][0], batch["branches"][0]
    is_shared, is_padded = bool((branches > 0).any()), bool((segments < 0).any())
    if not is_shared and not is_padded and bool((segments == segments[0]).all()):
        return inputs
    is_vision = batch["mm_token_type_ids"][0] > 0 if both_ways else None
    if recurrent or implementation in ATTENTIONS.values():
        inputs[LAYOUT] = Layout.of(segments, branches, is_vision)
    if implementation in ATTENTIONS.values():
        return inputs | {"attention_mask": no_mask(segments.device)}
    # position_ids tell FlashAttention where conversations begin, and nothing else: no mask is passed on.
    if implementation == "flash_attention_2":
        if is_shared or is_padded:
            key, what = (
                ("batching.share_video", "queries that share a clip")
                if is_shared
                else ("video.pad", "padding frames in a packed batch")
            )
            raise ConfigError(
                f"{key} = true: FlashAttention 2 (model.attention = {implementation!r}) has no mask for {what}; "
                f"set model.attention=sdpa, or {key}=false"
            )
        return inputs
    if implementation not in ("sdpa", "eager"):
        raise ConfigError(
            f"model.attention = {implementation!r}: cannot attend within a packed batch; "
            "use sdpa, varlen, flash_attention_2 or eager"
        )
    inputs["attention_mask"] = whole_mask(segments, branches, dtype=dtype, both_ways=is_vision)
    return inputs


def _tokens(features: Features) -> tuple[str, ...]:
    return (*TOKENS, ITEM) if ITEM in features else TOKENS


def same_pixels(one: Features, other: Features) -> bool:
    """Whether two conversations show the same frames, at whatever times."""
    if TICKET in one and TICKET in other:  # of one of them the tower may have seen the clip, and of the other not yet
        return torch.equal(one[TICKET], other[TICKET])
    return all(one[key] is other[key] or torch.equal(one[key], other[key]) for key in reversed(vision_inputs(one)))


def _room(one: Features) -> int:
    """The most tokens of a conversation that may be shared: the next one carries no label, so that no branch begins
    with a token that the shared part predicts."""
    labelled = (one["labels"] != IGNORE_INDEX).nonzero()[:, 0]
    return (int(labelled[0]) if len(labelled) else len(one["labels"])) - 1


def _shared(rows: Sequence[Features]) -> Features:
    """One sequence of rows of the same clip."""
    first, length = rows[0], common_length(rows)
    own = [{key: row[key][..., length:] for key in _tokens(first)} for row in rows]
    shared = {key: torch.cat([first[key][..., :length], *(row[key] for row in own)], dim=-1) for key in own[0]}
    lengths = torch.tensor([length] + [len(row["input_ids"]) for row in own])
    branches = torch.arange(len(lengths)).repeat_interleave(lengths)
    kept = [*vision_inputs(first), *([TICKET] if TICKET in first else [])]
    return shared | {"branches": branches} | {key: first[key] for key in kept}
