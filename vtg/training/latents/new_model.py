"""The encoder and the predictor that a training of latents starts with."""

from dataclasses import fields

from transformers import TrainingArguments, set_seed

from vtg.config.latents_schema import LatentsConfig
from vtg.latents.encoders import load_encoder
from vtg.latents.future_model import FutureModel
from vtg.latents.latent_run import LatentSettings
from vtg.latents.predictors import make_predictor


def make_model(config: LatentsConfig, arguments: TrainingArguments) -> tuple[FutureModel, LatentSettings]:
    """The encoder and a new predictor of its latents, and the settings that go with its weights.

    Raises:
        ConfigError: an encoder or a predictor that cannot be.
    """
    encoder = load_encoder(config.encoder, device=str(arguments.device))
    set_seed(config.seed)  # after loading, whose draws must not change the predictor's weights
    model = FutureModel(encoder, make_predictor(config.predictor, dim=encoder.dim))
    # What a checkpoint needs to be read again; data and trainer are the run's own.
    groups = {entry.name: getattr(config, entry.name) for entry in fields(LatentSettings) if entry.name != "identity"}
    return model.to(arguments.device), LatentSettings(**groups, identity=encoder.identity)
