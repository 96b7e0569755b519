"""What a training asks of a device: the micro-batch, and how it is computed (precision, checkpointing, ZeRO)."""

from dataclasses import dataclass

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
