"""Annotation files → samples that can be used → encoded conversations."""

import fcntl
import importlib
import json
import logging
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from heapq import merge
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch.utils.data import Dataset
from transformers import ProcessorMixin

from vtg.annotations.sample import Sample, resolve_video
from vtg.annotations.sample_table import Lost, SampleTable
from vtg.annotations.table_cache import read_table, video_stamps
from vtg.config.data_settings import BatchingConfig, DataConfig
from vtg.config.derived import is_packed
from vtg.config.video_settings import VideoConfig
from vtg.data.encoding import IGNORE_INDEX, Features, encode, patch_factor
from vtg.data.packing import pack, share
from vtg.data.padding import collate
from vtg.errors import ConfigError, RunError, SampleError
from vtg.output import json_text, whole_lines, write_text
from vtg.tasks.span_task import SpanTask
from vtg.video.clip import Clip, DecodeError
from vtg.video.files import stores
from vtg.video.files import video_files as storage
from vtg.video.provider import ClipProvider

log = logging.getLogger(__name__)


class TooManyBadRows(RunError):
    """More rows than `data.max_bad_share` cannot be used; the message lists them."""


@dataclass(frozen=True)
class Skipped:
    """A row or sample that was left out: where it stands, and why.

    `bad`: False for what the settings leave out, which is nobody's fault and does not count against the share.
    """

    place: str
    reason: str
    qid: str | None = None
    video: str | None = None
    bad: bool = True

    def line(self) -> str:
        """Of skipped.jsonl."""
        row = {key: value for key, value in self.__dict__.items() if key != "bad" or not value}
        return json_text(row) + "\n"


@dataclass(frozen=True)
class Row:
    """A sample as it stands in a batch: what names it, the seconds of its clip, and its tokens."""

    qid: str
    video: str
    duration_s: float
    tokens: int

    @classmethod
    def of(cls, sample: Sample, features: Features) -> "Row":
        return cls(sample.qid, sample.video, sample.duration_s, len(features["input_ids"]))


class SkipReport:
    """Counts what is left out of a run, writes it to `skipped.jsonl`, and stops the run past the configured share.

    A row that is met again (in the next epoch, after a resume) is counted once. The processes of a run share the file:
    what one of them skips, the others count and do not write again.

    Args:
        goes_on: what is in the file stays, for it was left out of the same run before.
        joins: another process of the run has begun the file.
    """

    def __init__(self, path: Path, *, max_bad_share: float, goes_on: bool = False, joins: bool = False) -> None:
        self.path, self.max_bad_share = path, max_bad_share
        self.total = 0
        self.skipped: dict[str, Skipped] = {}
        if not joins:
            write_text(path, "".join(whole_lines(path) if goes_on else ()))
        self._heard_bytes = 0
        with self.path.open("rb") as file:
            self._written = {entry.place for entry in self._heard(file)}

    def expect(self, rows: int) -> None:
        """Adds `rows` to those the share is measured against."""
        self.total += rows

    def add(self, skipped: Sequence[Skipped]) -> None:
        """Records what was skipped.

        Raises:
            TooManyBadRows: when that makes more than the configured share.
        """
        fresh = [entry for entry in skipped if entry.place not in self.skipped]
        if not fresh:
            return
        with self.path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # the others may be at it too: they read the same rows
            for entry in self._heard(file):
                self._written.add(entry.place)
                if entry.bad:
                    self.skipped[entry.place] = entry
            new = [entry for entry in fresh if entry.place not in self._written]
            self._written |= {entry.place for entry in new}
            file.write("".join(entry.line() for entry in new).encode())
        for entry in fresh:
            if entry.bad:
                self.skipped[entry.place] = entry
                log.warning("skipped %s: %s", entry.place, entry.reason)
        if len(self.skipped) > self.max_bad_share * self.total:
            listed = "\n".join(f"  {entry.place}: {entry.reason}" for entry in list(self.skipped.values())[:20])
            more = f"\n  and {len(self.skipped) - 20} more in {self.path}" if len(self.skipped) > 20 else ""
            raise TooManyBadRows(
                f"{len(self.skipped)} of {self.total} rows cannot be used, more than data.max_bad_share = "
                f"{self.max_bad_share}:\n{listed}{more}\nMend or remove them (python -m vtg.validate --probe --fix OUT "
                "FILE writes the good rows), or raise data.max_bad_share"
            )

    def _heard(self, file: BinaryIO) -> list[Skipped]:
        """What came to the file since it was read last."""
        file.seek(self._heard_bytes)
        told = file.read()
        self._heard_bytes += len(told)
        return [Skipped(**json.loads(line)) for line in told.split(b"\n") if line]


