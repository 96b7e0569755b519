"""What encoders that transformers loads by a config and a processor of their own have in common."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from vtg.config.encoder_settings import EncoderConfig
from vtg.errors import ConfigError
from vtg.latents.encoder_finding import check_type, weights_of
from vtg.models.loading import choose_device, choose_dtype, whole_files

# Frames, (height, width), of which a processor must make one size: one wide and one tall.
TRIED_SIZES = ((64, 96), (96, 64))


def read_config(settings: EncoderConfig) -> Any:
    """The config of a model that `settings.name` reads.

    Raises:
        ConfigError: it cannot be found, or is of another kind of model.
    """
    where = weights_of(settings)
    with _found(settings):
        # As a dict first: a type that transformers does not know would end in its advice to upgrade.
        check_type(settings, PretrainedConfig.get_config_dict(where)[0].get("model_type"))
        return AutoConfig.from_pretrained(where, trust_remote_code=False)


def load_processor_of(settings: EncoderConfig, kind: Any, **options: Any) -> Any:
    """The processor beside the weights of an encoder; `kind`: AutoVideoProcessor or AutoImageProcessor.

    Raises:
        ConfigError: it cannot be found.
    """
    with _found(settings):
        return kind.from_pretrained(weights_of(settings), trust_remote_code=False, **options)


def load_weights(settings: EncoderConfig, device: str | None) -> PreTrainedModel:
    """The model itself, on its device and in its type; safetensors alone are read.

    Raises:
        RunError: for a file that is truncated or not there.
    """
    where, target = weights_of(settings), choose_device(device)
    with whole_files(path=settings.path, folder=where):
        model = AutoModel.from_pretrained(
            where, dtype=choose_dtype(settings.dtype, target), use_safetensors=True, trust_remote_code=False
        )
    return model.to(target)


def one_size(settings: EncoderConfig, process: Callable[[torch.Tensor], torch.Tensor]) -> tuple[int, int]:
    """(height, width) of what a processor makes of frames of any size.

    Args:
        process: (1, 3, height, width) uint8 → (…, height, width).

    Raises:
        ConfigError: it depends on theirs, so that there is no one grid of latents.
    """
    # Tried rather than read from its settings: processors combine resize, size and crop each in their own way.
    made = [tuple(process(torch.zeros(1, 3, *size, dtype=torch.uint8)).shape[-2:]) for size in TRIED_SIZES]
    if made[0] != made[1]:
        tried, got = (" and ".join(f"{height}x{width}" for height, width in sizes) for sizes in (TRIED_SIZES, made))
        raise ConfigError(
            f"encoder.path = {settings.path!r}: its processor makes frames of {got} pixels (height x width) of those "
            f"of {tried}, but latents have one grid; let it crop to one size (do_center_crop, crop_size)"
        )
    height, width = made[0]
    return height, width


def grid_of(settings: EncoderConfig, size: tuple[int, int], patch: int) -> tuple[int, int]:
    """(H, W) of the patches of a frame of that size.

    Raises:
        ConfigError: a patch does not fit whole into it: its pixels would be left out without a word.
    """
    if size[0] % patch or size[1] % patch:
        raise ConfigError(
            f"encoder.path = {settings.path!r}: its processor makes frames of {size[0]}x{size[1]} pixels (height x "
            f"width), but a patch of the model is {patch} pixels a side; set its size to a multiple of that"
        )
    return size[0] // patch, size[1] // patch


@contextmanager
def _found(settings: EncoderConfig) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"encoder.path = {settings.path!r} cannot be loaded ({reason}); give a folder with the model and its "
            "processor, or a hub name that this machine can reach; where a licence is to be accepted on the model's "
            "page first, do so and log in with `hf auth login`"
        ) from error
