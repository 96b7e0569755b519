"""How much memory a training takes on one device, from the model's config and the settings: no weights are read.

    counted = count(empty_model("Qwen/Qwen3-VL-4B-Instruct", torch.bfloat16), ModelConfig(), LoraConfig())
    estimate(counted, Batch(rows=1, length=12800, vision_tokens=12288), Way()).peak_bytes

Parameters are counted on PyTorch's meta device, adapters included. The rest is a formula. In bytes, with H the hidden
size, Q, K the widths of queries and keys, I that of the MLP, V the vocabulary, a the heads, N layers; T tokens of a
micro-batch, padding included; s, e bytes of a number of the residual stream and of the arithmetic (bf16: 2):

- Weights: their own type. ZeRO-3: / ranks, and up to 1.05e9 parameters gathered; 0 but these where offloaded.
- Gradients: the type of the trained weights (DDP: twice, its buckets; ZeRO-2: / ranks). Optimizer: AdamW's two moments
  in that type; DeepSpeed: 12 bytes a trained parameter (master copy, moments in float32) / ranks, 0 where offloaded,
  and its buckets of 5e8 numbers (two, ZeRO-3: one).
- What a decoder layer keeps for the backward pass, a token: 8H of its two norms (which keep float32), 2sH that its
  linear layers read (5eH where adapters or autocast copy it for each), 4(Q+K) of the norms of queries and keys,
  e(2Q+2K) + 4a of attention (K counts as Q where there is a mask, eH more with adapters that copy), 4eI of the MLP, 7er
  of adapters of rank r; and where norms are trained too 2sH + e(Q+K). Eager attention: L a (4+e) more for rows of L.
- All N layers of it; with gradient checkpointing N times sH and one layer. And what a layer makes meanwhile: eI + 4sH
  (4I + 8H more where it copies), or the logits. Under autocast float32 weights that learn are copied, 2 bytes each.
- A mask, where padded rows or packed ones need it: L² a row, 1 byte, and e for every layer that keeps it.
- Logits of the positions that predict an answer alone, in a padded batch those of any row for every row: 12V each
  (float32: the log-softmax, its gradient, the loss's). TRL's fused head (GRPO): 32 for each of a tile of at
  most 4096 completion tokens x 32768 of V.
- Vision, a patch (four a token, in pixels 3 x 2 x 16² numbers of 4 bytes): frozen, the one layer in work,
  (s + 4e + 28) D or (2s + e + 4) D + 2eJ (D its width, J its MLP's), and s of the projections; trained, e(11D + 2J) for
  every layer, once with checkpointing and sD for the others. A frozen tower is done before the language model starts.
- Generation: keys and values, 2eKN a token of prompt and answer; the prompt's own forward, 2eI + 6sH + e(2Q+2K) each.
- GRPO: one sequence of P + GR tokens a prompt (P tokens, G completions of R), keys and values of attention repeated to
  Q twice; without sharing G rows of P + R. Its rollouts hold the cache of G (P + R) tokens for every prompt.
- On a GPU 0.7e9 bytes of CUDA's own. Fragmentation is not counted: keep a tenth free.

tests/memory/test_memory.py holds it to what is measured on a CPU; `python tests/memory/memory_cases.py` prints a table.
"""

from dataclasses import asdict, dataclass
from typing import Any

from vtg.memory.parameters import Counted, Shape

PATCHES_PER_TOKEN = 4
PIXEL_BYTES = 4
"""The processor hands pixels over in float32."""

CUDA_BYTES = 700_000_000
"""The CUDA context, with cuBLAS's workspaces; 0.5 to 0.8e9 as nvidia-smi shows them."""

BUCKET = 500_000_000
"""Numbers of DeepSpeed's reduce_bucket_size."""

LIVE_PARAMETERS = 1_050_000_000
"""Parameters that ZeRO-3 holds gathered: stage3_max_live_parameters and stage3_prefetch_bucket_size."""

FUSED_POSITIONS, FUSED_VOCABULARY = 4096, 32768
"""The tile of logits that TRL's fused head holds at a time."""

ANSWER_TOKENS = 24
"""Of a grounding answer and its end, where nothing better is known."""


