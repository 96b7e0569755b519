"""A prompt with a video, run once for all completions of it: encoded once, through the language model once.

    share_prompts(model)                                 # once, after loading
    prompt = Prompt(features, encode_video(…))           # the clip encoded once, where the vision tower is frozen
    batch = shared_batch([prompt], [completions], …)     # the prompt once, then every completion
    hidden = backbone(**batch).last_hidden_state         # (rows, C, H): what predicts each completion token

The prompt and its G completions are one sequence: the prompt without its last token, then G branches, each the prompt's
last token and the completion without its last. A branch attends to the prompt and to itself, with the positions it has
alone. Everything but attention works on tokens one by one, so it is the model's own forward in which only the attention
function is another: gradient checkpointing, LoRA, a trainable vision tower, DDP and ZeRO see nothing unusual, and the
gradient flows through the prompt. The work is that of P + G·R tokens instead of G·(P + R); no kernel of our own. In
recurrent layers a branch goes on from the state that the prompt leaves (`vtg.models.recurrence`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from inspect import getsource, signature
from types import MethodType
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vtg.data.encoding import Features
from vtg.data.padding import collate
from vtg.data.pixels import join_videos
from vtg.data.token_runs import TokenRun
from vtg.models.families import family_of
from vtg.models.recurrence import part_sequences
from vtg.video.clip import Clip

ATTENTION = "shared_prompt_sdpa"
"""The name of the attention function: SDPA, and SDPA over shared prompts where a forward has a `Layout`."""


@dataclass(frozen=True)
class Segment:
    """One prompt and its branches in the packed sequence: tokens start to branches are shared, branches to end own.

    Branches are looked at in chunks of some: each attends to [prompt, chunk] under its mask (1, 1, b·C, P + b·C).
    `prompt_mask` (1, 1, P, P) is None where every prompt token attends to all before it and to no other. Masks hold 0
    for what is attended to, else the lowest number.
    """

    start: int
    branches: int
    end: int
    prompt_mask: torch.Tensor | None
    chunks: tuple[tuple[slice, torch.Tensor], ...]


@dataclass(frozen=True)
class Layout:
    """Where prompts and branches stand in a packed sequence; the completions are (rows, length) tokens."""

    segments: tuple[Segment, ...]
    rows: int
    length: int


@dataclass(frozen=True)
class Prompt:
    """A prompt of P tokens: features of `vtg.data.encoding.encode`, on the model's device.

    `encoded`: what `encode_video` made of its clip, or None where the vision tower is to see the pixels.
    `clip`: what it asks about, kept where another engine than transformers' is to read it.
    `duration_s`: of that clip, which bounds the times of an answer.
    """

    features: Features
    encoded: torch.Tensor | None = None
    clip: Clip | None = None
    duration_s: float = math.nan

    def inputs(self) -> Features:
        """The features, with the clip encoded where it is."""
        return self.features if self.encoded is None else self.features | {"pixel_values_videos": self.encoded}


def plain_model(model: Any) -> Any:
    """The Qwen-VL model without PEFT around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def share_prompts(model: Any) -> None:
    """Lets a plain Qwen-VL model, in place, take the batches of `shared_batch` and videos already encoded.

    Its other calls stay as they were; attention is SDPA in them.
    """
    AttentionInterface.register(ATTENTION, _attention)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
    inner = model.model
    # Through the registry of attention functions: the layers themselves stay the model's own.
    inner.language_model.config._attn_implementation = ATTENTION
    inner.register_forward_hook(_keep_branches, with_kwargs=True)
    part_sequences(model)
    accept_encoded_videos(model)


def is_sharing(model: Any) -> bool:
    """Whether `share_prompts` was called with this plain Qwen-VL model."""
    return model.model.language_model.config._attn_implementation == ATTENTION


