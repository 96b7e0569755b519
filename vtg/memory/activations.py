"""The bytes that a forward and backward pass, and generation, make besides weights; formulas as in `estimate`."""

from dataclasses import replace

from vtg.memory.layer_bytes import (
    NumberSizes,
    gathered_bytes,
    is_masked,
    kept_bytes,
    prefill_bytes,
    state_bytes,
    unfreed_bytes,
    work_bytes,
)
from vtg.memory.parameters import ParameterCounts
from vtg.memory.shape import Shape
from vtg.memory.tower_bytes import tower_bytes
from vtg.memory.training_load import Batch, TrainingSetup

# Processors hand pixels over in float32, whatever the model's dtype.
PIXEL_BYTES = 4

# Tokens of a page on a CPU and on a GPU, as in `vtg.decoding.key_pool`, which needs torch.
PAGE, GPU_PAGE = 128, 512

# The tile of logits that TRL's fused head holds at a time: its chunk sizes, so completions of any length cost the same.
FUSED_POSITIONS, FUSED_VOCABULARY = 4096, 32768


def training_work(counts: ParameterCounts, setup: TrainingSetup, batch: Batch, gradients: int) -> int:
    """The peak of gradients and of what one forward and backward pass holds, in bytes."""
    shape, size = counts.shape, NumberSizes.of(counts, setup)
    batch = _with_mask(batch, shape)
    if shape.both_ways and setup.attention == "flash_attention_2":
        setup = replace(setup, attention="sdpa")  # as `auto` is for such a model
    patches = batch.vision_tokens * shape.patches_per_token
    pixels = patches * shape.patch_numbers * PIXEL_BYTES
    rows, length = _sequences(batch)
    tokens = rows * length
    layers = kept_bytes(counts, setup, size, batch, length)
    in_work = tokens * work_bytes(shape, size) + gathered_bytes(counts, setup, size, batch)
    # The tower's come after the language model's whole backward pass.
    first = gradients - gradients * counts.tower_trained_bytes // counts.trained_bytes
    loss = _loss_bytes(shape, setup, batch)
    merged = counts.merged_experts * size.each
    again = setup.recomputed(shape.layers)
    inputs = tokens * again * size.stream * shape.hidden
    if again == shape.layers:
        kept = inputs
        # Gradients grow as layer inputs are freed, so only what they exceed those by adds to the peak.
        later = 0 if setup.accumulates else max(0, first - kept)
        in_work += tokens * layers.largest + later + _of_a_layer(merged, shape)
        kept += tokens * unfreed_bytes(counts, size)
        mask = _mask_bytes(batch, setup, shape, length, size.each, 1)
    else:
        # Layers that are computed again come after those that keep their activations have given them back.
        share = 1 - again / shape.layers
        kept = inputs + round(share * (tokens * layers.kept + merged))
        kept += round((1 - share) * tokens * unfreed_bytes(counts, size))
        mask = _mask_bytes(batch, setup, shape, length, size.each, round(share * shape.attention_layers))
    casts = 0  # autocast's copies of float32 weights: kept for the backward pass, with checkpointing for the forward's
    if setup.mixed and counts.dtype.itemsize == 4:
        casts = 2 * (counts.parameters if counts.rank else counts.trained_parameters)
    if again == shape.layers:
        language = kept + mask + max(in_work, loss, casts)
    else:
        language = kept + mask + max(in_work, loss) + casts
    tower, tower_kept = tower_bytes(counts, setup, size, patches)
    seen = batch.vision_tokens * shape.projections * size.stream * shape.hidden if batch.generations else 0
    language += tower_kept + seen
    head = ("embedding" if shape.tied else "head") in counts.full_parts
    early = shape.vocabulary * shape.hidden * counts.dtype.itemsize if head else 0  # its gradient comes first
    if counts.token_rows and not head:  # the head's table with its new rows, and the gradient of that
        early = 2 * shape.vocabulary * shape.hidden * counts.dtype.itemsize
    before = gradients if setup.accumulates else 0
    at_end = gradients + (2 * early if shape.tied and head else 0)  # the two gradients of tied weights, and their sum
    last = max(before, first) if "vision" in counts.trained_parts else before  # through the tower, back or forth
    return pixels + max(last + tower + tower_kept, before + language + early, at_end)


