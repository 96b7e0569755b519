"""Answers to many questions by several processes, a GPU and a whole model each, or by this process alone.

What a batch brings goes to the process that asked, the only one that writes: an interruption costs the batches under
way, and it may be resumed with more processes, or fewer.
"""

import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty
from typing import Any

from vtg.annotations.sample import Sample
from vtg.data.skip_report import Skipped
from vtg.errors import ConfigError, RunError
from vtg.evaluation.question_plan import plan_questions, share
from vtg.models.checkpoint import Settings

# Seconds between two looks whether the processes that answer are still there.
WATCH_S = 1.0


@dataclass(frozen=True)
class Round:
    """The questions of one budget: their samples by index, and how their clips are shown."""

    name: str
    settings: Settings
    samples: Mapping[int, Sample]


@dataclass(frozen=True)
class Asking:
    """What is the same in every round."""

    video_dir: str | None
    batch_size: int
    max_new_tokens: int
    num_workers: int


@dataclass(frozen=True)
class Batch:
    """What was answered: prediction rows by index, and by index too the questions whose video cannot be read."""

    round: str
    rows: Mapping[int, dict[str, Any]]
    skipped: Mapping[int, Skipped]


@dataclass
class _Sink:
    """Takes each batch from `vtg.evaluation.generate.predict`, whose indices are places in `indices`."""

    round: str
    indices: Sequence[int]
    keep: Callable[[Batch], None]
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    skipped: dict[int, Skipped] = field(default_factory=dict)

    def add(self, rows: Mapping[int, dict[str, Any]], skipped: Mapping[int, Skipped]) -> None:
        answered = {self.indices[at]: row for at, row in rows.items()}
        self.keep(Batch(self.round, answered, {self.indices[at]: entry for at, entry in skipped.items()}))


def answer(rounds: Sequence[Round], asking: Asking, keep: Callable[[Batch], None], *, processes: int) -> None:
    """Asks all questions, and gives every batch to `keep` as it is answered, in any order. What it raises ends all.

    `processes`: 0 is one for each GPU (on a CPU: one). A single one is this process.

    Raises:
        ConfigError: for a checkpoint that cannot be loaded, or more processes than GPUs.
        RunError: a process ended before its questions did.
    """
    import torch

    gpus = torch.cuda.device_count()
    if gpus and processes > gpus:
        raise ConfigError(f"processes = {processes}: PyTorch sees {gpus} GPUs here, and each holds a whole model")
    parts = [part for part in _parts(rounds, processes or max(gpus, 1)) if part]
    if len(parts) == 1:
        _ask(parts[0], asking, keep)
    elif parts:
        _answer_apart(parts, asking, keep, visible=_visible(gpus))


def _parts(rounds: Sequence[Round], count: int) -> list[list[Round]]:
    """The rounds of each process, of equal cost. The questions about a clip stay together: it is decoded once."""
    parts: list[list[Round]] = [[] for _ in range(count)]
    for one in rounds:
        indices, samples = list(one.samples), list(one.samples.values())
        # The process with least in the first round gets most in the second, and so on.
        parts.reverse()
        for part, mine in zip(parts, share(plan_questions(samples, one.settings.video), count), strict=True):
            asked = [at for clip in mine for at in clip.asked]
            if asked:
                part.append(Round(one.name, one.settings, {indices[at]: samples[at] for at in asked}))
    return parts


def _visible(gpus: int) -> list[str]:
    """What CUDA_VISIBLE_DEVICES calls each GPU that this process sees."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [str(gpu) for gpu in range(gpus)] if named is None else named.split(",")[:gpus]


def _answer_apart(
    parts: Sequence[Sequence[Round]], asking: Asking, keep: Callable[[Batch], None], *, visible: Sequence[str]
) -> None:
    """One process for each part; ends them all before it returns or raises."""
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    queue = context.Queue()
    workers = [context.Process(target=_work, args=(part, asking, queue)) for part in parts]
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        for at, worker in enumerate(workers):
            if visible:
                # Before the process starts: libraries that ignore the chosen device use the first they see.
                os.environ["CUDA_VISIBLE_DEVICES"] = visible[at]
            worker.start()
        _restore(before)
        waiting = len(workers)
        while waiting:
            try:
                message = queue.get(timeout=WATCH_S)
            except Empty:
                _check_alive(workers, queue)
                continue
            if isinstance(message, Exception):
                raise message
            if isinstance(message, Batch):
                keep(message)
            else:
                waiting -= 1
    finally:
        _restore(before)
        for worker in workers:
            if worker.pid is not None:
                worker.terminate()
                worker.join()


def _restore(value: str | None) -> None:
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    if value is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = value


def _check_alive(workers: Sequence[Any], queue: Any) -> None:
    """Raises RunError where a process ended without a word; what it sent before is read first."""
    failed = next((worker for worker in workers if worker.exitcode not in (None, 0)), None)
    if failed is not None and queue.empty():
        raise RunError(
            f"a process that answers ended with exit code {failed.exitcode} (-9: killed, mostly for want of memory); "
            "lower batch_size or num_workers, and start again: the answers so far are kept"
        )


def _work(rounds: Sequence[Round], asking: Asking, queue: Any) -> None:
    """The whole life of a process that answers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the first ends the rest
    from vtg.logs import start_logging

    start_logging(logging.ERROR)  # the process that asked tells the rest
    try:
        _ask(rounds, asking, queue.put)
        queue.put(None)
    except (ConfigError, RunError) as error:
        queue.put(error)


def _ask(rounds: Sequence[Round], asking: Asking, keep: Callable[[Batch], None]) -> None:
    """Loads the model once and asks the questions of every round."""
    from vtg.evaluation.generate import predict
    from vtg.evaluation.grounder import Grounder
    from vtg.evaluation.question_reader import QuestionReader

    grounder = Grounder(rounds[0].settings)
    datasets = []
    for one in rounds:
        grounder.look_with(one.settings)
        datasets.append(grounder.dataset(list(one.samples.values()), video_dir=asking.video_dir))
    # One for all rounds: where processes are not forked, starting those of another costs seconds.
    reader = QuestionReader(datasets, num_workers=asking.num_workers)
    for one, dataset in zip(rounds, datasets, strict=True):
        predict(
            grounder.model,
            dataset,
            batch_size=asking.batch_size,
            max_new_tokens=asking.max_new_tokens,
            reader=reader,
            partial_answers=_Sink(one.name, list(one.samples), keep),
        )
