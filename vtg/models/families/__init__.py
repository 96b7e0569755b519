"""The families of models that vtg knows, each a file of this folder; nothing else asks for one by its name.

None of it imports torch or numpy: plans of batches and checks of settings ask here too.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Union

from vtg.errors import ConfigError
from vtg.models.families.family import ModelFamily
from vtg.models.families.molmo2 import MOLMO2
from vtg.models.families.qwen2_5_vl import QWEN2_5_VL
from vtg.models.families.qwen3_5 import QWEN3_5
from vtg.models.families.qwen3_vl import QWEN3_VL

if TYPE_CHECKING:
    from transformers import PretrainedConfig, ProcessorMixin

FAMILIES: dict[str, ModelFamily] = {
    QWEN3_5.name: QWEN3_5,
    QWEN3_VL.name: QWEN3_VL,
    QWEN2_5_VL.name: QWEN2_5_VL,
    MOLMO2.name: MOLMO2,
}
"""All families by name. Of several with one class of processor, a processor alone means the first whose `template_mark`
its chat template holds."""


def family_of(source: Union["ProcessorMixin", "PretrainedConfig"]) -> ModelFamily:
    """The family of a processor, or of a model by its config.

    Raises:
        ConfigError: for one of no family: how the model reads times is not known.
    """
    model_type, name = getattr(source, "model_type", None), type(source).__name__
    template = str(getattr(source, "chat_template", None))
    for family in FAMILIES.values():
        if (name == family.processor and family.template_mark in template) or model_type in family.model_types:
            return family
    known = f"processors: {', '.join(dict.fromkeys(family.processor for family in FAMILIES.values()))}"
    if model_type is not None:
        name, known = f"model of the type {model_type!r}", f"types: {', '.join(known_types())}"
    raise ConfigError(
        f"model: a {name} was loaded, but its way of reading times is unknown; "
        f"use a {either(FAMILIES.values())} model ({known})"
    )


def known_types() -> dict[str, str]:
    """`model_type` of every model that vtg was tried with, and the title of its family."""
    return {model_type: family.title for family in FAMILIES.values() for model_type in family.model_types}


def either(families: Iterable[ModelFamily]) -> str:
    """Their titles as alternatives: "A, B or C"."""
    *titles, last = (family.title for family in families)
    return f"{', '.join(titles)} or {last}" if titles else last
