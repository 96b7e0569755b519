"""What the layers of a language model keep for their backward pass, and what they make meanwhile, in bytes a token.

H is the hidden size, s and e the bytes of a number of the residual stream and of the arithmetic; formulas of attention
and MLP are in `vtg.memory.estimate`. A Gated DeltaNet layer computes PyTorch's delta rule in float32, in chunks of 64
tokens (v heads of values, K keys and V values over all of these heads, C = queries, keys and values as projected):

- kept: 2eC of the convolution; 20v64 of products of a chunk's tokens with one another (14v64 in half precision, which
  casts matrix products); 28V + 2eV of values, gate and norm; 38K of queries and keys (48K where all
  is float32: copies that are laid out anew); the state after each chunk, 4KV/64v (twice in half precision).
- A mixture of experts keeps, for each of the k that a token is sent to, eH + 3eI of I its MLP's width (where experts
  are trained, adapted too, eH + eI more), and of an expert for all tokens eH + 4eI. Adapters of experts are added to
  all weights of a layer's experts, for every token alike: once more those weights, in e, for each layer.

flash-linear-attention, where it is installed, keeps less than the delta rule does here.
"""

from dataclasses import dataclass

from vtg.memory.parameters import ParameterCounts
from vtg.memory.shape import Experts, Recurrence, Shape
from vtg.memory.training_load import Batch, TrainingSetup
from vtg.models.attention import GATHERED_KEYS

# Of PyTorch's chunked delta rule: products of the tokens of a chunk are made for all chunks at once.
CHUNK = 64


@dataclass(frozen=True)
class NumberSizes:
    """Bytes of an element of the residual stream and of the arithmetic; whether linear layers copy their inputs."""

    stream: int
    each: int
    copies: bool
    mixed: bool

    @classmethod
    def of(cls, counts: ParameterCounts, setup: TrainingSetup) -> "NumberSizes":
        own = 2 if setup.stage else counts.dtype.itemsize
        each = 2 if setup.mixed else own
        return cls(own, each, setup.mixed and own != each, setup.mixed)


@dataclass(frozen=True)
class LayerBytes:
    """Bytes a token: `kept` by all layers together, `largest`: by one of them at most."""

    kept: int
    largest: int


def kept_bytes(
    counts: ParameterCounts, setup: TrainingSetup, size: NumberSizes, batch: Batch, length: int
) -> LayerBytes:
    """What the decoder layers save for their backward pass."""
    shape, h = counts.shape, counts.shape.hidden
    in_full = "language" in counts.full_parts
    norms = (2 * size.stream if setup.fused else 8) * h
    if in_full and not setup.fused:
        norms += 8 * h if shape.recurrence else 2 * size.stream * h  # Qwen3.5 multiplies by its weights in float32
    mixers = [(_attention_kept(counts, setup, size, batch, length), shape.attention_layers)]
    mlps = []
    if shape.recurrence:
        mixers.append((_recurrent_kept(counts, size, shape.recurrence), shape.recurrence.layers))
    if shape.plain_mlps:
        adapters = 3 * size.each * counts.rank
        wide = (3 if setup.fused else 4) * size.each * shape.mlp
        mlps.append((_linear_inputs(counts, size, 2) + adapters + wide, shape.plain_mlps))
    if shape.experts:
        mlps.append((_experts_kept(counts, size, shape.experts), shape.experts.layers))
    total = sum(each * layers for each, layers in (*mixers, *mlps))
    return LayerBytes(total + norms * shape.layers, norms + max(mixers)[0] + max(mlps)[0])


def is_masked(batch: Batch, setup: TrainingSetup) -> bool:
    """Whether attention is told by a mask of all tokens of a row by all of them."""
    if setup.attention == "eager":
        return batch.masked or batch.packed or batch.rows > 1
    return batch.masked and setup.attention != "flash_attention_2"


def gathered_bytes(counts: ParameterCounts, setup: TrainingSetup, size: NumberSizes, batch: Batch) -> int:
    """Keys and values of prompts as one layer gathers them under varlen, for each completion, and their gradients."""
    if setup.attention != "varlen" or not batch.generations or not batch.shared:
        return 0
    alone = batch.length + batch.completion
    keys = min(batch.rows * batch.generations * alone, max(alone, GATHERED_KEYS))
    return 2 * 2 * size.each * counts.shape.keys * keys


def unfreed_bytes(counts: ParameterCounts, size: NumberSizes) -> int:
    """What all layers keep for their backward pass in spite of gradient checkpointing.

    bitsandbytes' 8-bit layers hold their inputs as plain attributes of the autograd node, which checkpointing does not
    see (bitsandbytes 0.50, `MatMul8bitLt`): 17 of the 29 GB that an H200 took for 12,500 tokens of Qwen3-VL-4B's shape.
    """
    if counts.quantization != "8bit":
        return 0
    shape = counts.shape
    # Queries, keys and values read one input, gate and up another.
    inputs = shape.layers * shape.hidden + shape.attention_layers * shape.queries
    inputs += shape.plain_mlps * (shape.hidden + shape.mlp)
    if shape.recurrence:
        inputs += shape.recurrence.layers * shape.recurrence.values
    if shape.experts and shape.experts.shared:
        inputs += shape.experts.layers * (shape.hidden + shape.experts.shared)
    return size.each * inputs


