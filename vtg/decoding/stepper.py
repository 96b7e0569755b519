"""One token of every row: the model's own forward over the keys of a `KeyPool`, and the choice of what is written."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from vtg.decoding.captured_step import StepGraphs
from vtg.decoding.compiled_step import compiled_layers
from vtg.decoding.key_pool import PAGE, PAGES, KeyPool, OwnKeys
from vtg.decoding.paged_attention import Shape, paged_attention
from vtg.decoding.prefill import CACHE, Prefill, cache_of
from vtg.decoding.step_tensors import StepTensors
from vtg.decoding.token_choice import Sampling, TokenChoice
from vtg.decoding.token_rows import TokenRows
from vtg.models.families import family_of
from vtg.models.plain_model import on_device, without_gradients


class Stepper:
    """Prompts and rows of a plain model in evaluation mode.

    Args:
        columns: ids that a constrained row may write.
        graphs: what runs steps; None: they are run plainly.
        prefill_tokens: as `Prefill` takes it.

    Attributes:
        prompts: what reads them.
        pool: keys, values and states; None before the first prompt.
    """

    def __init__(
        self,
        plain: Any,
        choose: TokenChoice,
        *,
        columns: int,
        graphs: StepGraphs | None,
        prefill_tokens: int | None = None,
    ) -> None:
        self.plain, self.choose, self.columns = plain, choose, columns
        self.language: Any = plain.model.language_model
        self.page = PAGES.get(plain.device.type, PAGE)
        self.mrope = family_of(plain.config).mrope
        self.prompts, self.vocabulary = Prefill(plain, together=prefill_tokens), TokenRows(plain)
        self.pool: KeyPool | None = None
        self._cache: Any = None  # of the pool's layers
        self.tensors = self._tensors(rows=0, pages=0)
        self.graphs = graphs

    @property
    def sampling(self) -> Sampling:
        return self.choose.sampling

    @property
    def room(self) -> int:
        return self.sampling.max_new_tokens

    def open_pool(self) -> None:
        """Makes the pool, empty, where there is none: what a token takes is seen at one that is read for it."""
        if self.pool is not None:
            return
        one, cache = torch.zeros(1, 1, dtype=torch.int64, device=self.plain.device), cache_of(self.plain)
        with on_device(self.plain):
            self.language(
                inputs_embeds=self.vocabulary.embed(one),
                attention_mask=one + 1,
                position_ids=one.expand(len(self.tensors.positions), 1, 1) if self.mrope else one,
                use_cache=True,
                **{CACHE: cache},
            )
        self.pool = KeyPool(cache.layers, room=self.room, page=self.page)
        self._cache = cache_of(self.plain, self.pool.layers)

    def reserve(self, *, pages: int, rows: int) -> None:
        """Makes room for so many pages, the empty one included, and rows; what the first of them hold stays."""
        assert self.pool is not None
        if (pages, rows) == (self.pool.pages, self.pool.rows):
            return
        self.pool.resize(pages=pages, rows=rows)
        old, self.tensors = self.tensors, self._tensors(rows=rows, pages=pages)
        self.tensors.take(old)
        if self.graphs:
            self.graphs.forget()

    def enter(
        self,
        places: Sequence[int],
        last: torch.Tensor,
        position: torch.Tensor,
        states: Sequence[dict[str, torch.Tensor]],
    ) -> None:
        """Rows of one prompt begin: its last token (1,), the position of that (4 or 1, 1), states."""
        assert self.pool is not None
        where = torch.tensor(places, device=self.plain.device)
        self.tensors.enter(where, last=last, position=position)
        self.pool.write_states(states, where)

    def move_rows(self, sources: list[int], *, used: int) -> None:
        """Row r becomes what row `sources[r]` was, in its first `used` tokens."""
        assert self.pool is not None
        where = torch.tensor(sources, device=self.plain.device)
        self.pool.move_rows(where, used=used)
        self.tensors.move_rows(where)

    def step(
        self, shape: Shape, *, draws: np.ndarray | None = None, continued: Sequence[tuple[int, int]] | None = None
    ) -> list[list[float]]:
        """Writes the next token of every continuation; its id and its log-prob, (2, n).

        Args:
            draws: (n,) float64 in (0, 1], by which the tokens are drawn; None: they are chosen greedily.
            continued: of each continuation its row and that row's last token; None: every row is one continuation,
                which goes on with what the last step wrote.
        """
        rows = None
        if continued is not None:
            rows, last = torch.tensor(continued, device=self.plain.device).T
            self.tensors.ids[rows] = last
        count = shape.rows if rows is None else len(rows)
        if draws is not None:
            self.tensors.draws[:count] = torch.from_numpy(draws)
        with on_device(self.plain), without_gradients(self.plain):
            if self.graphs:
                self.graphs.run(shape, lambda compiled: self._step(shape, rows, compiled=compiled))
            else:
                self._step(shape, rows)
        return self.tensors.written[:, :count].tolist()

    def _step(self, shape: Shape, continued: torch.Tensor | None, *, compiled: bool = False) -> None:
        assert self.pool is not None
        tensors, rows = self.tensors, shape.rows
        at = tensors.at[:rows]
        self.pool.look_at(rows=rows, used=shape.own, at=at)
        positions = tensors.positions[:, :rows, None]
        layers = [tuple(layer.pages) if isinstance(layer, OwnKeys) else None for layer in self.pool.layers]
        layout, own = tensors.layout(shape, layers), self.pool.layers
        with paged_attention(self.language), compiled_layers(self.language, own, layout, on=compiled):
            hidden = self.language(
                inputs_embeds=self.vocabulary.embed(tensors.ids[:rows, None]),
                attention_mask=torch.zeros(1, 1, 1, 1, device=at.device),  # of four axes: the model makes none itself
                position_ids=positions if self.mrope else positions[0],
                use_cache=True,
                paged=layout,
                **{CACHE: self._cache},
            ).last_hidden_state[:, -1]
        logits = self.vocabulary.logits(hidden)
        written, allowed = at, tensors.allowed[:rows]
        if continued is not None:
            logits, written, allowed = logits[continued], at[continued], allowed[continued]
        count = len(logits)
        tokens, log_probs = self.choose(logits, uniforms=tensors.draws[:count], written=written, allowed=allowed)
        if continued is None:
            tensors.ids[:rows] = tokens
        tensors.written[0, :count], tensors.written[1, :count] = tokens, log_probs
        # Within the room: a row that has ended stays in its place, and goes on writing, until others need it.
        at.add_(1).clamp_(max=self.room - 1)
        tensors.positions[:, :rows] += 1

    def _tensors(self, *, rows: int, pages: int) -> StepTensors:
        sizes = {"rows": rows, "pages": pages, "page": self.page, "columns": self.columns}
        return StepTensors(**sizes, mrope=self.mrope, device=self.plain.device)