@dataclass(frozen=True)
class Batch:
    """A micro-batch of `rows` sequences of `length` tokens, padding included; packed, it is one row.

    Attributes:
        vision_tokens: of all rows.
        conversations: samples in it; None: as many as rows.
        spread: by how many tokens the rows of a padded batch differ: logits are made for every position at which any
            row answers.
        answers: positions of a row that logits are made for, where they are known; None: 24 of each conversation.
        masked: attention needs a mask, of padding.
        packed: samples are one row, and attention needs the mask that parts them.
        generations, completion: of GRPO: G completions of R tokens for each row, which is a prompt then.
        shared: the prompt runs once for all of them.
    """

    rows: int
    length: int
    vision_tokens: int
    conversations: int | None = None
    spread: int = 0
    answers: int | None = None
    masked: bool = False
    packed: bool = False
    generations: int = 0
    completion: int = 0
    shared: bool = True

    @property
    def logits(self) -> int:
        """Positions, of all rows."""
        if self.answers is not None:
            return self.rows * self.answers
        if self.conversations is not None:
            return self.conversations * ANSWER_TOKENS
        return self.rows * min(self.rows * ANSWER_TOKENS, ANSWER_TOKENS + self.spread, self.length)


@dataclass(frozen=True)
class Way:
    """How it is trained, as far as memory cares.

    Attributes:
        mixed: autocast to 2 bytes (bf16 or fp16 of the Trainer, without DeepSpeed).
        accumulates: gradients are there already when a micro-batch begins.
        stage, offload_optimizer, offload_parameters: of DeepSpeed's ZeRO.
        ranks: processes, of a GPU each.
        reference: GRPO holds a second model to compare with.
        cuda: on a GPU.
    """

    mixed: bool = False
    gradient_checkpointing: bool = False
    accumulates: bool = False
    attention: str = "sdpa"
    stage: int = 0
    offload_optimizer: bool = False
    offload_parameters: bool = False
    ranks: int = 1
    reference: bool = False
    cuda: bool = False


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on one device, and what they were estimated for.

    `work_bytes` is the most of what a training step takes besides weights, gradients and optimizer: in the vision
    tower, or in the language model. `answering_bytes`: likewise while answers are generated.
    """

    parameters: int
    trained_parameters: int
    dtype: str
    batch: Batch
    way: Way
    weights_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    work_bytes: int
    answering_bytes: int
    cuda_bytes: int
    training_bytes: int
    generation_bytes: int

    @property
    def peak_bytes(self) -> int:
        return max(self.training_bytes, self.generation_bytes)

    def document(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return asdict(self) | {"peak_bytes": self.peak_bytes}


def estimate(counted: Counted, batch: Batch, way: Way, *, answering: Batch | None = None) -> MemoryEstimate:
    """The memory of training on micro-batches like `batch`, and of answering ones like `answering` between steps."""
    states = _states(counted, way)
    weights, gradients, optimizer = states
    cuda = CUDA_BYTES if way.cuda else 0
    step = _training_work(counted, way, batch, gradients)
    held = weights + optimizer + cuda
    answer = 0
    for one in (answering, batch if batch.generations else None):
        if one is not None:
            answer = max(answer, _answering_work(counted, way, one))
    whole = weights if way.stage < 3 else counted.weights_bytes  # gathered on every rank to generate
    return MemoryEstimate(
        parameters=counted.parameters,
        trained_parameters=counted.trained_parameters,
        dtype=str(counted.dtype).removeprefix("torch."),
        batch=batch,
        way=way,
        weights_bytes=weights,
        gradient_bytes=gradients,
        optimizer_bytes=optimizer,
        work_bytes=step - gradients,
        answering_bytes=answer,
        cuda_bytes=cuda,
        training_bytes=held + step,
        generation_bytes=max(whole, weights) + optimizer + cuda + answer if answer else 0,
    )


def _states(counted: Counted, way: Way) -> tuple[int, int, int]:
    """Bytes of weights, gradients, and optimizer state with its buffers, while a step is made."""
    weights, trained, gradients = counted.weights_bytes, counted.trained_parameters, counted.trained_bytes
    if not way.stage:
        twice = 2 if way.ranks > 1 else 1
        reference = counted.weights_bytes if way.reference else 0
        return weights + reference, gradients * twice, 2 * counted.trained_bytes
    weights = 2 * counted.parameters  # DeepSpeed's bf16 casts all of them
    gradients = 2 * trained
    optimizer = 0 if way.offload_optimizer else 12 * trained // way.ranks
    if way.stage == 3:
        live = min(weights, 2 * LIVE_PARAMETERS)
        weights = live + (0 if way.offload_parameters else weights // way.ranks)
        return weights, 0 if way.offload_optimizer else gradients // way.ranks, optimizer + 2 * BUCKET
    if way.stage == 2:
        gradients = 0 if way.offload_optimizer else gradients // way.ranks
    return weights, gradients, optimizer + 2 * 2 * BUCKET


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


def _training_work(counted: Counted, way: Way, batch: Batch, gradients: int) -> int:
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


def _answering_work(counted: Counted, way: Way, batch: Batch) -> int:
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
