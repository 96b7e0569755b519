"""Encoders of clips, each a file of this folder; `load_encoder` is how the rest of vtg gets one."""

from collections.abc import Callable

from vtg.config.encoder_settings import EncoderConfig
from vtg.errors import ConfigError
from vtg.latents.encoders.dinov3 import load_dinov3
from vtg.latents.encoders.encoder import Encoder
from vtg.latents.encoders.encoder_parts import train_modules
from vtg.latents.encoders.qwen_tower import load_qwen_tower
from vtg.latents.encoders.vjepa2 import load_vjepa2

ENCODERS: dict[str, Callable[[EncoderConfig, str | None], Encoder]] = {
    "qwen_tower": load_qwen_tower,
    "vjepa2": load_vjepa2,
    "dinov3": load_dinov3,
}
"""Name → load(settings, device)."""


def load_encoder(settings: EncoderConfig, *, device: str | None = None) -> Encoder:
    """The encoder that settings ask for, frozen but for `settings.trained`.

    Args:
        device: as `vtg.models.loading.choose_device` takes it; None: the GPU where there is one, else the CPU.

    Raises:
        ConfigError: settings that cannot be, a name in `trained` that no module has, or a path of no such model.
    """
    if settings.name not in ENCODERS:
        raise ConfigError(f"encoder.name = {settings.name!r}: must be one of {', '.join(ENCODERS)}")
    encoder = ENCODERS[settings.name](settings, device)
    train_modules(encoder, settings.trained)
    return encoder