def read_split(path: str, *, video_dir: str | None, report: SkipReport, cache_dir: str | None = None) -> SampleTable:
    """The usable samples of an annotation file; unreadable rows and missing video files go to the report.

    Videos in a store are taken to be there; one that is not is found when it is fetched.

    Raises:
        ConfigError: for a file without any usable row, or addresses for which a package is missing.
        TooManyBadRows: past the report's share.
    """
    table, lost = read_table(path, cache_dir=cache_dir)
    names, which = table.videos()
    _check_stores(names, video_dir)
    there = (video_stamps(names, video_dir)[:, 0] >= 0)[which]
    rows = len(table) + len(lost)
    skipped = _left_out(table, lost, np.flatnonzero(~there), video_dir)
    report.expect(rows)
    if not there.any():
        reasons = "; ".join(f"{entry.place}: {entry.reason}" for entry in islice(skipped, 3))
        raise ConfigError(f"{path}: no usable row among {rows} ({reasons}); check the file with python -m vtg.validate")
    report.add(list(skipped))
    table.release()
    return table if there.all() else table.select(np.flatnonzero(there))


def _left_out(table: SampleTable, lost: Sequence[Lost], gone: np.ndarray, video_dir: str | None) -> Iterator[Skipped]:
    """Rows that are no samples, and samples without a video (numbers `gone`), in the order of the file."""
    broken = ((one.before, 0, one.problem) for one in lost)
    missing = ((at, 1, None) for at in gone.tolist())
    for at, _, problem in merge(broken, missing, key=lambda entry: entry[:2]):
        if problem is not None:
            yield Skipped(f"{problem.path}:{problem.line}", f"{problem.field}: {problem.message}")
        else:
            one = table[at]
            reason = f"video: {storage.why_absent(resolve_video(one.video, video_dir))}"
            yield Skipped(one.place, reason, one.qid, one.video)


def _check_stores(names: pa.Array, video_dir: str | None) -> None:
    """Raises ConfigError where a package is missing for the first video that lies in a store, so before any is read."""
    remote = names.filter(pc.match_substring(names, "://"))  # pyright: ignore[reportAttributeAccessIssue]
    for name in (*remote.slice(0, 1).to_pylist(), *names.slice(0, 1).to_pylist()):
        address = resolve_video(name, video_dir)
        if storage.is_remote(address) and storage.exists(address):
            with suppress(DecodeError):  # its row says so
                stores.file_system(address)


@dataclass(frozen=True)
class Splits:
    """The samples to train on, to validate on while training (may be empty), and to test on (may be empty)."""

    train: Sequence[Sample]
    val: Sequence[Sample]
    test: Sequence[Sample]


def read_splits(data: DataConfig, *, seed: int, report: SkipReport) -> Splits:
    """All samples a training run needs, as the data group says. `val_share` parts by video, never by row."""
    assert data.annotation_file is not None
    seen: dict[str, SampleTable] = {}

    def split(path: str | None) -> Sequence[Sample]:
        if path is not None and path not in seen:
            seen[path] = read_split(path, video_dir=data.video_dir, report=report, cache_dir=data.cache_dir)
        return [] if path is None else seen[path]

    train, val, test = split(data.annotation_file), split(data.val_file), split(data.test_file)
    if data.val_share:
        train, val = part_by_video(train, share=data.val_share, seed=seed)
    if data.max_samples:
        train = train[: data.max_samples]
    for name, path in (("validation", data.val_file), ("test", data.test_file)):
        if path == data.annotation_file:
            log.warning("the %s rows are the training rows: they measure the fit, not what is learned", name)
    return Splits(train, val, test or val)


