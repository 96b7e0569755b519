"""Rows for temporal tokens in a model's embeddings and output head: made room for, and given values to begin with."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft.utils import TrainableTokensWrapper
from torch import nn
from transformers import PreTrainedModel
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from vtg.models.part_table import TIME_TOKENS

# Rows that are summed at once: a float32 copy of 152k x 4096 would take 2.5 GB.
CHUNK = 16384

# The base of the position code's wavelengths in "Attention Is All You Need": neighbours have a cosine of about 0.97.
BASE = 10_000.0


@dataclass(frozen=True, slots=True)
class KnownRows:
    """The rows (V, H) of the tokens that a model came with, and what is told of them.

    `digits`: for every temporal token the ids of the digits of its number. `draw`: what random rows are drawn with.
    """

    rows: torch.Tensor
    digits: Sequence[Sequence[int]] = ()
    draw: torch.Generator | None = None

    def mean(self) -> torch.Tensor:
        """(H,) float32."""
        return torch.stack([chunk.float().sum(0) for chunk in self.rows.split(CHUNK)]).sum(0) / len(self.rows)

    def deviation(self) -> torch.Tensor:
        """(H,) float32: the standard deviation along each axis."""
        mean = self.mean()
        squares = [(chunk.float() - mean).square().sum(0) for chunk in self.rows.split(CHUNK)]
        return (torch.stack(squares).sum(0) / len(self.rows)).sqrt()

    def norm(self) -> float:
        """The mean length of a row."""
        return sum(float(chunk.float().norm(dim=1).sum()) for chunk in self.rows.split(CHUNK)) / len(self.rows)


def _sinusoidal(known: KnownRows) -> torch.Tensor:
    width = known.rows.shape[1]
    rates = BASE ** (-torch.arange(0, width, 2) / width)
    angles = torch.arange(len(known.digits))[:, None] * rates
    code = torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width]
    return code / code.norm(dim=1, keepdim=True) * known.norm()


def _mean(known: KnownRows) -> torch.Tensor:
    return known.mean().expand(len(known.digits), -1)


def _random(known: KnownRows) -> torch.Tensor:
    shape = len(known.digits), known.rows.shape[1]
    normal = torch.randn(shape, generator=known.draw).to(known.rows.device)
    return known.mean() + normal * known.deviation()


def _numbers(known: KnownRows) -> torch.Tensor:
    return torch.stack([known.rows[list(ids)].float().mean(0) for ids in known.digits])


# `task.token_init` → (N, H) float32 of N temporal tokens.
INITIAL_ROWS: dict[str, Callable[[KnownRows], torch.Tensor]] = {
    "sinusoidal": _sinusoidal,
    "mean": _mean,
    "random": _random,
    "numbers": _numbers,
}


def digit_ids(tokenizer: Any, count: int) -> list[list[int]]:
    """The token ids of the numbers 0 to `count` - 1, written out."""
    return tokenizer([str(number) for number in range(count)], add_special_tokens=False)["input_ids"]


def vectors(model: PreTrainedModel) -> list[nn.Parameter]:
    """The weight of the token embeddings, and that of the output head where it is not tied to them."""
    head: Any = model.get_output_embeddings()
    weights: list[Any] = [model.get_input_embeddings().weight, head.weight]
    return weights[:1] if weights[0] is weights[1] else weights


def make_room(model: PreTrainedModel, rows: int) -> list[int]:
    """Grows embeddings and head, where they are smaller, to `rows` rows; returns how many each of `vectors` had.

    Never smaller: many models have more rows than their tokenizers have tokens, and new tokens get those first. Rows
    that are added begin as the mean of the others: between two tables of unlike size there are some that no token has,
    and what they are must not differ the next time that the model is loaded.
    """
    sizes = [_rows(weight) for weight in vectors(model)]
    if min(sizes) < rows:
        # Not its mean_resizing: it draws from the covariance of all rows, which takes minutes of a 152k x 4096 table.
        model.resize_token_embeddings(max(rows, *sizes), mean_resizing=False)
        text: Any = model.config.get_text_config()
        if getattr(text, "additional_vocab_size", 0):
            # Molmo2's embeddings have rows beyond its head's, which the config counts apart; both are as long now.
            text.additional_vocab_size = 0
            model._weight_conversions = []  # type: ignore[assignment]  # its published layout has two tables
        for weight, before in zip(vectors(model), sizes, strict=True):
            if not weight.is_meta:
                with torch.no_grad(), _whole(weight):
                    weight[before:] = KnownRows(weight[:before]).mean().to(weight.dtype)
    return sizes


def add_rows(model: PreTrainedModel, count: int) -> range:
    """Grows a model without weights by `count` rows, and returns which they are.

    As if no row were free; those that a tokenizer leaves free are some hundred at most.
    """
    if not count:
        return range(0)
    first = max(_rows(weight) for weight in vectors(model))
    make_room(model, first + count)
    return range(first, first + count)


@torch.no_grad()
def initialise(
    model: PreTrainedModel,
    ids: Sequence[int],
    *,
    sizes: Sequence[int],
    init: str,
    seed: int,
    digits: Sequence[Sequence[int]],
) -> None:
    """Gives the rows `ids` the values that `task.token_init` says, in the embeddings and in an untied head.

    Args:
        ids: of the temporal tokens, all beyond those that the model came with.
        sizes: rows of each of `vectors` before there was room made (`make_room`).
        seed: random rows are the same for the same seed.
    """
    draw = torch.Generator().manual_seed(seed)
    for weight, before in zip(vectors(model), sizes, strict=True):
        with _whole(weight):
            known = KnownRows(weight[: min(ids[0], before)], digits, draw)
            weight[list(ids)] = INITIAL_ROWS[init](known).to(weight.dtype)


def give_heads_a_bias(model: Any) -> None:
    """Gives heads of which PEFT trains rows the attribute `bias`, None as the head's own, in place.

    PEFT 0.21 hands on `weight` alone, and TRL's fused head reads both.
    """
    module: Any
    for module in model.modules():
        if isinstance(module, TrainableTokensWrapper) and isinstance(module.original_module, nn.Linear):
            assert module.original_module.bias is None
            module.bias = None  # type: ignore[assignment]


def copy_rows(model: Any, copy: str) -> None:
    """Gives the adapter `copy`, where there is one, the rows of temporal tokens that the adapter `default` has.

    TRL copies an adapter by the names that end in what is in a layer of the adapter's name, and these end in that name.
    """
    for name, rows in model.named_parameters():
        if name.endswith(f"{TIME_TOKENS}.default"):
            place: Any = model.get_submodule(name.rpartition(".")[0])
            if copy in place:
                place[copy].data.copy_(rows.data)


def share_rows(model: Any, other: Any, ids: Sequence[int]) -> None:
    """Gives `other`, a model loaded from the same path as `model`, the rows `ids` that were added to that one."""
    make_room(other, 1 + max(ids))
    with torch.no_grad():
        for theirs, ours in zip(vectors(other), vectors(model), strict=True):
            theirs[list(ids)] = ours[list(ids)].to(theirs)


def _rows(weight: Any) -> int:
    return int(getattr(weight, "ds_shape", weight.shape)[0])


@contextmanager
def _whole(weight: nn.Parameter) -> Iterator[None]:
    """The weight whole on every rank, as ZeRO-3 keeps parts; written back by the first."""
    if not is_deepspeed_zero3_enabled():
        yield
        return
    import deepspeed  # optional

    with deepspeed.zero.GatheredParameters([weight], modifier_rank=0):
        yield
