"""Recurrent layers (Gated DeltaNet) that keep sequences apart, where a mask cannot: it is not looked at there.

    part_sequences(model)                # once, after loading
    model(**inputs, layout=layout)       # a packed batch: `vtg.data.layout`

A packed batch holds several conversations one after the other, and branches that go on from what they have in common.
Attention is told so by a mask. A convolution over the last tokens and a recurrent state would run on from one into the
next. So the convolution is given all parts with the tokens before it that each sees, and the state is read segment by
segment: from an empty one, then all its branches together from the state that the segment left, then theirs. The
gradient flows back through both. The layer is the model's own, with these two functions of it wrapped: projections,
gates, norms, LoRA and ZeRO see one forward of all tokens, and the kernels of flash-linear-attention and causal-conv1d
are used where they are installed and can train.

A padded batch is right as transformers runs it where its padding is at either end. Padding frames lie amid a
conversation: there the state would fade over them, and the convolution see them. So both functions are given the
tokens of each row with all padding moved to its beginning, where the state is still empty.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache, wraps
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from inspect import signature, unwrap
from typing import Any

import torch
import transformers
from packaging.version import Version

from vtg.data.layout import LAYOUT, Layout
from vtg.errors import ConfigError
from vtg.models.families import family_of

log = logging.getLogger(__name__)

# Beside LAYOUT: what the layers' forward passes on to both functions, as it does all keywords that it does not know.
ORDER = "token_order"

CONVOLUTION, RULE = "causal_conv1d_fn", "torch_chunk_gated_delta_rule"


def part_sequences(model: Any) -> None:
    """Lets the recurrent layers of a plain Qwen-VL model, in place, keep the parts of a packed batch apart and padding
    frames out; does nothing for a model without such layers, or a second time.

    Raises:
        ConfigError: for a version of transformers whose layers are made otherwise.
    """
    family = family_of(model.config)
    if family.recurrent is None:
        return
    inner = model.model.language_model
    if _prepare in inner._forward_pre_hooks.values():
        return
    layer = next(module for name, module in inner.named_modules() if name.endswith(family.recurrent))
    # The layer finds both in its module by name, so wrapping them there reaches every layer of this class.
    module = sys.modules[type(layer).__module__]
    for name, wrap, known in (
        (CONVOLUTION, _parted_convolution, ("hidden_states", "weight", "bias", "activation", "kwargs")),
        (RULE, _parted_rule, ("query", "key", "value", "g", "beta", "initial_state", "output_final_state", "kwargs")),
    ):
        function = getattr(module, name, None)
        if function is None or not set(known) <= set(signature(function).parameters):
            raise ConfigError(
                f"transformers {transformers.__version__}: its {family.title} has no {name} as vtg needs it to keep "
                "sequences apart; install the version that was tried: pip install -e . -c env/constraints.txt"
            )
        if not hasattr(function, "keeps_apart"):
            setattr(module, name, wrap(function))
    inner.register_forward_pre_hook(_prepare, with_kwargs=True)


def is_recurrent(model: Any) -> bool:
    """Whether a plain model has layers that are told of a packed batch by its `Layout` alone."""
    return family_of(model.config).recurrent is not None


def kernel_fault(capability: tuple[int, int], triton: str, *, has_tilelang: bool) -> str | None:
    """Why flash-linear-attention cannot train these layers on a GPU; None where it can.

    Args:
        capability: compute capability of the GPU.
        triton: version.
        has_tilelang: whether TileLang is installed, in which the package has the same kernels.
    """
    # Triton compiles a kernel of the backward pass wrongly (fla-org/flash-linear-attention#640); fla-core 0.6 raises.
    if capability[0] == 9 and Version("3.4.0") <= Version(triton) < Version("3.7.1") and not has_tilelang:
        return f"Triton {triton} on a Hopper GPU: 3.7.1 or later is needed, or pip install tilelang"
    return None


@cache
def kernels_can_train() -> bool:
    """Whether flash-linear-attention can be used on this process's GPU; warns, once, where it is there and cannot."""
    try:
        triton, fla = version("triton"), version("fla-core")
    except PackageNotFoundError:
        log.warning("Gated DeltaNet layers train several times as fast with flash-linear-attention: pip install it")
        return False
    fault = kernel_fault(torch.cuda.get_device_capability(), triton, has_tilelang=find_spec("tilelang") is not None)
    if fault:
        log.warning(
            "fla-core %s cannot train Gated DeltaNet layers here (%s); PyTorch's own, several times as slow, runs them",
            fla,
            fault,
        )
    return fault is None


