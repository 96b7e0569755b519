"""The bytes that a forward and backward pass, and generation, make besides weights; formulas as in `estimate`."""

from dataclasses import dataclass

from vtg.memory.parameters import Counted, Shape
from vtg.memory.training_load import Batch, Way

PATCHES_PER_TOKEN = 4
PIXEL_BYTES = 4
"""The processor hands pixels over in float32."""

FUSED_POSITIONS, FUSED_VOCABULARY = 4096, 32768
"""The tile of logits that TRL's fused head holds at a time."""


@dataclass(frozen=True)
class _Bytes:
    """Bytes of a number of the residual stream and of the arithmetic; whether linear layers copy what they read."""

    stream: int
    each: int
    copies: bool

    @classmethod
    def of(cls, counted: Counted, way: Way) -> "_Bytes":
        own = 2 if way.stage else counted.dtype.itemsize
        each = 2 if way.mixed else own
        return cls(own, each, way.mixed and (counted.rank > 0 or own != each))


def training_work(counted: Counted, way: Way, batch: Batch, gradients: int) -> int:
    """The most bytes of gradients and what a forward and backward make."""
    shape, size = counted.shape, _Bytes.of(counted, way)
    patches = batch.vision_tokens * PATCHES_PER_TOKEN
    pixels = patches * shape.patch_numbers * PIXEL_BYTES
    rows, length = _sequences(batch)
    tokens = rows * length
    layer = _layer_bytes(counted, way, size, batch, length)
    copied = 4 * shape.mlp + 8 * shape.hidden if size.copies else 0
    in_work = tokens * (size.each * shape.mlp + 4 * size.stream * shape.hidden + copied)
    loss = _loss_bytes(shape, way, batch)
    if way.gradient_checkpointing:
        kept = tokens * shape.layers * size.stream * shape.hidden
        later = 0 if way.accumulates else max(0, gradients - kept)  # gradients come as what was kept goes
        in_work += tokens * layer + later
        mask = _mask_bytes(batch, length, size.each, 1)
    else:
        kept = tokens * shape.layers * layer
        mask = _mask_bytes(batch, length, size.each, shape.layers)
    casts = 0  # autocast's copies of float32 weights: kept for the backward pass, with checkpointing for the forward's
    if way.mixed and counted.dtype.itemsize == 4:
        casts = 2 * (counted.parameters if counted.rank else counted.trained_parameters)
    if way.gradient_checkpointing:
        language = kept + mask + max(in_work, loss, casts)
    else:
        language = kept + mask + max(in_work, loss) + casts
    tower, tower_kept = _tower_bytes(counted, way, size, patches)
    seen = batch.vision_tokens * shape.projections * size.stream * shape.hidden if batch.generations else 0
    language += tower_kept + seen
    head = "language" in counted.trained_parts and not counted.rank
    early = shape.vocabulary * shape.hidden * counted.dtype.itemsize if head else 0  # its gradient comes first
    before = gradients if way.accumulates else 0
    at_end = gradients + (2 * early if shape.tied else 0)  # the two gradients of tied weights, and their sum
    return pixels + max(before + tower + tower_kept, before + language + early, at_end)


def _sequences(batch: Batch) -> tuple[int, int]:
    """Rows and tokens of each that the language model runs in training."""
    if not batch.generations:
        return batch.rows, batch.length
    if batch.shared:
        return 1, batch.rows * (batch.length + batch.generations * batch.completion)
    return batch.rows * batch.generations, batch.length + batch.completion


def _layer_bytes(counted: Counted, way: Way, size: _Bytes, batch: Batch, length: int) -> int:
    """What a decoder layer keeps of a token for its backward pass."""
    shape, s, e = counted.shape, size.stream, size.each
    h, q, k = shape.hidden, shape.queries, shape.keys
    in_full = not counted.rank and "language" in counted.trained_parts
    total = 8 * h + (5 * e * h if size.copies else 2 * s * h)
    if shape.norms_queries:
        total += 4 * (q + k) + (e * (q + k) if in_full else 0)
    is_shared = batch.generations > 0 and batch.shared
    repeats = (batch.masked or batch.packed or is_shared) and way.attention != "flash_attention_2"
    total += e * (2 * q + 2 * (q if repeats else k)) + 4 * shape.heads
    if is_shared:
        total += e * (2 * k + q)  # the prompt's own, and the pieces put together
    if counted.rank:
        total += 7 * e * counted.rank + (e * q if size.copies else 0)
    if in_full:
        total += 2 * s * h
    if way.attention == "eager":
        total += length * shape.heads * (4 + (e if e < 4 else 0))
    return total + 4 * e * shape.mlp


def _mask_bytes(batch: Batch, length: int, each: int, layers: int) -> int:
    if batch.generations and batch.shared:
        own = batch.generations * batch.completion
        return batch.rows * own * (batch.length + own) * each
    if batch.packed:
        return length**2 * each  # made once, as it is added
    return batch.rows * length**2 * (1 + each * layers) if batch.masked else 0


def _loss_bytes(shape: Shape, way: Way, batch: Batch) -> int:
    if batch.generations:
        scored = batch.completion if way.cuda or batch.shared else batch.completion + batch.length
        positions = min(batch.rows * batch.generations * scored, FUSED_POSITIONS)
        return 32 * positions * min(shape.vocabulary, FUSED_VOCABULARY)
    return 12 * batch.logits * shape.vocabulary


def _tower_bytes(counted: Counted, way: Way, size: _Bytes, patches: int) -> tuple[int, int]:
    """Of the vision tower and its projections: at work, and what is kept until the backward pass."""
    shape, s, e = counted.shape, size.stream, size.each
    d, j = shape.tower, shape.tower_mlp
    copied = 8 if e < 4 else 0
    attention = (s + 4 + 4 * e + copied + 16) * d
    work = max(attention, (2 * s + e + 4) * d + 2 * e * j)
    out = s * shape.projections * shape.hidden // PATCHES_PER_TOKEN
    work += out + (e * shape.patch_numbers if e < 4 else 0)
    kept = 0
    if "vision" in counted.trained_parts:
        layer = e * (11 * d + 2 * j) + (16 * d if way.mixed else 0)
        kept = layer + s * d * shape.tower_layers if way.gradient_checkpointing else layer * shape.tower_layers
    if counted.trained_parts & {"vision", "projector"}:
        kept += 4 * e * d * shape.projections + out
    return patches * work, patches * kept


def answering_work(counted: Counted, way: Way, batch: Batch) -> int:
    """Bytes of the cache, and of the prompts' own forward, while answers are generated."""
    shape, size = counted.shape, _Bytes.of(counted, way)
    s, e = size.stream, size.stream
    copies = max(batch.generations, 1)
    cache = batch.rows * copies * (batch.length + batch.completion) * shape.layers * 2 * shape.keys * e
    one_layer = cache // shape.layers
    together = 1 if batch.generations and batch.shared else batch.rows * copies
    forward = (
        together * batch.length * (2 * e * shape.mlp + 6 * s * shape.hidden + e * 2 * (shape.queries + shape.keys))
    )
    patches = batch.vision_tokens * PATCHES_PER_TOKEN
    tower = _tower_bytes(counted, way, size, patches)[0] + patches * shape.patch_numbers * (PIXEL_BYTES + e)
    logits = batch.rows * copies * shape.vocabulary * 12
    return max(tower, cache + max(forward, one_layer) + logits)