def _with_mask(batch: Batch, shape: Shape) -> Batch:
    """The batch with the mask that vision tokens which attend both ways need, padded or not."""
    return replace(batch, masked=True) if shape.both_ways and not batch.packed else batch


def _of_a_layer(merged: int, shape: Shape) -> int:
    """Of the bytes of experts with their adapters added, those of one layer."""
    return merged // shape.experts.layers if shape.experts else 0


def _sequences(batch: Batch) -> tuple[int, int]:
    """Number of rows, and tokens of each, that the language model runs in training."""
    if not batch.generations:
        return batch.rows, batch.length
    if batch.shared:
        return 1, batch.rows * (batch.length + batch.generations * batch.completion)
    return batch.rows * batch.generations, batch.length + batch.completion


def _mask_bytes(batch: Batch, setup: TrainingSetup, shape: Shape, length: int, each: int, layers: int) -> int:
    if batch.generations and batch.shared and setup.attention == "varlen":
        return 0
    if batch.generations and batch.shared:
        own = batch.generations * batch.completion
        return batch.rows * own * (batch.length + own) * each
    if batch.packed and (is_masked(batch, setup) or shape.both_ways):
        # Made once, as it is added; where vision tokens see each other both ways, of every conversation alone.
        parts = 1 if setup.attention == "eager" else batch.conversations or 1
        return parts * (length // parts) ** 2 * each
    return batch.rows * length**2 * (1 + each * layers) if is_masked(batch, setup) else 0


def _loss_bytes(shape: Shape, setup: TrainingSetup, batch: Batch) -> int:
    if batch.generations:
        scored = batch.completion if setup.cuda or batch.shared else batch.completion + batch.length
        positions = min(batch.rows * batch.generations * scored, FUSED_POSITIONS)
        return 32 * positions * min(shape.vocabulary, FUSED_VOCABULARY)
    return 12 * batch.logits * shape.vocabulary


def generation_work(counts: ParameterCounts, setup: TrainingSetup, batch: Batch) -> int:
    """Peak bytes while answers are written: keys of every prompt and row, and the one prompt that is being read."""
    shape, size = counts.shape, NumberSizes.of(counts, setup)
    e, generations = size.stream, max(batch.generations, 1)
    rows = batch.rows * generations
    prompts = batch.rows if batch.shared or not batch.generations else rows
    places = _power_of_two(prompts) * _power_of_two(rows // prompts) if setup.cuda else rows
    a_token = 2 * shape.keys * e * shape.attention_layers
    # An evaluation's length counts the answer.
    written = places * batch.completion if batch.generations else 0
    held = (_paged(prompts, batch.length, rounded=setup.cuda) + written) * a_token
    read = batch.length * a_token
    if shape.recurrence:
        state = shape.recurrence.layers * state_bytes(shape.recurrence, e)
        held, read = held + places * state, read + state
    # Until its last row has ended, a prompt has its clip as the tower made it.
    held += batch.vision_tokens * shape.projections * e * shape.hidden
    mask = batch.length**2 * (1 + e) if shape.both_ways else 0  # and the copy that a layer makes of it to add it
    forward = batch.length * prefill_bytes(counts, size) + mask + _of_a_layer(counts.merged_experts * e, shape)
    patches = batch.vision_tokens // batch.rows * shape.patches_per_token
    tower = tower_bytes(counts, setup, size, patches)[0] + patches * shape.patch_numbers * (PIXEL_BYTES + e)
    logits = rows * shape.vocabulary * 16
    return held + max(tower, read + forward, logits)


def _paged(prompts: int, length: int, *, rounded: bool) -> int:
    """Tokens that keys are held for in the pages of so many prompts, as `vtg.decoding.flight` asks for them.

    `rounded`: on a GPU, where steps are CUDA graphs, of few sizes.
    """
    page = GPU_PAGE if rounded else PAGE
    pages = 1 + prompts * -(-length // page)
    step = max(2, 1 << max(0, pages.bit_length() - 3)) if rounded else 1
    return -(-pages // step) * step * page


def _power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()