def part_by_video(samples: Sequence[Sample], *, share: float, seed: int) -> tuple[SampleTable, SampleTable]:
    """(training, validation): about `share` of the videos, at least one, are held out with all their rows."""
    table = SampleTable.of(samples)
    names, which = table.videos()
    count = len(names)
    if count < 2:
        raise ConfigError(f"data.val_share = {share}: there is only one video ({names[0]}), nothing can be held out")
    held_out = max(1, round(share * count))
    if held_out >= count:
        raise ConfigError(
            f"data.val_share = {share}: holds out all of {count} videos and leaves none to train on; set at most "
            f"{(count - 1) / count:.2g}"
        )
    by_name = pc.array_sort_indices(names).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]
    held = np.zeros(count, bool)
    held[by_name[random.Random(seed).sample(range(count), held_out)]] = True
    is_held = held[which]
    return table.select(np.flatnonzero(~is_held)), table.select(np.flatnonzero(is_held))


class GroundingDataset(Dataset[dict[str, Any]]):
    """Samples as encoded conversations: with the answer for training, with the generation prompt otherwise.

    `answers=False`: prompts and frames are drawn as in training, but nothing answers (reinforcement learning).
    `keep_clips`: items have an entry `clip` as well.

    A sample that cannot be decoded or encoded is replaced by the next one that can and is no longer, without labels, so
    that it carries no loss and every rank keeps the same number of batches with the same kinds of input; the entry
    `skipped` says so.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        task: SpanTask,
        processor: ProcessorMixin,
        provider: ClipProvider,
        video_dir: str | None,
        max_length: int,
        tokens_per_second: float,
        training: bool,
        answers: bool = True,
        keep_clips: bool = False,
        seed: int = 0,
    ) -> None:
        self.samples, self.task, self.processor, self.provider = samples, task, processor, provider
        self.video_dir, self.max_length, self.tokens_per_second = video_dir, max_length, tokens_per_second
        self.training, self.answers, self.seed, self.epoch = training, training and answers, seed, 0
        self.keep_clips = keep_clips

    def set_epoch(self, epoch: int) -> None:
        """Redraws random prompts and random frames."""
        self.epoch = epoch

    def leave_out(self, over: np.ndarray, report: SkipReport, *, budget: float) -> None:
        """Takes the samples where `over` (N,) bool says so out, because a batch cannot hold them, and reports them.

        Raises:
            ConfigError: those are all.
        """
        if over.all():
            raise ConfigError(
                f"batching.oversize = 'skip' leaves nothing: all {len(over)} samples are over the budget of "
                f"{budget:.10g}; raise it"
            )
        if over.any():
            log.warning("%d of %d samples are over the budget of a batch and left out", int(over.sum()), len(over))
            table = SampleTable.of(self.samples)
            out = table.select(np.flatnonzero(over))
            report.add([Skipped(s.place, "batching.oversize = skip", s.qid, s.video, bad=False) for s in out])
            self.samples = table.select(np.flatnonzero(~over))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """{"features": Features, "row": Row, "skipped": Skipped | None, "counts": Counter} of the sample at `index`.

        A negative index ~i is sample i without labels, to keep a rank busy that has no batch of its own. `row`: the
        sample that features are of. `counts`: what its clips cost, see `ClipProvider.take_counts`.

        Raises:
            TooManyBadRows: when no sample at all can be encoded.
        """
        if index < 0:
            item = self[~index]
            item["features"]["labels"] = torch.full_like(item["features"]["labels"], IGNORE_INDEX)
            return item
        try:
            return self._item(self.samples[index], None)
        except SampleError as error:
            skipped = self._skipped(self.samples[index], error)
        for at in self._others(index):
            try:
                item = self._item(self.samples[at], skipped)
            except SampleError:
                continue
            item["features"]["labels"] = torch.full_like(item["features"]["labels"], IGNORE_INDEX)
            return item
        raise TooManyBadRows(
            f"not one of {len(self)} samples can be used; the first: {skipped.place}: {skipped.reason}"
        )

    def _others(self, index: int) -> Iterator[int]:
        """Indices of the other samples: those no longer come first, since a batch has room for what was planned."""
        limit_s = self.samples[index].duration_s
        for longer in (False, True):
            for at in chain(range(index + 1, len(self)), range(index)):
                if (self.samples[at].duration_s > limit_s) == longer:
                    yield at

    def _item(self, sample: Sample, skipped: Skipped | None) -> dict[str, Any]:
        clip = self.clip(sample)
        features = self.features(sample, clip)
        item = {"features": features, "row": Row.of(sample, features), "skipped": skipped}
        item["counts"] = self.provider.take_counts()
        return item | {"clip": clip} if self.keep_clips else item

    def clip(self, sample: Sample) -> Clip:
        """The clip of a sample. Raises DecodeError."""
        drawn = crc32(f"{self.seed}:{self.epoch}".encode()) if self.training else 0
        path = resolve_video(sample.video, self.video_dir)
        return self.provider.clip(
            path,
            duration_s=sample.duration_s,
            video_start_s=sample.video_start_s,
            video_end_s=sample.video_end_s,
            seed=drawn,
        )

    def features(self, sample: Sample, clip: Clip | None = None) -> Features:
        """The encoded conversation of a sample, about `clip` if one is given (a control shows another video).

        Raises:
            SampleError: if its video cannot be decoded, or it cannot be encoded.
        """
        messages = self.task.conversation(
            sample.query,
            duration_s=sample.duration_s,
            spans=sample.spans if self.answers else None,
            key=sample.qid,
            seed=self.seed + self.epoch if self.training else 0,
        )
        clip = self.clip(sample) if clip is None else clip
        return encode(
            self.processor, messages, clip, tokens_per_second=self.tokens_per_second, max_length=self.max_length
        )

    def _skipped(self, sample: Sample, error: SampleError) -> Skipped:
        kind = "video" if isinstance(error, DecodeError) else "sample"
        return Skipped(sample.place, f"{kind}: {error}", sample.qid, sample.video)


class TrainingCollator:
    """Items of a training `GroundingDataset` as a padded batch, with what was left out and what the clips cost."""

    def __init__(self, pad_token_id: int, batching: BatchingConfig) -> None:
        self.pad_token_id, self.batching = pad_token_id, batching

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A batch as `vtg.data.padding.collate` or `vtg.data.packing.pack` says, and three entries more.

        `rows`: a list of Row. `skipped`: a list of Skipped. `counts`: a Counter of the clips, and of `samples` with
        labels, `batches`, `tokens` that are attended to and `slots`, tokens that are computed.
        """
        features = [item["features"] for item in items]
        batch: dict[str, Any]
        if is_packed(self.batching):
            batch = pack(share(features) if self.batching.share_video else features)
            tokens = int((batch["segments"] >= 0).sum())
        else:
            batch = collate(features, pad_token_id=self.pad_token_id)
            tokens = int(batch["attention_mask"].sum())
        batch["rows"] = [item["row"] for item in items]
        batch["skipped"] = [item["skipped"] for item in items if item["skipped"] is not None]
        samples = sum(bool((one["labels"] != IGNORE_INDEX).any()) for one in features)
        slots = batch["input_ids"].numel()
        own = Counter(samples=samples, batches=1, tokens=tokens, slots=slots)
        batch["counts"] = sum((item["counts"] for item in items), own)
        return batch


def make_provider(video: VideoConfig, processor: ProcessorMixin) -> ClipProvider:
    """The source of clips at the sizes this processor's model takes.

    Raises:
        ConfigError: for a decoder that is asked for by name and cannot be imported.
    """
    if video.decoder in ("decord", "torchcodec"):
        try:
            importlib.import_module(video.decoder)
        except (ImportError, OSError, RuntimeError) as error:
            raise ConfigError(
                f"video.decoder = {video.decoder!r}: cannot be imported ({str(error).strip().splitlines()[0]}); set "
                "video.decoder=auto, or install what it says (torchcodec needs FFmpeg's shared libraries)"
            ) from error
    return ClipProvider(video, factor=patch_factor(processor))