def _parted_convolution(convolve: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    @wraps(convolve)
    def parted(hidden_states: torch.Tensor, weight: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """(B, D, L) → (B, D, L)."""
        layout, order = _asked(kwargs)
        if order is not None:
            index = order[:, None].expand(-1, hidden_states.shape[1], -1)
            convolved = convolve(hidden_states.gather(2, index), weight, *args, **kwargs)
            return torch.zeros_like(convolved).scatter(2, index, convolved)
        if layout is None:
            return convolve(hidden_states, weight, *args, **kwargs)
        windows, rows = layout.windows(weight.shape[-1]), hidden_states[0].T
        # In place: it is a copy already, and of all tokens.
        read = rows[windows.tokens].index_fill_(0, windows.empty, 0)
        convolved = convolve(read.T[None], weight, *args, **kwargs)
        return _put(convolved[0].T, windows.places, len(rows)).T[None]

    parted.keeps_apart = True  # type: ignore[attr-defined]
    return parted


def _parted_rule(chosen: Callable[..., Any]) -> Callable[..., Any]:
    own = unwrap(chosen)

    @wraps(chosen)
    def parted(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        g: torch.Tensor,
        beta: torch.Tensor,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Queries, keys and values (B, L, heads, d), gates (B, L, heads) → (B, L, heads, d), and the last state."""
        layout, order = _asked(kwargs)
        inputs = (query, key, value, g, beta)
        # transformers chooses at its import, and a Triton kernel runs on no CPU. Prompts of rollouts go through the
        # same code as training: GRPO compares their probabilities.
        rule = chosen if query.is_cuda and kernels_can_train() else own
        if order is not None:
            made, state = _call(rule, [_rows(one, order) for one in inputs], kwargs)
            index = order[..., None, None].expand_as(made)
            return torch.zeros_like(made).scatter(1, index, made), state
        if layout is None:
            return _call(rule, inputs, kwargs)
        pieces: list[torch.Tensor] = []
        for levels in layout.levels.segments:
            state = None
            for level in levels:
                *own_inputs, gate, strength = (one[0, level.tokens] for one in inputs)
                # With neither decay nor update, the state is past a part's end what it was there.
                gates = (one.masked_fill(level.past[..., None], 0) for one in (gate, strength))
                before = None if state is None else state[level.parents]
                asked = kwargs | {"initial_state": before, "output_final_state": level is not levels[-1]}
                made, state = _call(rule, [*own_inputs, *gates], asked)
                pieces.append(made.flatten(0, 1))
        return _put(torch.cat(pieces), layout.levels.places, value.shape[1])[None], None

    parted.keeps_apart = True  # type: ignore[attr-defined]
    return parted


def _asked(kwargs: dict[str, Any]) -> tuple[Layout | None, torch.Tensor | None]:
    """The layout, or the order of the tokens of padded rows, taken out of the keywords of a function."""
    return kwargs.pop(LAYOUT, None), kwargs.pop(ORDER, None)


def _call(rule: Callable[..., Any], inputs: Sequence[torch.Tensor], kwargs: dict[str, Any]) -> Any:
    query, key, value, g, beta = inputs
    # PyTorch's own makes its products in float32, where training is slow; kernels have types of their own.
    is_half = query.dtype != torch.float32 and torch.is_grad_enabled()
    with torch.autocast(query.device.type, query.dtype) if is_half else nullcontext():
        return rule(query, key, value, g=g, beta=beta, **kwargs)


def _rows(values: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """(B, L, …) in the order (B, L) of each row."""
    return values[torch.arange(len(order), device=order.device)[:, None], order]


def _put(rows: torch.Tensor, places: torch.Tensor, length: int) -> torch.Tensor:
    """(length, …) with `rows` (M, …) at their places (M,) and zeros at others; those at place `length` are left out."""
    # One place more than is kept, not a choice of rows: that would be a copy of all of them.
    return rows.new_zeros(length + 1, *rows.shape[1:]).index_copy_(0, places, rows)[:length]


def _prepare(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A forward pre-hook of the language model: no cache of parts; the order where padding lies amid a row."""
    if kwargs.get(LAYOUT) is not None:
        # Parts end in many states, and nothing goes on from them: a cache has no place for more than one a row.
        return args, kwargs | {"use_cache": False}
    mask, length = kwargs.get("attention_mask"), kwargs["inputs_embeds"].shape[1]
    if mask is None or mask.ndim != 2 or length == 1:
        return args, kwargs
    attended = mask[:, -length:].bool()
    starts = attended[:, :1].sum(1) + (attended[:, 1:] & ~attended[:, :-1]).sum(1)
    if bool((starts <= 1).all()):
        return args, kwargs
    return args, kwargs | {ORDER: attended.long().argsort(dim=1, stable=True)}
