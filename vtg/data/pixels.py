"""The pixels of the clips of a batch, by the names that each family of models gives them."""

from collections.abc import Sequence

import torch

from vtg.data.encoding import Features
from vtg.models.families import FAMILIES

PIXELS = "pixel_values_videos"
"""What every family calls the pixels of clips."""

# Of still pictures, as Qwen-VL has them: they are asked about, and not trained on.
PICTURES = ("pixel_values", "image_grid_thw")

NAMES = (*dict.fromkeys(name for family in FAMILIES.values() for name in family.vision_inputs), *PICTURES)

# Their numbers count patches from the first of the batch, so those of a later clip are moved by what is before it.
COUNTED = {family.pooling for family in FAMILIES.values()} - {None}


def vision_inputs(features: Features) -> list[str]:
    """The names of what a conversation has beside its tokens: pixels, and what tells their sizes."""
    return [name for name in NAMES if name in features]


def join_videos(rows: Sequence[Features]) -> Features:
    """The pixels of several conversations as those of one batch, clip after clip.

    Qwen-VL: pixel_values_videos (all patches, features); video_grid_thw (clips, 3). Molmo2: pixel_values_videos (all
    frames, patches, features); video_token_pooling (all tokens, patches of a token), -1 for none; video_grids (clips,
    3).
    """
    if len(rows) == 1:  # torch.cat would copy the pixels, the largest input
        return {name: rows[0][name] for name in vision_inputs(rows[0])}
    return {
        name: torch.cat(_moved([row[name] for row in rows]) if name in COUNTED else [row[name] for row in rows])
        for name in vision_inputs(rows[0])
    }


def _moved(indices: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Indices of patches, each clip's counted on from those of the clip before; -1 stays."""
    moved, before = [], 0
    for one in indices:
        moved.append(torch.where(one >= 0, one + before, one))
        before += int(one.max()) + 1  # each patch of a clip is in one of its tokens
    return moved
