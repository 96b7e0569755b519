"""Several questions about one clip → what a model reads. Its frames are processed once, whatever is asked of them."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import ProcessorMixin

from vtg.data.encoding import Features, answer_labels, check_length, checked_text, encode
from vtg.errors import SampleError
from vtg.models.families import family_of
from vtg.video.clip import Clip


def encode_questions(
    processor: ProcessorMixin,
    conversations: Sequence[list[dict[str, Any]]],
    clip: Clip,
    *,
    tokens_per_second: float = 2.0,
    max_length: int | None = None,
) -> list[Features | SampleError]:
    """What `encode` makes of each conversation, or why there is none.

    Those that are alike up to the end of the video, as prompts are, have their pixels in one tensor.
    """
    made: list[Features | SampleError] = []
    known: tuple[str, Features] | None = None
    for messages in conversations:
        try:
            text = checked_text(processor, messages, clip.path)
            features = None if known is None else _asked_of(processor, text, *known)
            if features is None:
                features = encode(processor, messages, clip, tokens_per_second=tokens_per_second, max_length=max_length)
            check_length(features, clip, max_length)
            known = known or (text, features)
            made.append(features)
        except SampleError as error:
            made.append(error)
    return made


def _asked_of(processor: Any, text: str, other_text: str, other: Features) -> Features | None:
    """The features of a conversation, from those of another that is alike up to the end of the video; None: it is not.

    `text`, `other_text`: with the video unexpanded.
    """
    ends = [text.rfind(token) + len(token) for token in family_of(processor).vision_tokens if token in text]
    start = max(ends, default=0)
    if not start or not other_text.startswith(text[:start]):
        return None
    # What a special token ends is tokenized apart from what comes after it.
    own, others = (
        processor.tokenizer(one[start:], add_special_tokens=False)["input_ids"] for one in (text, other_text)
    )
    ids, positions = other["input_ids"], other["position_ids"]
    head = len(ids) - len(others)
    if not others or ids[head:].tolist() != others or bool((other["mm_token_type_ids"][head:] > 0).any()):
        return None
    tail = torch.tensor(own, dtype=ids.dtype)
    ids = torch.cat([ids[:head], tail])
    # Text after the video counts on by one on every axis.
    after = positions[..., head : head + 1] + torch.arange(len(tail))
    rest = {
        "input_ids": ids,
        "labels": answer_labels(processor, ids),
        "attention_mask": torch.cat([other["attention_mask"][:head], torch.ones_like(tail)]),
        "mm_token_type_ids": torch.cat([other["mm_token_type_ids"][:head], torch.zeros_like(tail)]),
        "position_ids": torch.cat([positions[..., :head], after], dim=-1),
    }
    return other | rest
