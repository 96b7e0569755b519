"""The keys and values of everything that is being decoded: pages of prompts, and what each row wrote itself."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn.functional import pad
from transformers.cache_utils import DynamicLayer, LinearAttentionLayer

from vtg.decoding.prefill import CONV, RECURRENT

PAGES = {"cuda": 512}
"""Tokens of a page, by the kind of device: few enough that a prompt's last one wastes little, and enough that a GPU's
time does not go to adding up what its pages gave; else `PAGE`."""

PAGE = 128


class OwnKeys(DynamicLayer):
    """What rows have written themselves, in one layer: each row's new token is put after its own last.

    Attributes:
        own: keys and values (rows, heads, room, d).
        pages: those of prompts (pages, heads, tokens, d).
        at: (rows,) how many tokens each row has, shared by all layers.
        used: how many tokens of `own` are looked at.
    """

    def __init__(self, states: tuple[torch.Tensor, torch.Tensor]) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = states[0].dtype, states[0].device, True
        # Under autocast keys, which were rotated, are of another type than values.
        self.kinds = [(one.shape[1], one.shape[3], one.dtype) for one in states]
        self.own: list[Any] = [None, None]
        self.pages: list[Any] = [None, None]
        self.at = torch.empty(0)
        self.used = 0

    @property
    def token_bytes(self) -> int:
        return sum(heads * d * dtype.itemsize for heads, d, dtype in self.kinds)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rows = len(key_states)
        each, at = torch.arange(rows, device=key_states.device), self.at[:rows]
        for states, new in zip(self.own, (key_states, value_states), strict=True):
            states[each, :, at] = new[:, :, 0].to(states.dtype)
        keys, values = (states[:rows, :, : self.used] for states in self.own)
        return keys, values

    def get_seq_length(self) -> int:
        return self.used


class OwnStates(LinearAttentionLayer):
    """The states of rows in one recurrent layer; the model updates them in place."""

    def __init__(self, prompt: Any) -> None:
        super().__init__()
        self.device, self.dtype = prompt.device, prompt.dtype
        self.shapes = {name: (*(one := getattr(prompt, name)[0]).shape[1:], one.dtype) for name in (CONV, RECURRENT)}
        self.has_previous_state[0] = self.is_conv_states_initialized[0] = self.is_recurrent_states_initialized[0] = True
        self.conv_kernel_size = getattr(prompt, "conv_kernel_size", None)  # from transformers 5.24 on
        self.whole: dict[str, torch.Tensor] = {}

    @property
    def row_bytes(self) -> int:
        return sum(torch.Size(shape[:-1]).numel() * shape[-1].itemsize for shape in self.shapes.values())


class KeyPool:
    """Keys and values of prompts in pages, of rows in a buffer each, and the states of recurrent layers.

    Page 0 is empty: what a table points to where a prompt has no more.

    Args:
        prompt: the cache layers of any tokens of the model, which say what they hold.
        room: the most tokens that a row writes.
        page: tokens of a page.
    """

    def __init__(self, prompt: Sequence[Any], *, room: int, page: int) -> None:
        self.layers: list[OwnKeys | OwnStates] = [
            OwnStates(layer) if hasattr(layer, RECURRENT) else OwnKeys((layer.keys, layer.values)) for layer in prompt
        ]
        self.room, self.page, self.pages, self.rows = room, page, 0, 0

    @property
    def page_bytes(self) -> int:
        return self.page * sum(layer.token_bytes for layer in self._attention())

    @property
    def row_bytes(self) -> int:
        states = sum(layer.row_bytes for layer in self.layers if isinstance(layer, OwnStates))
        return states + self.room * sum(layer.token_bytes for layer in self._attention())

    def bytes_of(self, *, pages: int, rows: int) -> int:
        """Of room for so many pages, the empty one included, and rows."""
        return pages * self.page_bytes + rows * self.row_bytes

    def resize(self, *, pages: int, rows: int) -> None:
        """Makes room for so many pages, the empty one included, and rows; what the first of them hold stays."""
        for layer in self.layers:
            if isinstance(layer, OwnStates):
                for name, (*shape, dtype) in layer.shapes.items():
                    old = layer.whole.get(name)
                    layer.whole[name] = _resized(old, (rows, *shape), dtype=dtype, device=layer.device)
                continue
            for buffers, count, tokens in ((layer.pages, pages, self.page), (layer.own, rows, self.room)):
                # One after the other, so that never more than one of all buffers is there twice.
                for at, (heads, d, dtype) in enumerate(layer.kinds):
                    shape = (count, heads, tokens, d)
                    buffers[at] = _resized(buffers[at], shape, dtype=dtype, device=layer.device)
        self.pages, self.rows = pages, rows

    def write_prompt(self, prompt: Sequence[Any], attended: torch.Tensor, pages: torch.Tensor) -> None:
        """Copies keys and values of a prompt's tokens, of those in `attended` (P,) bool, into `pages` (n,) int64."""
        # Numbers and no mask, which would make a GPU wait in every layer.
        tokens = attended.nonzero()[:, 0]
        for layer, made in zip(self.layers, prompt, strict=True):
            if isinstance(layer, OwnKeys):
                for buffer, states in zip(layer.pages, (made.keys, made.values), strict=True):
                    states = states[0].index_select(1, tokens)
                    # The last page's rest too: what lay there could be no number, and 0 times that is none either.
                    states = pad(states, (0, 0, 0, len(pages) * self.page - states.shape[1]))
                    buffer[pages] = states.unflatten(1, (len(pages), self.page)).transpose(0, 1)

    def states_of(self, prompt: Sequence[Any]) -> list[dict[str, torch.Tensor]]:
        """The states that a prompt leaves in every recurrent layer, (1, …) each."""
        return [
            {name: getattr(made, name)[0] for name in layer.shapes}
            for layer, made in zip(self.layers, prompt, strict=True)
            if isinstance(layer, OwnStates)
        ]

    def write_states(self, states: Sequence[dict[str, torch.Tensor]], rows: torch.Tensor) -> None:
        """Gives `rows` (n,) int64 the states of their prompt."""
        recurrent = (layer for layer in self.layers if isinstance(layer, OwnStates))
        for layer, made in zip(recurrent, states, strict=True):
            for name, one in made.items():
                layer.whole[name][rows] = one

    def move_rows(self, sources: torch.Tensor, *, used: int) -> None:
        """Row r becomes what row `sources[r]` was, in its first `used` tokens."""
        for layer in self.layers:
            buffers = list(layer.whole.values()) if isinstance(layer, OwnStates) else layer.own
            for buffer in buffers:
                part = buffer[:, :, :used] if isinstance(layer, OwnKeys) else buffer
                part[: len(sources)] = part[sources]

    def look_at(self, *, rows: int, used: int, at: torch.Tensor) -> None:
        """What the next step is about: the first so many rows and tokens of them; `at` (rows,): how many each has."""
        for layer in self.layers:
            if isinstance(layer, OwnKeys):
                layer.at, layer.used = at, used
                continue
            for name, states in layer.whole.items():
                getattr(layer, name)[0] = states[:rows]

    def _attention(self) -> Iterator[OwnKeys]:
        return (layer for layer in self.layers if isinstance(layer, OwnKeys))


def _resized(old: torch.Tensor | None, shape: Sequence[int], **kind: Any) -> torch.Tensor:
    if old is not None and len(old) == shape[0]:
        return old
    new = torch.zeros(*shape, **kind)
    if old is not None:
        count = min(len(old), len(new))
        new[:count] = old[:count]
    return new
