"""How much memory a training takes on one device, from the model's config and the settings: no weights are read.

    counts = count(empty_model("Qwen/Qwen3-VL-4B-Instruct", torch.bfloat16), PartsConfig(), LoraConfig())
    estimate(counts, Batch(rows=1, length=12800, vision_tokens=12288), TrainingSetup()).peak_bytes

Parameters are counted on PyTorch's meta device, adapters included. The rest is a formula. In bytes, with H the hidden
size, Q, K the widths of queries and keys, I that of the MLP, V the vocabulary, a the heads, N layers; T tokens of a
micro-batch, padding included; s, e bytes of a number of the residual stream and of the arithmetic (bf16: 2):

- Weights: their own type. ZeRO-3: / ranks, and up to 1.05e9 parameters gathered; 0 but these where offloaded.
- Gradients: the type of the trained weights (DDP: twice, its buckets; ZeRO-2: / ranks). Optimizer: AdamW's two moments
  in that type; DeepSpeed: 12 bytes a trained parameter (master copy, moments in float32) / ranks, 0 where offloaded,
  and its buckets of 5e8 numbers (two, ZeRO-3: one).
- What a decoder layer keeps for the backward pass, a token: 8H of its two norms (which keep float32), 2sH that its
  linear layers read (5eH where autocast copies it for each), 4(Q+K) of the norms of queries and keys,
  e(2Q+2K) + 4a of attention (K counts as Q where there is a mask), 4eI of the MLP, 7er
  of adapters of rank r; and where norms are trained too 2sH + e(Q+K). Eager attention: L a (4+e) more for rows of L.
  With Liger's kernels (`model.kernels`): 2sH of the norms, e(Q+K) of those of queries and keys, 3eI of the MLP.
- Gated DeltaNet layers and mixtures of experts: `vtg.memory.layer_bytes`. Weights of all experts count, quantized ones
  by their bits.
- All N layers of it; with gradient checkpointing N times sH and one layer, and in 8 bits what linear layers read; with
  selective checkpointing half of each. And
  what a layer makes meanwhile: eI + 4sH (4I + 8H more where it copies), or the logits. Under autocast float32 weights
  that learn are copied, 2 bytes each.
- Temporal tokens beside LoRA: the head's table with their rows put in, and its gradient, 2VH in the weights' type.
- A mask, where rows hold padding frames, in eager attention, and where vision tokens attend both ways (Molmo2): L² a
  row, 1 byte, and e for every layer that keeps it; of a packed row once, e (Molmo2: L of each sample).
- Logits of the positions that predict an answer alone, in a padded batch those of any row for every row: 12V each
  (float32: the log-softmax, its gradient, the loss's). TRL's fused head (GRPO): 32 for each of a tile of at
  most 4096 completion tokens x 32768 of V.
- Vision, a patch (four a token, in pixels 3 x 2 x 16² numbers of 4 bytes): frozen, the one layer in work,
  (s + 4e + 28) D or (2s + e + 4) D + 2eJ (D its width, J its MLP's), and s of the projections; trained, e(11D + 2J) for
  every layer, once with checkpointing and sD for the others. A frozen tower is done before the language model starts,
  and the gradients of a trained one come after those of the language model. Molmo2's: `vtg.memory.tower_bytes`.
- Generation: keys and values, 2eK a token of prompt and answer for each layer of attention, prompts in pages of 128
  tokens, on a GPU 512, where prompts and rows are powers of two, and the state of recurrent layers for each row; sH a
  vision token for each projection of the tower. One prompt is read at a time: its keys once more, and its forward,
  2eI + 6sH + e(2Q+2K) a token.
- GRPO: one sequence of P + GR tokens a prompt (P tokens, G completions of R), keys and values of attention repeated to
  Q twice (varlen: 4eK for each of G (P + R) that one layer gathers); without sharing G rows of P + R. Its rollouts hold
  keys of P + GR tokens for every prompt, or G (P + R).
- On a GPU 0.7e9 bytes of CUDA's own. Fragmentation is not counted: keep a tenth free.

tests/memory/test_memory.py holds it to what is measured on a CPU; `python tests/memory/memory_cases.py` prints a table.
"""