def shared_batch(
    prompts: Sequence[Prompt], completions: Sequence[torch.Tensor], *, dtype: torch.dtype, both_ways: bool = False
) -> dict[str, Any]:
    """One sequence of prompts, each with its completions (n, C) int64 padded at the end, for the model's forward.

    `dtype`: in which attention is computed. `both_ways`: whether the vision tokens of a clip attend to later ones of it
    (`ModelFamily.both_ways`). The backbone's last_hidden_state becomes (rows, C, H), rows being those of
    all prompts one after the other: hidden state [r, t] predicts completion token t of row r.
    """
    length = completions[0].shape[1]
    tokens, kinds, positions, segments, runs, start = [], [], [], [], [], 0
    for prompt, own in zip(prompts, completions, strict=True):
        features, n, device = prompt.features, len(own), own.device
        shared = len(features["input_ids"]) - 1
        branches = torch.cat([features["input_ids"][-1:].expand(n, 1), own[:, :-1]], dim=1)
        after = features["position_ids"][..., -1:] + torch.arange(length, device=device)
        tokens += [features["input_ids"][:-1], branches.flatten()]
        kinds += [features["mm_token_type_ids"][:-1], torch.zeros(n * length, dtype=torch.int64, device=device)]
        positions += [features["position_ids"][..., :-1], *[after] * n]
        middle, end = start + shared, start + shared + n * length
        attended = features["attention_mask"][:-1].bool()
        chunks = _chunks(attended, n, length, middle, dtype)
        is_vision = features["mm_token_type_ids"][:-1] > 0 if both_ways else None
        segments.append(Segment(start, middle, end, _prompt_mask(attended, is_vision, dtype), chunks))
        indices = torch.arange(start, end, device=device)
        runs.append(TokenRun(indices[:shared][attended], indices[shared:].view(n, length)))
        start = end
    return {
        "input_ids": torch.cat(tokens)[None],
        "mm_token_type_ids": torch.cat(kinds)[None],
        "position_ids": torch.cat(positions, dim=-1).unsqueeze(-2),
        "attention_mask": torch.zeros(1, 1, 1, 1, device=tokens[0].device),  # of four axes: the model makes none itself
        **join_videos([prompt.inputs() for prompt in prompts]),
        "shared_prompts": Layout(tuple(segments), sum(map(len, completions)), length),
        "runs": tuple(runs),
    }


def repeated_batch(
    prompts: Sequence[Prompt], completions: Sequence[torch.Tensor], mask: Sequence[torch.Tensor], *, pad_token_id: int
) -> Features:
    """The same with every prompt as often as it has completions: rows (rows, P + C), prompts padded on the left.

    `mask`: (n, C) of each, 1 for the tokens of a completion. Hidden state [r, P + t - 1] predicts completion token t.
    """
    rows: list[Features] = []
    for prompt, own, real in zip(prompts, completions, mask, strict=True):
        inputs, length, device = prompt.inputs(), own.shape[1], own.device
        after = inputs["position_ids"][..., -1:] + 1 + torch.arange(length, device=device)
        for tokens, attended in zip(own, real, strict=True):
            rows.append(
                inputs
                | {
                    "input_ids": torch.cat([inputs["input_ids"], tokens]),
                    "labels": torch.cat([inputs["labels"], tokens]),
                    "attention_mask": torch.cat([inputs["attention_mask"], attended.long()]),
                    "mm_token_type_ids": torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(tokens)]),
                    "position_ids": torch.cat([inputs["position_ids"], after], dim=-1),
                }
            )
    batch = collate(rows, pad_token_id=pad_token_id, padding_side="left")
    del batch["labels"]
    return batch


def encode_video(model: Any, features: Features) -> torch.Tensor:
    """What the vision tower and the projector make of one clip: (tokens, (1 + deepstack layers) · H), no gradient.

    The model's forward takes it in place of `pixel_values_videos` (`accept_encoded_videos`).
    """
    inner = model.model
    # Only where the vision tower is frozen, so that no gradient is lost.
    with torch.no_grad():
        pixels = [features[name] for name in family_of(model.config).vision_inputs]
        out = inner.get_video_features(*pixels, return_dict=True)
    layers = [out.pooler_output, *(getattr(out, "deepstack_features", None) or ())]
    return torch.cat([layer if isinstance(layer, torch.Tensor) else torch.cat(layer) for layer in layers], dim=-1)


def accept_encoded_videos(model: Any) -> None:
    """Lets a plain model take results of `encode_video` as `pixel_values_videos`.

    Encoded videos have one row for each vision token, (tokens, features). Pixels have one for each patch, of which a
    token merges several (Qwen-VL), or another number of axes (Molmo2).
    """
    inner = model.model
    inner.get_video_features = MethodType(_video_features(type(inner)), inner)


