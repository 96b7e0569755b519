"""A prompt with a video, run once for all completions of it, and its clip once for all prompts that ask about it.

    share_prompts(model)                                 # once, after loading
    prompt = Prompt(features, encode_video(…))           # the clip encoded once, where the vision tower is frozen
    prompts = beginning_alike([prompt, …])               # those about one clip know what they have in common
    batch = shared_batch(prompts, [completions, …], …)   # each clip once, each question once, then every completion
    hidden = backbone(**batch).last_hidden_state         # (rows, C, H): what predicts each completion token

Prompts and their completions are one sequence: the prompts without their last token, then for each prompt G branches,
each the prompt's last token and the completion without its last. A branch attends to the prompt and to itself, with the
positions it has alone: `vtg.data.layout`. What several prompts have in common stands once; what is left of each is a
branch of that, and its completions are branches of the branch. Tokens that several completions begin with may stand
once too (`vtg.decoding.completion_tree`). Padding behind completions is left out.

Everything but attention works on tokens one by one, so it is the model's own forward in which only the attention
function is another (`vtg.models.attention`): gradient checkpointing, LoRA, a trainable vision tower, DDP and ZeRO see
nothing unusual, and the gradient flows through the prompt. The work is that of P + G·R tokens instead of G·(P + R), and
where Q prompts have C tokens in common, of C + Q·(P - C + G·R); no kernel of our own. In recurrent layers a branch goes
on from the state that the prompt leaves (`vtg.models.recurrence`).
"""

from collections.abc import Callable, Sequence
from functools import cache, wraps
from inspect import getsource, signature
from types import MethodType
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vtg.data.encoding import Features
from vtg.data.padding import collate
from vtg.decoding.completion_tree import CompletionTree
from vtg.decoding.prompt_sequence import Prompt, Sequenced
from vtg.models.attention import attend_in_layouts, takes_layouts
from vtg.models.families import family_of
from vtg.models.families.family import ModelFamily
from vtg.models.recurrence import part_sequences

SHARED = "shared_prompts"
"""The keyword of the model's forward that says (rows, C) int64 from which token of a `shared_batch` each token of the
completions is predicted."""


def share_prompts(model: Any) -> None:
    """Lets a plain Qwen-VL model, in place, take the batches of `shared_batch` and videos already encoded.

    Its other calls stay as they were; attention is SDPA in them.
    """
    if not takes_layouts(model):
        attend_in_layouts(model, "sdpa")
    model.model.register_forward_hook(_keep_branches, with_kwargs=True)
    part_sequences(model)
    accept_encoded_videos(model)


def is_sharing(model: Any) -> bool:
    """Whether `share_prompts` was called with this plain Qwen-VL model."""
    return _keep_branches in model.model._forward_hooks.values()


def shared_batch(
    prompts: Sequence[Prompt],
    completions: Sequence[torch.Tensor],
    mask: Sequence[torch.Tensor] | None = None,
    *,
    tree: bool = False,
    both_ways: bool = False,
) -> dict[str, Any]:
    """One sequence of prompts and then, prompt by prompt, their completions (n, C) int64 padded at the end, for the
    model's forward.

    Args:
        mask: (n, C) of each, 1 for the tokens of a completion; None: all are.
        tree: tokens that several completions of a prompt begin with stand once, where all are shorter than the prompt.
        both_ways: whether the vision tokens of a clip attend to later ones of it (`ModelFamily.both_ways`).

    Returns:
        a batch with which the backbone's last_hidden_state becomes (rows, C, H), rows being those of all prompts one
        after the other: hidden state [r, t] predicts completion token t of row r.
    """
    # Read together: a GPU is waited for three times, and not three times a prompt.
    lasts = torch.stack([prompt.features["input_ids"][-1:] for prompt in prompts]).cpu()
    rows, counts = torch.cat(list(completions)).cpu(), [len(own) for own in completions]
    lengths = torch.full((len(rows),), rows.shape[1]) if mask is None else torch.cat(list(mask)).sum(1).cpu()
    trees = []
    for prompt, last, own, real in zip(prompts, lasts, rows.split(counts), lengths.split(counts), strict=True):
        made = CompletionTree.of(last, own, real.tolist(), shared=tree)
        # Attention computes a tree that is longer than its prompt in pieces, twice each: dearer than what it saves.
        if tree and len(made.ids) >= len(prompt.features["input_ids"]):
            made = CompletionTree.of(last, own, real.tolist(), shared=False)
        trees.append(made.to(completions[0].device))
    sequence = Sequenced.of(prompts)
    return sequence.inputs(trees, both_ways=both_ways) | {SHARED: sequence.places(trees)}


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
        if is_encoded(inner, pixels, grid):
            return _encoded_features(inner, pixels, _sizes(family, grid))
        return plain(inner, *args, **kwargs)

    return features


def is_encoded(model: Any, pixels: torch.Tensor, grid: torch.Tensor) -> bool:
    """Whether these are the clips that `grid` (clips, 3) tells the sizes of, encoded; else they are their pixels."""
    return pixels.ndim == 2 and len(pixels) == sum(_sizes(family_of(model.config), grid))


def _sizes(family: ModelFamily, grid: torch.Tensor) -> list[int]:
    """Vision tokens of each clip."""
    return (grid.prod(-1) // family.grid_merge**2).tolist()


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


def _keep_branches(module: Any, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
    """A forward hook: of a shared batch only the hidden states of completions are left, (rows, C, H)."""
    places = kwargs.get(SHARED)
    if places is not None:
        hidden = output.last_hidden_state[0]
        output.last_hidden_state = hidden.index_select(0, places.flatten()).view(*places.shape, -1)
    return output
