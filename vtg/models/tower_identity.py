"""What tells a vision tower with its projector from another: weights, sizes, and how they compute."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import torch
import transformers

from vtg.errors import ConfigError
from vtg.models.families import family_of
from vtg.models.plain_model import plain_model


def tower_identity(model: Any) -> str:
    """A digest of all weights of the tower and the projector (adapters on them included), their sizes, their device's
    kind and the version of transformers: equal where they make the same of a clip.

    Args:
        model: plain, or with PEFT around it.
    """
    plain = plain_model(model)
    sizes = {name: value for name, value in plain.config.to_dict().items() if isinstance(value, dict)}
    sizes.pop("text_config", None)
    said = [transformers.__version__, plain.device.type, sizes]
    digest = hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode())
    for name, parameter in sorted(_parameters(plain)):
        values = parameter.detach().cpu().contiguous().flatten()
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
        digest.update(values.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_frozen(model: Any) -> None:
    """Raises ConfigError where a part of the tower or the projector is trained, so that nothing of it can be kept."""
    plain = plain_model(model)
    trained = [name for name, parameter in _parameters(plain) if parameter.requires_grad]
    if trained:
        raise ConfigError(
            f"video.tower_cache_dir is set, but {len(trained)} weights of the vision tower and the projector are "
            f"trained (such as {trained[0]}), so that what it makes of a clip changes with every step; set "
            "video.tower_cache_dir=null, or parts.vision=frozen and parts.projector=frozen, or start from a model "
            "without an adapter on them"
        )


def _parameters(plain: Any) -> Iterator[tuple[str, torch.Tensor]]:
    family = family_of(plain.config)
    return ((name, one) for name, one in plain.named_parameters() if family.part_of(name) != "language")
