"""The YAML head of a model card, by which the Hugging Face hub files a model."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData, try_to_load_from_cache
from huggingface_hub.repocard import metadata_load

# "Qwen/Qwen3-VL-4B-Instruct": the hub refuses a card that names a folder as its base model.
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")

LICENSE_KEYS = ("license", "license_name", "license_link")


def is_hub_name(base: str) -> bool:
    """Whether `base` is a name on the hub, and no folder of this machine."""
    return HUB_NAME.fullmatch(base) is not None and not Path(base).exists()


def license_of(base: str | None) -> dict[str, Any]:
    """The licence that the base model's own card states; empty where it has no card here, or states none."""
    if base is None:
        return {}
    card = Path(base) / "README.md"
    if is_hub_name(base):
        cached = try_to_load_from_cache(base, "README.md")
        card = Path(cached) if isinstance(cached, str) else card
    if not card.is_file():
        return {}
    try:
        metadata = metadata_load(card) or {}
    except ValueError:  # a card of someone else's, with a broken head
        return {}
    return {key: metadata[key] for key in LICENSE_KEYS if key in metadata}


def card_head(
    name: str, *, base: str | None, is_trained: bool, results: Sequence[EvalResult], is_adapter: bool = False
) -> str:
    """The head with its fences.

    Args:
        base: the model that was trained.
        results: scores for the model index.
        is_adapter: the weights are an adapter alone, which PEFT loads on the base.
    """
    data = ModelCardData(
        library_name="peft" if is_adapter else "transformers",
        pipeline_tag="video-text-to-text",
        tags=["video-temporal-grounding", *(["vtg"] if is_trained else []), *(["lora"] if is_adapter else [])],
        base_model=base if base and is_hub_name(base) else None,
        model_name=name if results else None,
        eval_results=list(results) or None,
        **license_of(base),
    )
    if data.base_model:
        data["base_model_relation"] = "adapter" if is_adapter else "finetune"
    return f"---\n{data.to_yaml()}\n---"
