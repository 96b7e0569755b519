"""What a training of latents would be, told before it starts."""

from dataclasses import asdict, replace
from tempfile import TemporaryDirectory

from omegaconf import OmegaConf
from torch import nn
from transformers import Trainer

from vtg.config.latents_schema import LatentsConfig
from vtg.console import aligned
from vtg.latents.encoders.encoder_parts import parameter_table
from vtg.training.hf_arguments import training_arguments
from vtg.training.latents.new_model import make_model


def print_plan(config: LatentsConfig) -> None:
    """Prints the settings, the parameters of encoder and predictor, and the groups of the optimizer."""
    with TemporaryDirectory() as folder:  # where the Trainer makes its output_dir
        # It wants rows to validate on, of which none are read here.
        trained = replace(config, output_dir=folder, trainer=config.trainer | {"eval_strategy": "no"})
        arguments = training_arguments(trained)
        model, _ = make_model(config, arguments)
        # Made by the Trainer, which alone knows what of a model decays.
        optimizer = Trainer(model=model, args=arguments).create_optimizer()
    print(OmegaConf.to_yaml(OmegaConf.create(asdict(config))))
    print(parameter_table({"encoder": model.encoder, "predictor": model.predictor}), end="\n\n")
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    cells = [("optimizer group", "tensors", "parameters", "learning rate", "weight decay", "such as")]
    for at, group in enumerate(group for group in optimizer.param_groups if group["params"]):
        parameters: list[nn.Parameter] = group["params"]
        count = sum(parameter.numel() for parameter in parameters)
        rates = f"{group['lr']:g}", f"{group['weight_decay']:g}"
        cells.append((str(at), str(len(parameters)), f"{count:,}", *rates, names[id(parameters[0])]))
    print("\n".join(line.rstrip() for line in aligned(cells)))
