"""A trained predictor in a folder: its weights, the settings it was trained with, and which encoder it predicts.

`config.json` stands beside `model.safetensors`, as of any model; its `format` is raised by one whenever an earlier
reader would misunderstand what is written from then on.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from vtg import __version__
from vtg.config.clip_settings import ClipsConfig
from vtg.config.encoder_settings import EncoderConfig
from vtg.config.latent_settings import PredictorConfig
from vtg.config.latents_schema import FutureConfig
from vtg.errors import ConfigError
from vtg.latents.clip_reading import ClipReader
from vtg.latents.encoders import load_encoder
from vtg.latents.encoders.encoder import Encoder, identity_of
from vtg.latents.future_model import FutureModel
from vtg.latents.predictors import make_predictor
from vtg.latents.predictors.future_predictor import FuturePredictor
from vtg.models.checkpoint import check_format, resolve_checkpoint
from vtg.models.loading import whole_files
from vtg.storage.json_files import write_json

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"

MODEL_TYPE = "vtg_future_latents"
"""`model_type` of config.json, which tells whoever takes the folder for a language model."""

FORMAT = 1
"""Of config.json; see above for when it is raised."""


@dataclass(frozen=True)
class LatentSettings:
    """What a predictor was trained with.

    Attributes:
        identity: of the encoder as it was loaded (`Encoder.identity`), before any of its parts was trained.
    """

    encoder: EncoderConfig
    clips: ClipsConfig
    predictor: PredictorConfig
    future: FutureConfig
    identity: str

    def write(self, folder: Path) -> None:
        """Writes config.json."""
        write_json(
            folder / CONFIG_FILE, {"model_type": MODEL_TYPE, "format": FORMAT, "vtg": __version__} | asdict(self)
        )

    @classmethod
    def read(cls, folder: Path) -> "LatentSettings":
        """Those of a folder of weights.

        Raises:
            ConfigError: it is none of a predictor, or of a newer format.
        """
        path = folder / CONFIG_FILE
        try:
            saved: Any = json.loads(path.read_text(encoding="utf-8"))
            # Asked first: a language model has a config.json too, and nothing in it would say what is wrong.
            if saved.get("model_type") != MODEL_TYPE:
                raise KeyError("model_type")
            check_format(saved, FORMAT, path)
            return cls(
                EncoderConfig(**saved["encoder"]),
                ClipsConfig(**saved["clips"]),
                PredictorConfig(**saved["predictor"]),
                FutureConfig(**saved["future"]),
                identity=saved["identity"],
            )
        except (OSError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{path}: is not the config of a predictor of latents ({error}); give a run directory of "
                "train_latents.py, its best/ or one of its checkpoints"
            ) from None


def check_encoder(encoder: Encoder, identity: str, where: Path) -> None:
    """Raises ConfigError for an encoder that is not the one of `identity`, whose latents weights in `where` predict."""
    # By content: a path may hold other weights by now, and the same weights may lie elsewhere.
    if encoder.identity != identity:
        raise ConfigError(
            f"{where}: predicts latents of the encoder {identity}, and this one is {encoder.identity}; give the same "
            "encoder.path and encoder settings, or train anew with another run_name"
        )


def load_latent_run(
    path: str, *, encoder: EncoderConfig | None = None, device: str | None = None
) -> tuple[Encoder, FuturePredictor, ClipReader, LatentSettings]:
    """A trained predictor, frozen, with its encoder and the reader of its clips.

    Args:
        path: a run directory (its best/, else its last checkpoint), or a folder of weights.
        encoder: where the encoder is to be found now; None: where it was in training.
        device: as `load_encoder` takes it.

    Raises:
        ConfigError: for a folder without such weights, or an encoder that is not the one it was trained with.
    """
    folder = Path(resolve_checkpoint(path))
    settings = LatentSettings.read(folder)
    found = load_encoder(encoder or settings.encoder, device=device)
    check_encoder(found, settings.identity, folder)
    model = FutureModel(found, make_predictor(settings.predictor, dim=found.dim)).to(found.device)
    with whole_files(path=path, folder=str(folder)):
        model.load_state_dict(load_file(folder / WEIGHTS_FILE, device=str(found.device)))
    if found.is_trained:  # its latents are others now, and so is its name
        found.identity = identity_of(settings.identity.partition("-")[0], found.model, {"of": settings.identity})
    # Whoever trains on makes a model of its own; dropout or a gradient would only cost here.
    model.requires_grad_(False).eval()
    reader = ClipReader(settings.clips, frame_size_px=found.frame_size_px)
    return found, model.predictor, reader, settings
