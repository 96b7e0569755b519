"""Questions about clips → answers: clip by clip through the vision tower and the prompt's beginning, then all together.

The tower sees a clip once for all questions about it, and so does the language model; what differs alone is read for
each question. Then a token of every question in flight is written at a time (`vtg.decoding.engine`).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from vtg.data.encoding import Features, turn_end_id, video_end, vision_token_ids
from vtg.data.tower_cache import TowerCache
from vtg.decoding.constrained import TokenConstraint
from vtg.decoding.engine import DecodingEngine
from vtg.decoding.prompt_sequence import Prompt
from vtg.decoding.shared_prefix import accept_encoded_videos
from vtg.decoding.token_choice import Sampling
from vtg.decoding.tower_output import encoded_video
from vtg.models.plain_model import plain_model


def answering_engine(
    model: Any, processor: Any, *, max_new_tokens: int, at_once: int, constraint: TokenConstraint | None = None
) -> DecodingEngine:
    """Writes greedy answers of a model in evaluation mode.

    Args:
        at_once: questions, each about a clip of its own as long as the first, that keys are held for.
        constraint: what answers are kept to.
    """
    sampling = Sampling(
        max_new_tokens=max_new_tokens,
        ends=(turn_end_id(processor),),
        # A generated <|video_pad|> would be taken for a place of vision features.
        suppressed=tuple(vision_token_ids(processor)),
    )
    return DecodingEngine(model, sampling, constraint=constraint, at_once=at_once)


def decoded(processor: Any, tokens: Sequence[int]) -> str:
    """The text of an answer, without special tokens."""
    return processor.tokenizer.decode(tokens, skip_special_tokens=True)


def clip_prompts(
    model: Any, questions: Sequence[Features], durations_s: Sequence[float], *, towers: TowerCache | None = None
) -> Iterator[Prompt]:
    """Encoded questions as prompts on the model's device, with what the vision tower makes of their clips.

    Those that follow one another and have the same pixels, as `encode_questions` makes them, are about one clip, and
    begin alike up to its end.

    Args:
        durations_s: of the clip of each.
        towers: keeps what the tower makes of clips that it sees.
    """
    plain = plain_model(model)
    accept_encoded_videos(plain)
    pixels = [question["pixel_values_videos"] for question in questions]
    nothing, encoded = torch.empty(0, device=model.device), None
    for at, (question, duration_s) in enumerate(zip(questions, durations_s, strict=True)):
        is_first = at == 0 or pixels[at] is not pixels[at - 1]
        if is_first:
            encoded = encoded_video(plain, question, towers)
        shares = not is_first or (at + 1 < len(questions) and pixels[at + 1] is pixels[at])
        # The pixels are no longer needed, and large.
        features = {name: value.to(model.device) for name, value in question.items() if name != "pixel_values_videos"}
        features["pixel_values_videos"] = nothing
        yield Prompt(features, encoded, duration_s=duration_s, common=_common(question) if shares else 0)


def _common(question: Features) -> int:
    """Tokens up to the end of the clip; 0 where recurrent layers would have to be told of padding among them."""
    if not bool(question["attention_mask"].all()):
        return 0
    return video_end(question)