from dataclasses import asdict, dataclass
from typing import Any

from vtg.memory.activations import generation_work, training_work
from vtg.memory.parameters import ParameterCounts
from vtg.memory.training_load import Batch, TrainingSetup

# The CUDA context with cuBLAS's workspaces: nvidia-smi shows 0.5 to 0.8e9, which PyTorch's own counters do not see.
CUDA_BYTES = 700_000_000

# DeepSpeed's default reduce_bucket_size, in elements: fixed buffers that outweigh all else for a small model.
BUCKET = 500_000_000

# Most parameters that ZeRO-3 holds gathered on a rank: its defaults of stage3_max_live_parameters (1e9) and
# stage3_prefetch_bucket_size (5e7).
LIVE_PARAMETERS = 1_050_000_000


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on one device, and the micro-batch and setup they were estimated for.

    `work_bytes`: the peak of activations, logits and casts in a training step, beside weights, gradients and optimizer.
    `answering_bytes`: likewise while answers are generated (KV cache, prefill, logits).
    """

    parameters: int
    trained_parameters: int
    dtype: str
    batch: Batch
    setup: TrainingSetup
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
        document = asdict(self) | {"peak_bytes": self.peak_bytes}
        # The key keeps its first name: scripts read the JSON of `vtg.doctor`.
        document["way"] = document.pop("setup")
        return document


def estimate(
    counts: ParameterCounts, batch: Batch, setup: TrainingSetup, *, generating: Batch | None = None
) -> MemoryEstimate:
    """The memory of training on micro-batches like `batch`, with evaluation of ones like `generating` between steps."""
    weights, gradients, optimizer = _model_states(counts, setup)
    cuda = CUDA_BYTES if setup.cuda else 0
    step = training_work(counts, setup, batch, gradients)
    held = weights + optimizer + cuda
    answer = 0
    for generated in (generating, batch if batch.generations else None):  # evaluation, and GRPO's rollouts
        if generated is not None:
            answer = max(answer, generation_work(counts, setup, generated))
    whole = weights if setup.stage < 3 else counts.weights_bytes  # gathered on every rank to generate
    return MemoryEstimate(
        parameters=counts.parameters,
        trained_parameters=counts.trained_parameters,
        dtype=str(counts.dtype).removeprefix("torch."),
        batch=batch,
        setup=setup,
        weights_bytes=weights,
        gradient_bytes=gradients,
        optimizer_bytes=optimizer,
        work_bytes=step - gradients,
        answering_bytes=answer,
        cuda_bytes=cuda,
        training_bytes=held + step,
        generation_bytes=max(whole, weights) + optimizer + cuda + answer if answer else 0,
    )


def _model_states(counts: ParameterCounts, setup: TrainingSetup) -> tuple[int, int, int]:
    """Bytes of weights, gradients, and optimizer state with its buffers, while a step is made."""
    weights, trained, gradients = counts.weights_bytes, counts.trained_parameters, counts.trained_bytes
    if not setup.stage:
        twice = 2 if setup.ranks > 1 else 1  # DDP copies gradients into its all-reduce buckets
        reference = counts.weights_bytes if setup.reference else 0
        return weights + reference, gradients * twice, 2 * counts.trained_bytes
    weights = 2 * counts.parameters  # DeepSpeed's bf16 casts all of them
    gradients = 2 * trained
    optimizer = 0 if setup.offload_optimizer else 12 * trained // setup.ranks
    if setup.stage == 3:
        live = min(weights, 2 * LIVE_PARAMETERS)
        weights = live + (0 if setup.offload_parameters else weights // setup.ranks)
        return weights, 0 if setup.offload_optimizer else gradients // setup.ranks, optimizer + 2 * BUCKET
    if setup.stage == 2:
        gradients = 0 if setup.offload_optimizer else gradients // setup.ranks
    return weights, gradients, optimizer + 2 * 2 * BUCKET
