"""Questions that others ask about clips → answers. A clip is decoded and read once for all questions about it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from vtg.data.encoding import Features
from vtg.data.question_encoding import encode_questions
from vtg.decoding.prompt_sequence import Prompt
from vtg.errors import SampleError
from vtg.evaluation.answering import answering_engine, clip_prompts, decoded
from vtg.evaluation.grounder import Grounder
from vtg.video.video_window import VideoWindow


@dataclass(frozen=True)
class ClipQuestion:
    """A text that is asked as it is about a clip; `max_new_tokens`: of its answer."""

    window: VideoWindow
    text: str
    max_new_tokens: int

    @property
    def conversation(self) -> list[dict[str, object]]:
        return [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": self.text}]}]


def clip_answers(
    grounder: Grounder,
    questions: Sequence[ClipQuestion],
    *,
    batch_size: int,
    skipped: Callable[[int, SampleError], None],
) -> Iterator[tuple[int, str]]:
    """The number of each question and its answer, as soon as it has ended.

    Args:
        batch_size: as `vtg.evaluation.generate.predict` takes it.
        skipped: is told the number of a question that has no prompt, and why; may raise.
    """
    # Those about one clip follow one another, and an engine writes answers of one length.
    order = sorted(range(len(questions)), key=lambda at: (questions[at].max_new_tokens, repr(questions[at].window)))
    model, processor = grounder.model, grounder.processor
    for max_new_tokens, of_length in groupby(order, key=lambda at: questions[at].max_new_tokens):
        asked = list[int]()
        prompts = _prompts(grounder, questions, list(of_length), asked, skipped)
        engine = answering_engine(model, processor, max_new_tokens=max_new_tokens, at_once=batch_size)
        for completion in engine.decode(prompts):
            yield asked[completion.request], decoded(processor, completion.tokens)


def _prompts(
    grounder: Grounder,
    questions: Sequence[ClipQuestion],
    places: Sequence[int],
    asked: list[int],
    skipped: Callable[[int, SampleError], None],
) -> Iterator[Prompt]:
    """The prompts of the questions at `places`, clip by clip; `asked` is told which they are."""
    for window, of_clip in groupby(places, key=lambda at: questions[at].window):
        own = list(of_clip)
        try:
            clip = grounder.clip(window)
        except SampleError as error:
            for at in own:
                skipped(at, error)
            continue
        made = encode_questions(
            grounder.processor,
            [questions[at].conversation for at in own],
            clip,
            tokens_per_second=grounder.tokens_per_second,
            max_length=grounder.settings.model.max_length,
        )
        readable = list[Features]()
        for at, one in zip(own, made, strict=True):
            if isinstance(one, SampleError):
                skipped(at, one)
            else:
                asked.append(at)
                readable.append(one)
        yield from clip_prompts(grounder.model, readable, [clip.duration_s] * len(readable), towers=grounder.towers)
