"""A question about one video on its way through a server, and what becomes of it."""

from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field

from vtg.config.video_settings import VideoConfig
from vtg.data.encoding import Features
from vtg.serving.given_frames import GivenFrames
from vtg.tasks.answer import Answer
from vtg.video.clip import Clip
from vtg.video.video_window import VideoWindow


@dataclass(frozen=True)
class Question:
    """Sentences about one video.

    Attributes:
        video: a file or a part of one, as `vtg.serving.admission` lets it through, or frames.
        video_settings: how it is sampled; None: as the checkpoint was trained.
        asked_once: the file goes when it is answered, so that its clip is not kept for further questions.
    """

    video: VideoWindow | GivenFrames
    queries: Sequence[str]
    video_settings: VideoConfig | None = None
    asked_once: bool = False


@dataclass(frozen=True)
class Answered:
    """What became of a Question.

    Attributes:
        clip: the frames that the model saw, and the times that it read.
        answers: of each query: moments in seconds of the clip, status, and text word for word.
        prompt_tokens, completion_tokens: of each query.
        finished: of each query, whether its answer came to its end; else it was cut off.
    """

    clip: Clip
    answers: tuple[Answer, ...]
    prompt_tokens: tuple[int, ...]
    completion_tokens: tuple[int, ...]
    finished: tuple[bool, ...]


@dataclass(eq=False)
class Job:
    """A question on its way. It is given up where `future` is done before its answer is there: its client has gone."""

    question: Question
    future: Future[Answered] = field(default_factory=Future)
    clip: Clip | None = None
    prompts: Sequence[Features] = ()
    written: dict[int, list[int]] = field(default_factory=dict)

    def fail(self, error: BaseException) -> None:
        with suppress(InvalidStateError):  # its client has gone meanwhile
            self.future.set_exception(error)
