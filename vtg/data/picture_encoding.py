"""A conversation about still pictures, or about nothing to be seen → what a model reads."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from transformers import ProcessorMixin

from vtg.data.encoding import Features, checked_text, run_positions
from vtg.errors import SampleError
from vtg.models.families import family_of


def encode_pictures(
    processor: ProcessorMixin,
    messages: list[dict[str, Any]],
    pictures: Sequence[Image.Image],
    *,
    max_length: int | None = None,
) -> Features:
    """A conversation that ends with the user's turn, as `vtg.data.encoding.encode` makes it, without labels.

    Args:
        messages: as `encode` takes them, with a content part of type "image" for each of the pictures.
        pictures: of any size; the processor makes them as small as its model takes.

    Returns:
        input_ids, attention_mask, mm_token_type_ids (L,) int64; position_ids (4, L) int64, or (L,) in families without
        M-RoPE; what the processor makes of the pictures.

    Raises:
        SampleError: text that holds special tokens, or more than `max_length` tokens.
    """
    text = checked_text(processor, messages, "the question")
    call: Any = processor  # its signature lists no keywords of the image processor
    shown = {"images": list(pictures)} if pictures else {}
    out = call(text=[text], return_mm_token_type_ids=True, return_tensors="pt", **shown)
    ids, kinds = out["input_ids"][0], out["mm_token_type_ids"][0].long()
    if max_length is not None and len(ids) > max_length:
        seen = f"{len(ids)} tokens ({int((kinds > 0).sum())} of them of {len(pictures)} pictures)"
        raise SampleError(f"the question has {seen}, but the model takes {max_length}; show it fewer frames")
    family = family_of(processor)
    positions = torch.arange(len(ids))
    if family.mrope:
        positions = _positions(kinds, out.get("image_grid_thw"), merge_size=family.grid_merge)
    rest = {name: value for name, value in out.items() if name not in ("input_ids", "attention_mask")}
    return rest | {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": kinds,
        "position_ids": positions,
    }


def _positions(kinds: torch.Tensor, grids: torch.Tensor | None, *, merge_size: int) -> torch.Tensor:
    """M-RoPE positions (4, L), of pictures, which have no time.

    Args:
        kinds: (L,) 0 for text, which parts every two pictures.
        grids: (pictures, 3): 1, and patch rows and columns before merging.
    """
    left = iter([] if grids is None else grids.tolist())

    def axes_of(length: int) -> tuple[torch.Tensor, int, int]:
        _, rows, columns = next(left)
        return torch.zeros(1), rows // merge_size, columns // merge_size

    return run_positions(kinds, axes_of)
