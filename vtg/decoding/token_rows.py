"""The embedding and the head of a step of decoding, where an adapter trains rows of them (temporal tokens).

PEFT makes a copy of the whole table in every call, and puts the rows into it at numbers that it copies to the device
then: two tables of the vocabulary a token, and what no CUDA graph can record. Here rows are looked up, and multiplied,
apart, at numbers that lie on the device.
"""

from typing import Any

import torch
from peft.utils import TrainableTokensWrapper
from torch.nn.functional import linear


class TokenRows:
    """Embeddings and logits of a plain model; what an optimizer makes of the rows is seen at the next call."""

    def __init__(self, plain: Any) -> None:
        self._plain = plain
        self._ids: dict[tuple[int, str], torch.Tensor] = {}

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """(rows, 1) → (rows, 1, width)."""
        module = self._plain.get_input_embeddings()
        embedded, adapters = _base(module)(ids), _active(module)
        for name in adapters:
            own, rows = self._known(module, name), _values(module, name)
            found = ids[..., None] == own  # (rows, 1, trained): few columns, and no look at any number
            embedded = torch.where(found.any(-1, keepdim=True), rows[found.int().argmax(-1)], embedded)
        return embedded

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(rows, width) → (rows, vocabulary)."""
        module = self._plain.get_output_embeddings()
        logits, adapters = _base(module)(hidden), _active(module)
        for name in adapters:
            of_rows = linear(hidden, _values(module, name)).to(logits.dtype)
            logits = logits.index_copy(-1, self._known(module, name), of_rows)
        return logits

    def _known(self, module: Any, name: str) -> torch.Tensor:
        """The ids of the rows, on the device; made at the first call, which no graph records."""
        key = id(module), name
        if key not in self._ids:
            ids = module.token_adapter.token_indices[name]
            self._ids[key] = torch.tensor(ids, device=_base(module).weight.device)
        return self._ids[key]


def _active(module: Any) -> list[str]:
    """The adapters of which the rows are not in the table itself."""
    if not isinstance(module, TrainableTokensWrapper):
        return []
    adapter: Any = module.token_adapter
    if module.disable_adapters or adapter.disable_adapters or adapter.merged:
        return []
    return [name for name in module.active_adapters if name in adapter.trainable_tokens_delta]


def _base(module: Any) -> Any:
    return module.token_adapter.get_base_layer() if isinstance(module, TrainableTokensWrapper) else module


def _values(module: Any, name: str) -> torch.Tensor:
    return module.token_adapter.trainable_tokens_delta[name].to(_base(module).weight.dtype)
