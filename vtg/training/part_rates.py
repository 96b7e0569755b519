"""An optimizer with learning rates and weight decays by part of the model."""

from collections.abc import Mapping, Set
from typing import Any

from transformers import Trainer

from vtg.config.model_settings import PartsConfig
from vtg.models.part_table import GROUPS, grouped_parameters, rate_of, rates, weight_decays
from vtg.training.trainer_parts import TrainerParts


class PartRatesTrainer(Trainer):
    """A Trainer whose optimizer has a group for each part of the model with a rate or weight decay of its own.

    Attributes:
        part_rates: of the groups of its optimizer, in order; empty where all have the Trainer's own.
    """

    parts: TrainerParts
    part_rates: tuple[float, ...] = ()

    def create_optimizer(self, model: Any = None) -> Any:
        """The optimizer, made by the Trainer as always, and then its groups parted."""
        optimizer = super().create_optimizer(model)
        chosen: PartsConfig = self.parts.parts
        own = [*rates(chosen).values(), *weight_decays(chosen).values()]
        if self.part_rates or all(value is None for value in own):
            return optimizer  # untouched: checkpoints of earlier runs have the Trainer's two groups
        opt_model: Any = self.accelerator.unwrap_model(self.model if model is None else model)
        group_of = {id(parameter): group for group, _, parameter in grouped_parameters(opt_model)}
        # By name: with trainer.weight_decay=0 the Trainer's groups do not tell norms and biases, which never decay.
        names = set(self.get_decay_parameter_names(opt_model))
        decaying = {id(parameter) for name, parameter in opt_model.named_parameters() if name in names}
        parted = [
            made
            for trainer_group in optimizer.param_groups
            for made in _part(trainer_group, group_of, decaying, chosen, self.args.learning_rate)
        ]
        # In place: accelerate and bitsandbytes hold on to the list.
        optimizer.param_groups[:] = [options for options, _ in parted]
        self.part_rates = tuple(rate for _, rate in parted)
        return optimizer


def _part(
    trainer_group: dict[str, Any],
    group_of: Mapping[int, str],
    decaying: Set[int],
    parts: PartsConfig,
    learning_rate: float,
) -> list[tuple[dict[str, Any], float]]:
    """A group of the Trainer's as groups of one part each, none of them empty, with their learning rates."""
    made = []
    for group in GROUPS:
        members = [one for one in trainer_group["params"] if group_of[id(one)] == group]
        if not members:
            continue
        rate, decay = rate_of(group, parts, learning_rate), weight_decays(parts)[group]
        options = trainer_group | {"params": members, "lr": rate}
        if decay is not None and id(members[0]) in decaying:
            options["weight_decay"] = decay
        made.append((options, rate))
    return made
