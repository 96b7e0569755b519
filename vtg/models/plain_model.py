"""The model that lies in a PeftModel."""

from typing import Any


def plain_model(model: Any) -> Any:
    """The model of a family without PEFT around it; its adapters stay in its layers.

    Args:
        model: plain, or a PeftModel on one.
    """
    # By its method and not by its class: where there is no adapter, peft need not be imported.
    return model.get_base_model() if hasattr(model, "get_base_model") else model
