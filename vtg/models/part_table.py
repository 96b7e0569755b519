"""The parameters of a model by part: how many there are, how many are trained, and how fast."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from vtg.config.model_settings import PartsConfig
from vtg.console import aligned
from vtg.models.families import family_of
from vtg.models.plain_model import plain_model
from vtg.models.quantization import size_of

GROUPS = ("vision", "projector", "language", "experts", "router", "embedding", "head", "time_tokens")
"""Groups of parameters with a learning rate of their own; those after `language` lie in the language model, and a model
has those rows of the table of which it has parameters. `time_tokens`: the rows of temporal tokens that LoRA trains."""

# In the names of the rows that PEFT trains of an embedding or a head (`trainable_token_indices`).
TIME_TOKENS = "trainable_tokens_delta"


@dataclass(frozen=True)
class PartRow:
    """One group of `GROUPS`: its parameters, those that are trained, their learning rate (None where none is)."""

    part: str
    parameters: int
    trained: int
    learning_rate: float | None


def grouped_parameters(model: Any) -> Iterator[tuple[str, str, nn.Parameter]]:
    """(group of `GROUPS`, name, parameter) of every parameter, adapters included; a tied head counts as embedding."""
    plain = plain_model(model)
    family = family_of(plain.config)
    embedding = {id(parameter) for parameter in plain.get_input_embeddings().parameters()}
    output = plain.get_output_embeddings()
    head = {id(parameter) for parameter in output.parameters()} if output is not None else set()
    for name, parameter in model.named_parameters():
        group = family.mixture_part_of(name) or family.part_of(name)
        if TIME_TOKENS in name:
            group = "time_tokens"
        elif id(parameter) in embedding:
            group = "embedding"
        elif id(parameter) in head:
            group = "head"
        yield group, name, parameter


def rates(parts: PartsConfig) -> dict[str, float | None]:
    """Group → the learning rate of its own, None without one. The language model's is always the Trainer's."""
    return {
        "vision": parts.vision_lr,
        "projector": parts.projector_lr,
        "language": None,
        "experts": parts.experts_lr,
        "router": parts.router_lr,
        "embedding": parts.embedding_lr,
        "head": parts.head_lr,
        "time_tokens": parts.time_tokens_lr,
    }


def weight_decays(parts: PartsConfig) -> dict[str, float | None]:
    """Group → the weight decay of its own, None without one."""
    return {
        "vision": parts.vision_weight_decay,
        "projector": parts.projector_weight_decay,
        "language": None,
        "experts": parts.experts_weight_decay,
        "router": parts.router_weight_decay,
        "embedding": parts.embedding_weight_decay,
        "head": parts.head_weight_decay,
        "time_tokens": parts.time_tokens_weight_decay,
    }


def rate_of(group: str, parts: PartsConfig, learning_rate: float) -> float:
    """The learning rate of a group: its own, else `learning_rate`."""
    own = rates(parts)[group]
    return learning_rate if own is None else own


def part_rows(model: Any, parts: PartsConfig, learning_rate: float, *, time_tokens: int = 0) -> list[PartRow]:
    """What of a model is trained, a row for each group that it has; changes nothing.

    Args:
        model: as `prepare_training` returns it, on any device (meta too).
        learning_rate: of groups without one of their own (`trainer.learning_rate`).
        time_tokens: how many temporal tokens there are; trained in full, their rows are counted apart all the same.
    """
    counts, of_times = {group: [0, 0] for group in GROUPS}, "time_tokens"
    for group, _, parameter in grouped_parameters(model):
        size, own = size_of(parameter), 0
        if group in ("embedding", "head") and parameter.requires_grad:
            own = time_tokens * model.config.get_text_config().hidden_size
            of_times = group  # their rate is that of the table they lie in
        for name, part in ((group, size - own), ("time_tokens", own)):
            counts[name][0] += part
            counts[name][1] += part if parameter.requires_grad else 0
    rated = {group: of_times if group == "time_tokens" else group for group in GROUPS}
    return [
        PartRow(group, total, trained, rate_of(rated[group], parts, learning_rate) if trained else None)
        for group, (total, trained) in counts.items()
        if total
    ]


def part_table(rows: Iterable[PartRow]) -> str:
    """The rows as aligned text, with their sum."""
    shown = list(rows)
    total = PartRow("all", sum(row.parameters for row in shown), sum(row.trained for row in shown), None)
    cells = [("part", "parameters", "trained", "learning rate")]
    for row in [*shown, total]:
        rate = "" if row is total else "frozen" if row.learning_rate is None else f"{row.learning_rate:g}"
        cells.append((row.part, f"{row.parameters:,}", f"{row.trained:,}", rate))
    return "\n".join(line.rstrip() for line in aligned(cells))
