"""The checkpoints that are asked side by side: a lane of every timeline each, loaded in the background."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from vtg.errors import ConfigError
from vtg.evaluation.ask_settings import AskSettings, ask_settings
from vtg.models.checkpoint import adapter_base, is_adapter, resolve_checkpoint
from vtg.models.hub import find_model
from vtg.report.run_reader import read_run
from vtg.serving.limits import Limits
from vtg.serving.refusals import stopped

if TYPE_CHECKING:
    from vtg.app.clip_reader import ClipReader
    from vtg.serving.model_worker import ModelWorker

# A page has a colour for each.
MOST_LANES = 8


@dataclass(frozen=True)
class LaneSettings:
    """A checkpoint to ask, and what the page calls it."""

    name: str
    asked: AskSettings


def lane_settings(checkpoints: Sequence[str], *, base: bool, overrides: Sequence[str] = ()) -> list[LaneSettings]:
    """A lane for every checkpoint, before it one for the model that it was trained from; none twice.

    The base is asked as the run is, with its sampling, prompt and answer form: what differs is what was learned.

    Args:
        base: False leaves the bases out.

    Raises:
        ConfigError: a checkpoint is not there, an override is no setting, or there are too many lanes.
    """
    _check_count(len(checkpoints))
    lanes: list[LaneSettings] = []
    for checkpoint in checkpoints:
        asked = ask_settings(checkpoint, overrides)
        name = Path(checkpoint).name or checkpoint
        before = base_of(checkpoint) if base else None
        if before is not None:
            find_model(before, key="the base")
            model = replace(asked.settings.model, path=before)
            lanes.append(LaneSettings(f"base of {name}", replace(asked, settings=replace(asked.settings, model=model))))
        lanes.append(LaneSettings(name, asked))
    distinct: dict[str, LaneSettings] = {}
    for lane in lanes:  # the base of several runs that were trained alike answers once
        distinct.setdefault(repr(lane.asked.settings), lane)
    _check_count(len(distinct))
    return list(distinct.values())


def _check_count(lanes: int) -> None:
    if lanes > MOST_LANES:
        raise ConfigError(
            f"{lanes} models are too many beside each other: at most {MOST_LANES}; name fewer, or add --no-base"
        )


def base_of(checkpoint: str) -> str | None:
    """The model that a run or an adapter was trained from; None for a model of its own, or where nothing tells."""
    where = resolve_checkpoint(checkpoint)
    if is_adapter(where):
        return adapter_base(where)
    folder = Path(checkpoint)
    if not (folder / "config.yaml").is_file():
        return None
    model = read_run(folder).config.get("model")
    path = model.get("path") if isinstance(model, dict) else None
    return path if isinstance(path, str) else None


class Lane:
    """One checkpoint: first its processor is loaded, which tells what a clip costs, then its weights."""

    def __init__(self, settings: LaneSettings) -> None:
        self.name, self.asked = settings.name, settings.asked
        self._reader: Future[ClipReader] | None = None
        self._worker: Future[ModelWorker] | None = None

    def load(self, pool: ThreadPoolExecutor, limits: Limits, device: str | None) -> None:
        """Begins to load, in the order in which the pool is asked."""

        def reader() -> "ClipReader":
            from vtg.app.clip_reader import ClipReader  # imports torch

            return ClipReader(self.asked.settings)

        def worker() -> "ModelWorker":
            from vtg.serving.model_worker import ModelWorker

            return ModelWorker(self.asked, limits=limits, device=device)

        self._reader, self._worker = pool.submit(reader), pool.submit(worker)

    @property
    def reads(self) -> bool:
        """Whether it can tell what a clip costs, or why not."""
        return self._reader is not None and self._reader.done()

    @property
    def reader(self) -> "ClipReader":
        """Raises Refused while it is loading; what loading failed with, where it did."""
        return self._loaded(self._reader)

    @property
    def worker(self) -> "ModelWorker":
        """Raises Refused while it is loading; what loading failed with, where it did."""
        return self._loaded(self._worker)

    def _loaded(self, future: "Future[Any] | None") -> Any:
        if future is None or not future.done():
            raise stopped(f"{self.name} is still loading")
        return future.result()

    @property
    def state(self) -> tuple[str, str]:
        """(`loading`, `ready` or `failed`, what failed)."""
        if self._worker is None or not self._worker.done():
            return "loading", ""
        if self._worker.cancelled():
            return "failed", "the server stops"
        error = self._worker.exception()
        if error is None and not self._worker.result().is_alive:
            return "failed", "it has stopped; the log says why: start the app again"
        return ("ready", "") if error is None else ("failed", str(error))

    def close(self) -> None:
        """Stops answering."""
        if self.state[0] == "ready":
            self.worker.close()


class Lanes:
    """All lanes, loaded one after another by a thread. A context manager: they stop answering at its end."""

    def __init__(self, settings: Sequence[LaneSettings], *, limits: Limits, device: str | None = None) -> None:
        self.lanes = [Lane(one) for one in settings]
        self._limits, self._device = limits, device
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="vtg loading")
        self._starting = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        for lane in self.lanes:
            lane.close()

    def start(self) -> None:
        """Begins to load."""
        with self._starting:
            for lane in self.lanes:
                lane.load(self._pool, self._limits, self._device)

    def __getitem__(self, number: int) -> Lane:
        """Raises SampleError for a number that no lane has."""
        if not 0 <= number < len(self.lanes):
            raise ConfigError(f"lane = {number}: there are {len(self.lanes)}; load the page again")
        return self.lanes[number]