@cache
def _video_features(model: type) -> Callable[..., Any]:
    """`get_video_features` of a class of models, for videos that are encoded too."""
    plain = model.get_video_features  # type: ignore[attr-defined]

    # `generate` looks at the names of its parameters for what to give it.
    @wraps(plain)
    def features(inner: Any, *args: Any, **kwargs: Any) -> Any:
        family, given = family_of(inner.config), signature(plain).bind(inner, *args, **kwargs).arguments
        pixels, grid = (given[family.vision_inputs[at]] for at in (0, -1))
        sizes = (grid.prod(-1) // family.grid_merge**2).tolist()
        if pixels.ndim == 2 and len(pixels) == sum(sizes):
            return _encoded_features(inner, pixels, sizes)
        return plain(inner, *args, **kwargs)

    return features


def _encoded_features(inner: Any, encoded: torch.Tensor, sizes: list[int]) -> BaseModelOutputWithPooling:
    """What `get_video_features` returns, of clips of `sizes` tokens that `encode_video` has encoded."""
    width = inner.config.text_config.hidden_size
    tokens, *deepstack = encoded.split(width, dim=-1)
    out = BaseModelOutputWithPooling(pooler_output=tokens.split(sizes))  # type: ignore[arg-type]
    parted = _parts_deepstack(type(inner))
    out.deepstack_features = [layer.split(sizes) if parted else layer for layer in deepstack]  # type: ignore[attr-defined]
    return out


@cache
def _parts_deepstack(inner: type) -> bool:
    """Whether this version of transformers (5.23, not yet 5.17) has the features of every layer part by video."""
    return "deepstack_features" in getsource(inner.get_image_features)  # type: ignore[attr-defined]


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    shared_prompts: Layout | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of (1, heads, L, d) → (1, L, heads, d); plain SDPA without a layout."""
    if shared_prompts is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    pieces = []
    for segment in shared_prompts.segments:
        prompt = slice(segment.start, segment.branches)
        for queries, mask in ((prompt, segment.prompt_mask), *segment.chunks):
            if queries.start < queries.stop:
                q, k, v = query[:, :, queries], _attended(key, prompt, queries), _attended(value, prompt, queries)
                pieces.append(sdpa_attention_forward(module, q, k, v, mask, **kwargs)[0])
    return torch.cat(pieces, dim=1), None


def _attended(states: torch.Tensor, prompt: slice, queries: slice) -> torch.Tensor:
    """Keys or values of a prompt and of the queries after it; copied only where the two are not adjacent."""
    if queries.start <= prompt.stop:
        return states[:, :, prompt.start : queries.stop]
    return torch.cat([states[:, :, prompt], states[:, :, queries]], dim=2)


def _chunks(
    attended: torch.Tensor, n: int, length: int, start: int, dtype: torch.dtype
) -> tuple[tuple[slice, torch.Tensor], ...]:
    """The chunks of a `Segment` whose prompt has the tokens `attended` (P,) bool and whose branches begin at `start`.

    Branches that are looked at together are computed against each other, masked. Where they are longer than the prompt,
    all together, that is most of the work, and chunks a quarter of the prompt long are worth the copies they need.
    """
    # Chunks a quarter of the prompt long balance masked-out work against copies of the prompt's keys.
    size = n if n * length <= len(attended) else max(1, len(attended) // (4 * length))
    # At most two sizes of chunk occur, so masks are made once for each.
    masks = {count: _branch_mask(attended, count, length, dtype) for count in {min(size, n), n % size or size}}
    chunks = []
    for first in range(0, n, size):
        count = min(size, n - first)
        chunks.append((slice(start + first * length, start + (first + count) * length), masks[count]))
    return tuple(chunks)


def _branch_mask(attended: torch.Tensor, count: int, length: int, dtype: torch.dtype) -> torch.Tensor:
    causal = torch.ones(length, length, dtype=torch.bool, device=attended.device).tril()
    branches = torch.block_diag(*[causal] * count).bool()
    return _additive(torch.cat([attended.expand(count * length, -1), branches], dim=1), dtype)


def _prompt_mask(attended: torch.Tensor, both_ways: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """(1, 1, P, P) of the tokens of a prompt, (P,) bool: those attended to, and those that see later ones of theirs."""
    if bool(attended.all()) and both_ways is None:
        return None
    allowed = torch.ones(len(attended), len(attended), dtype=torch.bool, device=attended.device).tril()
    if both_ways is not None:
        allowed |= both_ways[:, None] & both_ways
    allowed &= attended
    # The diagonal stays on: a row that attends to nothing gives NaN in softmax.
    return _additive(allowed | torch.eye(len(attended), dtype=torch.bool, device=attended.device), dtype)


def _additive(allowed: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(1, 1, …) of `allowed` (…) bool: 0 where it is true, else the lowest number."""
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    # The lowest number and not -inf, whose sums can become NaN.
    return mask.masked_fill(~allowed, torch.finfo(dtype).min)[None, None]


def _keep_branches(module: Any, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
    """A forward hook: of a shared batch only the hidden states of completions are left, (rows, C, H)."""
    layout = kwargs.get("shared_prompts")
    if layout is not None:
        kept = [output.last_hidden_state[0, segment.branches : segment.end] for segment in layout.segments]
        output.last_hidden_state = torch.cat(kept).view(layout.rows, layout.length, -1)
    return output
