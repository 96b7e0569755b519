"""A loaded checkpoint that many ask at once: one thread has the model, and a few others read clips ahead of it.

A question's clip is read and its prompts are encoded by `limits.readers` threads, then they wait for the model's. That
one decodes all that wait together, and lets in what arrives while it does (`vtg.decoding.engine`): a question never
waits for the end of another's answer, only for room. At most `limits.waiting` questions are there at once.

Answers are the project's own: `encode`, the decoding engine, greedy, as `python -m vtg.predict` writes them.
"""

import threading
from collections import deque
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import astuple, replace
from typing import Any, Self

import torch

from vtg.config.rules import check_settings
from vtg.config.video_settings import VideoConfig
from vtg.data.encoding import frame_options, turn_end_id
from vtg.data.grounding_dataset import make_provider
from vtg.decoding.engine import DecodingEngine
from vtg.decoding.slots import Completion
from vtg.errors import ConfigError
from vtg.evaluation.answering import answering_engine, decoded
from vtg.evaluation.ask_settings import AskSettings
from vtg.evaluation.grounder import BATCH_SIZE, Grounder
from vtg.logs import deprecations_ignored
from vtg.serving.arrivals import AllGone, Arrivals
from vtg.serving.asked_question import Answered, Job, Question
from vtg.serving.given_frames import GivenFrames
from vtg.serving.limits import Limits
from vtg.serving.refusals import ANSWERED_AS_WRONG, Refused, busy, stopped, too_large, wrong
from vtg.video.clip import Clip
from vtg.video.files.video_files import stamp
from vtg.video.memory_cache import RecentlyUsed
from vtg.video.provider import CACHE_BYTES, ClipProvider

# Ways of sampling whose readers are kept: each may have a process that decodes.
PROVIDERS = 4


