"""The bytes that a forward and backward pass, and generation, make besides weights; formulas as in `estimate`."""

from vtg.memory.layer_bytes import NumberSizes, kept_bytes, prefill_bytes, state_bytes, unfreed_bytes, work_bytes
from vtg.memory.parameters import ParameterCounts
from vtg.memory.shape import Shape
from vtg.memory.training_load import Batch, TrainingSetup

# merge_size 2: the projector makes one token of 2 x 2 patches, in both families.
PATCHES_PER_TOKEN = 4
# Processors hand pixels over in float32, whatever the model's dtype.
PIXEL_BYTES = 4

# The tile of logits that TRL's fused head holds at a time: its chunk sizes, so completions of any length cost the same.
FUSED_POSITIONS, FUSED_VOCABULARY = 4096, 32768


def training_work(counts: ParameterCounts, setup: TrainingSetup, batch: Batch, gradients: int) -> int:
    """The peak of gradients and of what one forward and backward pass holds, in bytes."""
    shape, size = counts.shape, NumberSizes.of(counts, setup)
    patches = batch.vision_tokens * PATCHES_PER_TOKEN
    pixels = patches * shape.patch_numbers * PIXEL_BYTES
    rows, length = _sequences(batch)
    tokens = rows * length
    layers = kept_bytes(counts, setup, size, batch, length)
    in_work = tokens * work_bytes(shape, size)
    loss = _loss_bytes(shape, setup, batch)
    if setup.gradient_checkpointing:
        kept = tokens * shape.layers * size.stream * shape.hidden
        # Gradients grow as layer inputs are freed, so only what they exceed those by adds to the peak.
        later = 0 if setup.accumulates else max(0, gradients - kept)
        in_work += tokens * layers.largest + later
        kept += tokens * unfreed_bytes(counts, size)
        mask = _mask_bytes(batch, length, size.each, 1)
    else:
        kept = tokens * layers.kept
        mask = _mask_bytes(batch, length, size.each, shape.attention_layers)
    casts = 0  # autocast's copies of float32 weights: kept for the backward pass, with checkpointing for the forward's
    if setup.mixed and counts.dtype.itemsize == 4:
        casts = 2 * (counts.parameters if counts.rank else counts.trained_parameters)
    if setup.gradient_checkpointing:
        language = kept + mask + max(in_work, loss, casts)
    else:
        language = kept + mask + max(in_work, loss) + casts
    tower, tower_kept = _tower_bytes(counts, setup, size, patches)
    seen = batch.vision_tokens * shape.projections * size.stream * shape.hidden if batch.generations else 0
    language += tower_kept + seen
    head = ("embedding" if shape.tied else "head") in counts.full_parts
    early = shape.vocabulary * shape.hidden * counts.dtype.itemsize if head else 0  # its gradient comes first
    before = gradients if setup.accumulates else 0
    at_end = gradients + (2 * early if shape.tied else 0)  # the two gradients of tied weights, and their sum
    return pixels + max(before + tower + tower_kept, before + language + early, at_end)


def _sequences(batch: Batch) -> tuple[int, int]:
    """Number of rows, and tokens of each, that the language model runs in training."""
    if not batch.generations:
        return batch.rows, batch.length
    if batch.shared:
        return 1, batch.rows * (batch.length + batch.generations * batch.completion)
    return batch.rows * batch.generations, batch.length + batch.completion


def _mask_bytes(batch: Batch, length: int, each: int, layers: int) -> int:
    if batch.generations and batch.shared:
        own = batch.generations * batch.completion
        return batch.rows * own * (batch.length + own) * each
    if batch.packed:
        return length**2 * each  # made once, as it is added
    return batch.rows * length**2 * (1 + each * layers) if batch.masked else 0


def _loss_bytes(shape: Shape, setup: TrainingSetup, batch: Batch) -> int:
    if batch.generations:
        scored = batch.completion if setup.cuda or batch.shared else batch.completion + batch.length
        positions = min(batch.rows * batch.generations * scored, FUSED_POSITIONS)
        return 32 * positions * min(shape.vocabulary, FUSED_VOCABULARY)
    return 12 * batch.logits * shape.vocabulary


def _tower_bytes(counts: ParameterCounts, setup: TrainingSetup, size: NumberSizes, patches: int) -> tuple[int, int]:
    """Peak of the vision tower and its projections, and what of it is saved for the backward pass."""
    shape, s, e = counts.shape, size.stream, size.each
    d, j = shape.tower, shape.tower_mlp
    copied = 8 if e < 4 else 0
    attention = (s + 4 + 4 * e + copied + 16) * d
    work = max(attention, (2 * s + e + 4) * d + 2 * e * j)
    out = s * shape.projections * shape.hidden // PATCHES_PER_TOKEN
    work += out + (e * shape.patch_numbers if e < 4 else 0)
    kept = 0
    if "vision" in counts.trained_parts:
        layer = e * (11 * d + 2 * j) + (16 * d if setup.mixed else 0)
        kept = layer + s * d * shape.tower_layers if setup.gradient_checkpointing else layer * shape.tower_layers
    if counts.trained_parts & {"vision", "projector"}:
        kept += 4 * e * d * shape.projections + out
    return patches * work, patches * kept


def generation_work(counts: ParameterCounts, setup: TrainingSetup, batch: Batch) -> int:
    """Peak bytes of the KV cache, the prefill and the logits while answers are generated."""
    shape, size = counts.shape, NumberSizes.of(counts, setup)
    e = size.stream
    copies = max(batch.generations, 1)
    sequences = batch.rows * copies
    one_layer = sequences * (batch.length + batch.completion) * 2 * shape.keys * e
    # A layer's cache grows by concatenation: old and new are there at once.
    cache = one_layer * shape.attention_layers
    if shape.recurrence:
        cache += sequences * shape.recurrence.layers * state_bytes(shape.recurrence, e)
    together = 1 if batch.generations and batch.shared else sequences
    a_token = prefill_bytes(counts, setup, size)
    patches = batch.vision_tokens * PATCHES_PER_TOKEN
    # An evaluation's pixels stay with its batch; a rollout's are let go once they are encoded.
    pixels = 0 if batch.generations else patches * shape.patch_numbers * e
    forward = together * batch.length * a_token + pixels
    tower = _tower_bytes(counts, setup, size, patches)[0] + patches * shape.patch_numbers * (PIXEL_BYTES + e)
    logits = sequences * shape.vocabulary * 12
    return max(tower, cache + max(forward, one_layer) + logits)
