"""Encoded conversations → a padded batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from vtg.data.encoding import IGNORE_INDEX, ITEM, Features
from vtg.data.pixels import join_videos


def collate(features: Sequence[Features], *, pad_token_id: int, padding_side: str = "right") -> Features:
    """A batch of B conversations, padded to the longest; nothing is cut.

    The attention mask is 0 where this padding is, and where a conversation's own mask is 0 (padding frames).

    Args:
        features: results of `vtg.data.encoding.encode`.
        padding_side: "right" for training, "left" for generation.

    Returns:
        input_ids, labels, attention_mask, mm_token_type_ids (B, L) int64; position_ids (4, B, L) int64, or (B, L) in
        families without M-RoPE; the pixels of all clips and what tells their sizes, as `join_videos` says.
    """
    fill = {
        "input_ids": pad_token_id,
        "labels": IGNORE_INDEX,
        "attention_mask": 0,
        "mm_token_type_ids": 0,
        "position_ids": 0,
    }
    fill |= {key: 0 for key in (ITEM,) if key in features[0]}
    length = max(len(row["input_ids"]) for row in features)

    def pad(row: torch.Tensor, value: int) -> torch.Tensor:
        missing = length - row.shape[-1]
        return torch.nn.functional.pad(row, (missing, 0) if padding_side == "left" else (0, missing), value=value)

    batch = {key: torch.stack([pad(row[key], value) for row in features], dim=-2) for key, value in fill.items()}
    return batch | join_videos(features)


def without_padding_mask(batch: Mapping[str, Any]) -> dict[str, Any]:
    """A batch of `collate`, for models with M-RoPE, as causal attention takes it without a mask.

    No token sees what comes after it, and so none sees padding at the end of its row: attention is the same without the
    mask, for which kernels are slower, and the padding's own output is no one's. Where tokens amid a row are padding
    (padding frames) it is returned as it is.
    """
    mask = batch["attention_mask"]
    if bool((mask[:, 1:] > mask[:, :-1]).any()):
        return dict(batch)
    kept = {key: value for key, value in batch.items() if key != "attention_mask"}
    # Without the first row, positions in the text: in those of padding, all 0, transformers sees packed sequences.
    return kept | {"position_ids": batch["position_ids"][1:]}