class ModelWorker:
    """A checkpoint in memory, and the threads that answer by it. A context manager: it stops at the end.

    Args:
        asked: what `ask_settings` found.
        device: `cpu`, `cuda`, `cuda:1`; None: the GPU where there is one.

    Attributes:
        settings: the checkpoint's, with what was overridden.
        processor, task: the checkpoint's.

    Raises:
        ConfigError: a checkpoint that cannot be loaded.
        RunError: its weights are truncated, or an adapter does not fit its base model.
    """

    def __init__(self, asked: AskSettings, *, limits: Limits, device: str | None = None) -> None:
        self.limits, self._room = limits, asked.max_new_tokens
        self._grounder = _loaded(asked, device)
        self.settings, self.processor, self.task = asked.settings, self._grounder.processor, self._grounder.task
        self._clips: RecentlyUsed[tuple, Clip] = RecentlyUsed(CACHE_BYTES, size=lambda clip: clip.frames.nbytes)
        self._providers: dict[tuple, ClipProvider] = {}
        self._encoding = threading.Lock()  # a tokenizer may not be told how to cut by two threads at once
        self._changed = threading.Condition()
        # By its future, which so knows nothing of its Job: a circle of the two would keep pixels until it is collected.
        self._jobs: dict[Future[Answered], Job] = {}
        self._ready: deque[Job] = deque()
        self._stopping = self._ended = False
        self._readers = ThreadPoolExecutor(limits.readers, thread_name_prefix="vtg reader")
        self._thread = threading.Thread(target=self._answer, name="vtg model", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_alive(self) -> bool:
        """Whether questions are answered; False after `close`, or after a fault of the program."""
        return not (self._stopping or self._ended)

    @property
    def waiting(self) -> int:
        """Questions that wait or are answered."""
        with self._changed:
            return len(self._jobs)

    def submit(self, question: Question) -> "Future[Answered]":
        """Asks. The future's `cancel` (or that of the asyncio future around it) says that nobody waits any more.

        The future raises:
            SampleError, ConfigError: the video cannot be read, sampling that cannot be, a query that holds nothing.
            Refused: the clip is longer than `limits.video_s`; memory ran out; the server stops.

        Raises:
            Refused: too many questions wait, or there are too many queries in this one.
        """
        if not question.queries:
            raise wrong("there is no query: say in a sentence what to look for")
        if len(question.queries) > self.limits.queries:
            raise too_large(f"{len(question.queries)} queries at once: at most {self.limits.queries}; ask in parts")
        job = Job(question)
        with self._changed:
            if self._stopping or self._ended:
                raise stopped("the model answers no longer")
            if len(self._jobs) >= self.limits.waiting:
                raise busy(f"{len(self._jobs)} requests wait already")
            self._jobs[job.future] = job
            reading = self._readers.submit(self._read, job)
        job.future.add_done_callback(self._forget)
        # A reader that fails, in whatever way, fails its question alone.
        reading.add_done_callback(lambda done: job.fail(error) if (error := _failure(done)) else None)
        return job.future

    def close(self, *, timeout_s: float = 10.0) -> None:
        """Stops: what is not answered yet is refused."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._thread.join(timeout_s)
        self._refuse_all()

    def _forget(self, future: Future[Answered]) -> None:
        with self._changed:
            self._jobs.pop(future, None)

    # Readers.

    def _read(self, job: Job) -> None:
        if job.future.done():
            return
        clip = self._clip(job.question)
        if clip.duration_s > self.limits.video_s:
            raise too_large(
                f"the clip is {clip.duration_s:.0f} s long: at most {self.limits.video_s:g} s; ask about a part of it"
            )
        with self._encoding:
            job.clip, job.prompts = clip, self._grounder.questions(job.question.queries, clip)
        with self._changed:
            # Prompts hold pixels, so few are made ahead of the model.
            self._changed.wait_for(
                lambda: len(self._ready) < self.limits.readers or job.future.done() or self._stopping or self._ended
            )
            if not job.future.done():
                self._ready.append(job)
                self._changed.notify_all()

    def _clip(self, question: Question) -> Clip:
        video, settings = question.video, question.video_settings or self.settings.video
        if question.video_settings is not None:
            check_settings(replace(self.settings, video=settings), prefix="")
        if isinstance(video, GivenFrames):
            return video.clip(settings, **frame_options(self.processor))
        if question.asked_once:
            return self._provider(settings).clip(video)
        # Beside its name, what tells that a file was replaced by another.
        key = (video, stamp(video.path), astuple(settings))
        return self._clips.get(key, lambda: self._provider(settings).clip(video))

    def _provider(self, settings: VideoConfig) -> ClipProvider:
        with self._changed:
            provider = self._providers.pop(astuple(settings), None)
            if provider is None:
                provider = make_provider(settings, self.processor, cache_bytes=0)  # clips are kept here
            self._providers[astuple(settings)] = provider
            while len(self._providers) > PROVIDERS:
                del self._providers[next(iter(self._providers))]
        return provider

    # The model's thread.

    def _answer(self) -> None:
        try:
            engine = self._engine()
            while self._wait():
                if not self._decode(engine):
                    engine = self._engine()
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
            self._refuse_all()

    def _engine(self) -> DecodingEngine:
        own: dict[str, Any] = {"max_new_tokens": self._room, "constraint": self._grounder.constraint}
        return answering_engine(self._grounder.model, self.processor, at_once=BATCH_SIZE, **own)

    def _decode(self, engine: DecodingEngine) -> bool:
        """Answers what is ready, and what arrives meanwhile. False where memory ran out: the engine is half written."""
        flight = Arrivals(self._grounder.model, self._next_ready, is_over=lambda: self._stopping)
        try:
            for completion in engine.decode(flight):
                self._keep(*flight.asked.pop(completion.request), completion)
        except AllGone:
            pass
        except torch.OutOfMemoryError as error:
            for job in flight.jobs():
                job.fail(stopped(f"memory ran out ({str(error).splitlines()[0]}); ask with fewer frames"))
            return False
        return True

    def _wait(self) -> bool:
        """Until there is something to answer; False where the worker is to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._stopping)
            return not self._stopping

    def _next_ready(self) -> Job | None:
        """The next question that is ready, if somebody still waits for it."""
        with self._changed:
            while self._ready:
                job = self._ready.popleft()
                self._changed.notify_all()
                if not job.future.done():
                    return job
        return None

    def _keep(self, job: Job, at: int, completion: Completion) -> None:
        """Notes the completion of query `at`, and answers where it was the last."""
        job.written[at] = completion.tokens
        if len(job.written) < len(job.prompts):
            return
        assert job.clip is not None
        end = turn_end_id(self.processor)
        written = [job.written[one] for one in range(len(job.prompts))]
        texts = [decoded(self.processor, tokens) for tokens in written]
        answered = Answered(
            job.clip,
            tuple(self.task.parse(text, duration_s=job.clip.duration_s) for text in texts),
            tuple(len(prompt["input_ids"]) for prompt in job.prompts),
            tuple(map(len, written)),
            tuple(tokens[-1] == end for tokens in written),
        )
        with suppress(InvalidStateError):  # its client has gone meanwhile
            job.future.set_result(answered)

    def _refuse_all(self) -> None:
        with self._changed:
            left = list(self._jobs.values())
            self._ready.clear()
        for job in left:
            job.fail(stopped("the server stops"))


def _loaded(asked: AskSettings, device: str | None) -> Grounder:
    try:
        with deprecations_ignored():
            return Grounder(asked.settings, device=device)
    except (ValueError, OSError) as error:  # transformers', of a folder that holds no whole model, or another one
        if isinstance(error, ConfigError):
            raise
        said = str(error).strip().splitlines()[0]
        raise ConfigError(f"checkpoint {asked.settings.model.path}: cannot be loaded ({said})") from error


def _failure(done: "Future[None]") -> BaseException | None:
    """What a reader failed with; None where it did not, or was not begun."""
    error = None if done.cancelled() else done.exception()
    if isinstance(error, (*ANSWERED_AS_WRONG, Refused)):
        error.__traceback__ = None  # its frames hold the question, and a clip
    return error
