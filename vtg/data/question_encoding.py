"""Several questions about one clip → what a model reads. Its frames are processed once, whatever is asked of them."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import ProcessorMixin

from vtg.data.encoding import Features, answer_labels, check_length, checked_text, encode
from vtg.errors import SampleError
from vtg.models.families import family_of
from vtg.video.clip import Clip


class ConversationEncoder:
    """`encode`, one conversation after another: the frames of a clip are processed once for those about it that follow
    one another.

    Those that are alike up to the end of the video, as prompts are, have their pixels in one tensor. The features of
    one conversation about the last clip are kept meanwhile. A clip that is read anew, as those are that are too large
    for the memory of a `ClipProvider`, is processed anew.
    """

    def __init__(
        self, processor: ProcessorMixin, *, tokens_per_second: float = 2.0, max_length: int | None = None
    ) -> None:
        self.processor, self.tokens_per_second, self.max_length = processor, tokens_per_second, max_length
        self._known: tuple[Clip, str, Features] | None = None

    def __call__(self, messages: list[dict[str, Any]], clip: Clip) -> Features:
        """What `encode` makes of it; it is the last clip if it is the same object. Raises SampleError."""
        text, features = checked_text(self.processor, messages, clip.path), None
        if self._known is not None and self._known[0] is clip:
            features = _asked_of(self.processor, text, *self._known[1:])
        else:
            self._known = None  # before the next one is processed: both at once would be twice the pixels
        if features is None:
            limits: Any = {"tokens_per_second": self.tokens_per_second, "max_length": self.max_length}
            features = encode(self.processor, messages, clip, **limits)
        check_length(features, clip, self.max_length)
        self._known = self._known or (clip, text, features.copy())
        return features

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_known": None}  # a data worker starts without them


def encode_questions(
    processor: ProcessorMixin,
    conversations: Sequence[list[dict[str, Any]]],
    clip: Clip,
    *,
    tokens_per_second: float = 2.0,
    max_length: int | None = None,
) -> list[Features | SampleError]:
    """What a `ConversationEncoder` makes of each conversation about a clip, or why there is none."""
    encoder = ConversationEncoder(processor, tokens_per_second=tokens_per_second, max_length=max_length)
    made: list[Features | SampleError] = []
    for messages in conversations:
        try:
            made.append(encoder(messages, clip))
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
