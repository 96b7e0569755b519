"""The span task: a sentence is asked about, and the answer is one moment, several, or (a set's) none."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vtg.annotations.target import Span
from vtg.config.derived import answer_tokens
from vtg.config.task_settings import TaskConfig
from vtg.errors import ConfigError, SampleError
from vtg.tasks.answer import NO_MOMENT, Answer, Codec, Status, says_no_moment
from vtg.tasks.answer_forms import CODECS
from vtg.tasks.answer_grammar import AnswerGrammar
from vtg.tasks.prompts import (
    MOMENTS,
    SELECTIONS,
    SET_REQUEST,
    TAGGED_ANSWER,
    THINK_REQUEST,
    check_template,
    choose,
    fill,
    normalise_query,
)

NO_MOMENT_ASKED = (
    "timestamp: [] says that there is no moment, for which task.moments = 'one' has no answer; set "
    "task.moments=set, or drop the row"
)
"""What is wrong with a row without a moment where one is asked for."""


class SpanTask:
    """Prompt, target text and parser of temporal grounding, for one `TaskConfig`.

    Raises:
        ConfigError: an unknown answer form or selection, or a template that cannot be filled; it names the key.
    """

    def __init__(self, config: TaskConfig) -> None:
        _check_choice("task.answer", config.answer, CODECS)
        _check_choice("task.selection", config.selection, SELECTIONS)
        _check_choice("task.moments", config.moments, MOMENTS)
        self.config = config
        self.codec: Codec = CODECS[config.answer].from_config(config)
        own = config.template
        # A template of the user's own stands alone: mixed with ours, most samples would be asked otherwise.
        pool = self.codec.templates if own is None else (check_template(own),)
        requests = SET_REQUEST if self.takes_sets else ""
        # A template that asks for the tags itself, as published ones do, is not asked to twice.
        if config.think and not (own and "<think>" in own):
            requests += THINK_REQUEST
        self.pool = tuple(template + requests for template in pool)

    @property
    def takes_sets(self) -> bool:
        """Whether all moments are asked for, and an answer may be that there is none."""
        return self.config.moments == "set"

    def conversation(
        self, query: str, *, duration_s: float, spans: Sequence[Span] | None = None, key: str = "", seed: int = 0
    ) -> list[dict[str, Any]]:
        """Messages in Hugging Face's chat form: the video and the question, and the answer unless `spans` is None.

        `key` names the sample (its qid) and `seed` the draw (a number that changes with the epoch); `choose` says what
        they do. The video's place is marked; its frames go to the processor beside the messages.
        """
        template = choose(self.pool, selection=self.config.selection, key=key, seed=seed)
        question = fill(template, self._fields(query, duration_s))
        # The video before the question: all queries about a clip share it as a prefix (batching.share_video).
        user = {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": question}]}
        if spans is None:
            return [user]
        answer = self.encode(spans, duration_s=duration_s)
        return [user, {"role": "assistant", "content": [{"type": "text", "text": answer}]}]

    def encode(self, spans: Sequence[Span], *, duration_s: float) -> str:
        """The text the model is trained to write for these moments; with `think` in answer tags, without a thought.

        Raises:
            SampleError: no moment, unless all are asked for (`task.moments=set`); a span that has no part in the clip.
        """
        if not spans and not self.takes_sets:
            raise SampleError(NO_MOMENT_ASKED)
        answer = self.codec.encode(spans, duration_s) if spans else NO_MOMENT
        # No <think>: annotations hold no reasoning, and invented reasoning would be learned as it stands.
        return TAGGED_ANSWER.format(answer) if self.config.think else answer

    def parse(self, text: str, *, duration_s: float) -> Answer:
        """The moments that a completion names, in seconds of the clip, and whether it could be parsed.

        One that names moments and says that there is none answers both ways at once: it is malformed.
        """
        answer = self.codec.parse(text, duration_s)
        if not self.takes_sets or not says_no_moment(text):
            return answer
        return Answer((), Status.MALFORMED if answer.spans else Status.NONE, text)

    def grammar(self, *, duration_s: float) -> AnswerGrammar:
        """What may be written of an answer about a clip so long, for decoding that can write nothing else."""
        return replace(self.codec.grammar(duration_s), may_be_none=self.takes_sets)

    @property
    def room(self) -> int:
        """Tokens that an answer gets where nobody says how many."""
        return answer_tokens(self.config)

    def check_room(self, room: int, *, key: str) -> None:
        """Raises ConfigError where constrained answers might not fit into `room` tokens, which the setting `key` says.

        They are counted as if written character by character, about a clip of hours.
        """
        needed = self.grammar(duration_s=10_000.0).longest + 1
        if self.config.constrained and room < needed:
            raise ConfigError(
                f"{key} = {room}: with task.constrained an answer needs room for up to {needed} tokens; set "
                f"{key}={needed} or more, or task.constrained=false"
            )

    def tokens(self) -> list[str]:
        """Entries the answer form adds to the vocabulary; empty for all forms but `tokens`."""
        return self.codec.tokens()

    def _fields(self, query: str, duration_s: float) -> dict[str, str]:
        bins = self.config.num_bins
        return {
            "query": normalise_query(query),
            "duration": f"{duration_s:.1f}",  # as precise as the time stamps that Qwen3-VL reads: <12.3 seconds>
            "num_bins": str(bins),
            "last_bin": str(bins - 1),
        }


def _check_choice(key: str, value: str, allowed: Sequence[str] | dict[str, Any]) -> None:
    if value not in allowed:
        raise ConfigError(f"{key} = {value!r}: must be one of {', '.join(allowed)}")
