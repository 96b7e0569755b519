"""An optimizer with learning rates and weight decays by part of the model."""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any

from transformers import Trainer


@dataclass(frozen=True)
class PartRates:
    """Learning rates and weight decays of a model's parts.

    Attributes:
        parts_of: part of each parameter of a model, by the parameter's id.
        rates, decays: part → its own, None where it has the Trainer's. `rates` names all parts.
    """

    parts_of: Callable[[Any], Mapping[int, str]]
    rates: Mapping[str, float | None]
    decays: Mapping[str, float | None]


class PartRatesTrainer(Trainer):
    """A Trainer whose optimizer has a group for each part of the model with a rate or weight decay of its own.

    Attributes:
        own_rates: of the parts.
        part_rates: of the groups of its optimizer, in order; empty where all have the Trainer's own.
    """

    own_rates: PartRates
    part_rates: tuple[float, ...] = ()

    def create_optimizer(self, model: Any = None) -> Any:
        """The optimizer, made by the Trainer as always, and then its groups parted."""
        optimizer = super().create_optimizer(model)
        chosen = self.own_rates
        own = [*chosen.rates.values(), *chosen.decays.values()]
        if self.part_rates or all(value is None for value in own):
            return optimizer  # untouched: checkpoints of earlier runs have the Trainer's two groups
        opt_model: Any = self.accelerator.unwrap_model(self.model if model is None else model)
        part_of = chosen.parts_of(opt_model)
        # By name: with trainer.weight_decay=0 the Trainer's groups do not tell norms and biases, which never decay.
        names = set(self.get_decay_parameter_names(opt_model))
        decaying = {id(parameter) for name, parameter in opt_model.named_parameters() if name in names}
        parted = [
            made
            for trainer_group in optimizer.param_groups
            for made in _part(trainer_group, part_of, decaying, chosen, self.args.learning_rate)
        ]
        # In place: accelerate and bitsandbytes hold on to the list.
        optimizer.param_groups[:] = [options for options, _ in parted]
        self.part_rates = tuple(rate for _, rate in parted)
        return optimizer


def _part(
    trainer_group: dict[str, Any],
    part_of: Mapping[int, str],
    decaying: Set[int],
    chosen: PartRates,
    learning_rate: float,
) -> list[tuple[dict[str, Any], float]]:
    """A group of the Trainer's as groups of one part each, none of them empty, with their learning rates."""
    made = []
    for part, own in chosen.rates.items():
        members = [one for one in trainer_group["params"] if part_of[id(one)] == part]
        if not members:
            continue
        rate, decay = learning_rate if own is None else own, chosen.decays[part]
        options = trainer_group | {"params": members, "lr": rate}
        if decay is not None and id(members[0]) in decaying:
            options["weight_decay"] = decay
        made.append((options, rate))
    return made
