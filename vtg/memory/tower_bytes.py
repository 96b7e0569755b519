"""What a vision tower and its projector hold, in bytes; D is the tower's width, J its MLP's, s and e as in `estimate`.

Molmo2 differs: the outputs of all N layers of its tower stay until its projector is done, sD (N + 1) a patch, though
that reads two of them. A patch of these F outputs is copied three times (side by side, gathered, masked), 3sFD, and
makes keys and values of width A, 2eA; a vision token 4eI of the projector's MLP of width I, and sH. Trained, the tower
keeps e(7D + 2J + 6r) a layer and patch beside those outputs, and its projector e(FD + 2A) a patch and e(3A + 4I) + sH a
token.
"""

from vtg.memory.layer_bytes import NumberSizes
from vtg.memory.parameters import ParameterCounts
from vtg.memory.training_load import TrainingSetup


def tower_bytes(counts: ParameterCounts, setup: TrainingSetup, size: NumberSizes, patches: int) -> tuple[int, int]:
    """Peak of the vision tower and its projections, and what of it is saved for the backward pass."""
    if counts.shape.pooling:
        return _pooled_tower_bytes(counts, setup, size, patches)
    shape, s, e = counts.shape, size.stream, size.each
    d, j = shape.tower, shape.tower_mlp
    copied = 8 if e < 4 else 0
    attention = (s + 4 + 4 * e + copied + 16) * d
    work = max(attention, (2 * s + e + 4) * d + 2 * e * j)
    out = s * shape.projections * shape.hidden // shape.patches_per_token
    work += out + (e * shape.patch_numbers if e < 4 else 0)
    kept = 0
    if "vision" in counts.trained_parts:
        layer = e * (11 * d + 2 * j) + (16 * d if setup.mixed else 0)
        again = setup.recomputed(shape.tower_layers)
        kept = layer * max(1, shape.tower_layers - again) + s * d * again
    if counts.trained_parts & {"vision", "projector"}:
        kept += 4 * e * d * shape.projections + out
    return patches * work, patches * kept


def _pooled_tower_bytes(
    counts: ParameterCounts, setup: TrainingSetup, size: NumberSizes, patches: int
) -> tuple[int, int]:
    shape, s, e = counts.shape, size.stream, size.each
    assert shape.pooling is not None
    pooling, d, j = shape.pooling, shape.tower, shape.tower_mlp
    width, features = pooling.width, pooling.features * d
    outputs = (shape.tower_layers + 1) * s * d
    token = 4 * e * pooling.mlp + s * shape.hidden
    projector = 3 * s * features + 2 * e * width + token // shape.patches_per_token
    work = max(5 * e * d, 2 * e * (d + j), projector) + (e * shape.patch_numbers if e < 4 else 0)
    kept = 0
    if "vision" in counts.trained_parts:
        layer = e * (7 * d + 2 * j + 6 * counts.rank) + (16 * d if setup.mixed else 0)
        kept = outputs + layer * max(1, shape.tower_layers - setup.recomputed(shape.tower_layers))
    else:
        work += outputs
    if counts.trained_parts & {"vision", "projector"}:
        kept += e * (features + 2 * width) + (3 * e * width + token) // shape.patches_per_token
    return patches * work, patches * kept
