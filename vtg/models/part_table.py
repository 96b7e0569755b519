"""The parameters of a model by part: how many there are, how many are trained, and how fast."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from peft import PeftModel
from torch import nn

from vtg.config.model_settings import PartsConfig
from vtg.console import aligned
from vtg.models.families import family_of
from vtg.models.quantization import size_of

GROUPS = ("vision", "projector", "language", "experts", "router", "embedding", "head")
"""Groups of parameters with a learning rate of their own; those after `language` lie in the language model, and a model
has those rows of the table of which it has parameters."""


@dataclass(frozen=True)
class PartRow:
    """One group of `GROUPS`: its parameters, those that are trained, their learning rate (None where none is)."""

    part: str
    parameters: int
    trained: int
    learning_rate: float | None


def grouped_parameters(model: Any) -> Iterator[tuple[str, str, nn.Parameter]]:
    """(group of `GROUPS`, name, parameter) of every parameter, adapters included; a tied head counts as embedding."""
    plain: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    family = family_of(plain.config)
    embedding = {id(parameter) for parameter in plain.get_input_embeddings().parameters()}
    output = plain.get_output_embeddings()
    head = {id(parameter) for parameter in output.parameters()} if output is not None else set()
    for name, parameter in model.named_parameters():
        group = family.mixture_part_of(name) or family.part_of(name)
        if id(parameter) in embedding:
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
    }


def rate_of(group: str, parts: PartsConfig, learning_rate: float) -> float:
    """The learning rate of a group: its own, else `learning_rate`."""
    own = rates(parts)[group]
    return learning_rate if own is None else own


def part_rows(model: Any, parts: PartsConfig, learning_rate: float) -> list[PartRow]:
    """What of a model is trained, a row for each group that it has; changes nothing.

    Args:
        model: as `prepare_training` returns it, on any device (meta too).
        learning_rate: of groups without one of their own (`trainer.learning_rate`).
    """
    counts = {group: [0, 0] for group in GROUPS}
    for group, _, parameter in grouped_parameters(model):
        size = size_of(parameter)
        counts[group][0] += size
        counts[group][1] += size if parameter.requires_grad else 0
    return [
        PartRow(group, total, trained, rate_of(group, parts, learning_rate) if trained else None)
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
