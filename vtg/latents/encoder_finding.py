"""Whether the weights of an encoder are here or can be fetched, and are of its kind; asked before torch is imported."""

import json
from pathlib import Path

from vtg.config.encoder_settings import EncoderConfig
from vtg.errors import ConfigError
from vtg.models.checkpoint import resolve_base
from vtg.models.families import known_types
from vtg.models.hub import find_in_hub

# The one whose weights are those of a model that vtg trains.
TOWER = "qwen_tower"

ENCODER_OF_TYPE: dict[str, str] = {
    **dict.fromkeys(known_types(), TOWER),
    "vjepa2": "vjepa2",
    "dinov3_vit": "dinov3",
    "dinov3_convnext": "dinov3",
}
"""`model_type` of config.json → the encoder that reads it."""


def find_encoder(settings: EncoderConfig) -> None:
    """Makes sure that the weights of `settings.path` are in a folder, were fetched, or can be, and are of its kind.

    Raises:
        ConfigError: they cannot be; a folder without weights as safetensors; or a model of another kind.
    """
    where = weights_of(settings)
    if not Path(where).is_dir():
        find_in_hub(where, path=settings.path, key="encoder.path")
        return
    try:
        model_type = json.loads((Path(where) / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError):
        raise ConfigError(
            f"{where}/config.json: not the config of a model (a JSON object); fetch or save the model again"
        ) from None
    check_type(settings, model_type)


def weights_of(settings: EncoderConfig) -> str:
    """The folder or hub name that holds the weights of `settings.path`.

    Raises:
        ConfigError: for a folder without weights as safetensors, and for what looks like a missing folder.
    """
    folder = Path(settings.path)
    # A run directory, or an adapter, is of a Qwen-VL alone.
    if settings.name == TOWER or not folder.is_dir():
        return resolve_base(settings.path)
    # transformers would name the hub here, and not the folder.
    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"encoder.path = {settings.path!r}: no model is in this folder (there is no config.json); give the folder "
            "that save_pretrained or hf download wrote, or a hub name"
        )
    if not any(folder.glob("*.safetensors")):
        # Pickled weights can run code when they are read.
        raise ConfigError(
            f"encoder.path = {settings.path!r}: holds no weights as safetensors, and vtg reads no others; save the "
            "model again with transformers, which writes them"
        )
    return settings.path


def check_type(settings: EncoderConfig, model_type: object) -> None:
    """Raises ConfigError for a model that `settings.name` does not read; says which encoder does."""
    reader = ENCODER_OF_TYPE.get(str(model_type))
    if reader == settings.name:
        return
    where = f"encoder.path = {settings.path!r}: a model of the type {model_type!r}"
    if reader is not None:
        instead = f"encoder={reader} encoder.path={settings.path}"
        raise ConfigError(f"{where}, which encoder={settings.name} does not read; choose {instead}")
    own = ", ".join(name for name, encoder in ENCODER_OF_TYPE.items() if encoder == settings.name)
    raise ConfigError(f"{where} makes no latents of clips; give one that encoder={settings.name} reads ({own})")
