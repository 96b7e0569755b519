"""What a training asks of a device: the micro-batch, and how it is computed (precision, checkpointing, ZeRO)."""

from dataclasses import dataclass

# A grounding answer with its end of turn: the labelled positions of a sample, where they are not known exactly.
ANSWER_TOKENS = 24


@dataclass(frozen=True)
class Batch:
    """A micro-batch of `rows` sequences of `length` tokens, padding included; a packed one is a single row.

    Attributes:
        vision_tokens: of all rows.
        conversations: samples in it; None: as many as rows.
        spread: by how many tokens the rows of a padded batch differ: logits are made for every position at which any
            row answers.
        answers: positions of a row that logits are made for, where they are known; None: 24 of each conversation.
        masked: attention needs a padding mask, but for FlashAttention's.
        packed: samples share one row.
        generations, completion: GRPO's group: G completions of R tokens for each row, which is then a prompt.
        shared: the prompt is a shared prefix: it runs once for the whole group.
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
        """Positions that logits are made for, over all rows."""
        if self.answers is not None:
            return self.rows * self.answers
        if self.conversations is not None:
            return self.conversations * ANSWER_TOKENS
        # logits_to_keep is one set of positions for all rows: the union of where any row answers, at most the row.
        return self.rows * min(self.rows * ANSWER_TOKENS, ANSWER_TOKENS + self.spread, self.length)


@dataclass(frozen=True)
class TrainingSetup:
    """Precision, sharding and offload of a training, as far as memory depends on them.

    Attributes:
        mixed: autocast to bf16 or fp16 by the Trainer.
        gradient_checkpointing: none, selective or full, as `trainer.gradient_checkpointing`.
        fused: norms and MLPs keep what Liger's kernels do.
        accumulates: gradient accumulation: gradients are held while a micro-batch runs.
        stage, offload_optimizer, offload_parameters: DeepSpeed ZeRO's; stage 0: no DeepSpeed.
        ranks: the world size, one GPU each.
        reference: GRPO holds a reference model for the KL term.
        cuda: on a GPU.
    """

    # Not with DeepSpeed, which casts the weights themselves and autocasts nothing.
    mixed: bool = False
    gradient_checkpointing: str = "none"
    fused: bool = False
    accumulates: bool = False
    attention: str = "sdpa"
    stage: int = 0
    offload_optimizer: bool = False
    offload_parameters: bool = False
    ranks: int = 1
    reference: bool = False
    cuda: bool = False

    def recomputed(self, layers: int) -> int:
        """How many of so many layers keep their input alone; they come before the others."""
        return {"none": 0, "selective": layers // 2, "full": layers}[self.gradient_checkpointing]