def _linear_inputs(counts: ParameterCounts, size: NumberSizes, readers: int) -> int:
    """What so many linear layers that read the same input save of it."""
    h = counts.shape.hidden
    return readers * size.each * h if size.copies else size.stream * h


def _attention_kept(counts: ParameterCounts, setup: TrainingSetup, size: NumberSizes, batch: Batch, length: int) -> int:
    shape, e = counts.shape, size.each
    q, k = shape.queries, shape.keys
    total = _linear_inputs(counts, size, 3)
    if shape.norms_queries:
        total += (e if setup.fused else 4) * (q + k)
        if "language" in counts.full_parts and not setup.fused:
            total += 4 * (q + k) if shape.recurrence else e * (q + k)
    if shape.recurrence:  # the gate, what attention made as it is multiplied, and the product
        total += 3 * e * q
        if e == 4:
            total += 4 * q  # queries are seen where they were projected, beside their gate
    is_shared = batch.generations > 0 and batch.shared
    # transformers uses SDPA's grouped keys without a mask alone: with one it repeats them to the number of query heads.
    in_chunks = is_shared and setup.attention != "varlen"
    repeats = is_masked(batch, setup) or in_chunks or (shape.both_ways and batch.packed)
    total += e * (2 * q + 2 * (q if repeats else k)) + 4 * shape.heads
    if is_shared:
        total += e * (2 * k + q)  # the prompt's own, and the pieces put together
    if counts.rank:
        total += 4 * e * counts.rank
    if setup.attention == "eager":
        total += length * shape.heads * (4 + (e if e < 4 else 0))
    return total


def _recurrent_kept(counts: ParameterCounts, size: NumberSizes, layer: Recurrence) -> int:
    e, is_half = size.each, size.each == 2  # then products are autocast (`vtg.models.recurrence`)
    product, each_key = (2, 38) if is_half else (4, 48)
    total = _linear_inputs(counts, size, 4) + 2 * e * layer.mixed
    total += layer.value_heads * CHUNK * (8 + 3 * product)
    total += layer.values * (20 + 2 * e + product * (2 if is_half else 1))
    total += layer.keys * each_key + layer.state // CHUNK * (8 if is_half else 4)
    if "language" in counts.full_parts:
        total += e * layer.values
    # Gates and decays, sums of squares and their like: a dozen numbers a head.
    return total + 48 * layer.value_heads + 5 * e * counts.rank


def _experts_kept(counts: ParameterCounts, size: NumberSizes, experts: Experts) -> int:
    h, e = counts.shape.hidden, size.each
    learns = "experts" in counts.full_parts or counts.merged_experts > 0
    routed = experts.chosen * e * (h + 3 * experts.mlp)
    # Three indices of 8 bytes for each choice, its weight; what the router made, in float32.
    routed += experts.chosen * 36 + 4 * experts.number
    if learns:
        routed += experts.chosen * e * (h + experts.mlp) + e * h
    if not experts.shared:
        return routed
    return routed + _linear_inputs(counts, size, 3) + e * (h + 4 * experts.shared + 4 * counts.rank)


def work_bytes(shape: Shape, size: NumberSizes) -> int:
    """What a layer makes at most beside what it keeps, forward and backward."""
    wide = shape.mlp if shape.plain_mlps else 0
    copied = 4 * wide + 8 * shape.hidden if size.copies else 0
    work = size.each * wide + 4 * size.stream * shape.hidden + copied
    if shape.experts:
        sent = shape.experts.chosen * (shape.hidden + shape.experts.mlp)
        work = max(work, size.each * 2 * sent + 4 * size.stream * shape.hidden)
    if shape.recurrence:
        layer = shape.recurrence
        work = max(work, 4 * (3 * layer.keys + 3 * layer.values + 2 * layer.value_heads * CHUNK))
    return work


def prefill_bytes(counts: ParameterCounts, size: NumberSizes) -> int:
    """What the forward pass of a prompt makes at most where nothing is kept for a backward pass."""
    shape, s = counts.shape, size.stream
    wide = shape.mlp if shape.plain_mlps else 0
    work = 2 * s * wide
    if shape.experts:
        work = max(work, s * shape.experts.chosen * (shape.hidden + 3 * shape.experts.mlp))
    work += 6 * s * shape.hidden + s * 2 * (shape.queries + shape.keys)
    if shape.recurrence:
        layer = shape.recurrence
        rule = 4 * (6 * layer.keys + 6 * layer.values + 3 * layer.value_heads * CHUNK) + 2 * s * layer.mixed
        work = max(work, rule + 2 * s * shape.hidden)
    return work


def state_bytes(layer: Recurrence, each: int) -> int:
    """What a recurrent layer carries over for a sequence: the state, in float32, and inputs of the convolution."""
    return 4 * layer.state + each * layer.mixed * (layer.kernel - 1)
