"""How lmms-eval finds vtg: the entry point `lmms_eval.models` of the installed package calls `manifest`."""

from typing import Any


def manifest() -> Any:
    """lmms-eval's `ModelManifest` of the model `vtg`. Imports nothing of the model: lmms-eval asks at every start."""
    from lmms_eval.models.registry_v2 import ModelManifest  # pyright: ignore[reportMissingImports]

    return ModelManifest(model_id="vtg", chat_class_path="vtg.harness.lmms_eval_model.VtgModel")
