"""Samples → encoded conversations."""

import importlib
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import ProcessorMixin

from vtg.annotations.sample import Sample, resolve_video
from vtg.annotations.sample_table import SampleTable
from vtg.config.video_settings import VideoConfig
from vtg.data.augmentation import Augmentation
from vtg.data.encoding import IGNORE_INDEX, Features, encode, frame_options
from vtg.data.question_encoding import ConversationEncoder, encode_questions
from vtg.data.skip_report import Skipped, SkipReport, TooManyBadRows
from vtg.data.tower_cache import TowerCache
from vtg.errors import ConfigError, SampleError
from vtg.tasks.all_tasks import Tasks
from vtg.tasks.span_task import SpanTask
from vtg.video.clip import Clip, DecodeError
from vtg.video.provider import CACHE_BYTES, ClipProvider

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchRow:
    """A sample as it stands in a batch: what names it, the seconds of its clip, and its tokens."""

    qid: str
    video: str
    duration_s: float
    tokens: int

    @classmethod
    def of(cls, sample: Sample, features: Features) -> "BatchRow":
        return cls(sample.qid, sample.video, sample.duration_s, len(features["input_ids"]))


@dataclass(slots=True)
class GroundingItem:
    """An item of `GroundingDataset`.

    Attributes:
        features: the encoded conversation, without labels where it stands in for another sample.
        row: names the sample that `features` are of, and what it costs.
        sample: that sample, with the duration and the spans of the clip as it was shown (`Augmentation`).
        skipped: the sample that was asked for, where it could not be encoded.
        counts: what its clips cost, see `GroundingDataset.take_counts`.
        clip: with `keep_clips` alone, since frames are large to send between processes.
    """

    features: Features
    row: BatchRow
    sample: Sample
    skipped: Skipped | None
    counts: Counter[str]
    clip: Clip | None = None

    def pin_memory(self) -> "GroundingItem":
        """Called by a DataLoader with `pin_memory`, which looks into dicts and lists, not into dataclasses."""
        self.features = {name: tensor.pin_memory() for name, tensor in self.features.items()}
        return self

    def drop_labels(self) -> None:
        """Makes it carry no loss."""
        self.features["labels"] = torch.full_like(self.features["labels"], IGNORE_INDEX)


class GroundingDataset(Dataset[GroundingItem]):
    """Samples as encoded conversations: with the answer for training, with the generation prompt otherwise.

    `answers=False`: prompts and frames are drawn as in training, but nothing answers (reinforcement learning).
    `keep_clips`: items have their `clip` as well. `augmentation`: changes the clips of items. `towers`: what a frozen
    vision tower made of clips stands in for their pixels, where it is known. `clips_recur`: samples of one clip are
    asked for one after the other; its frames are processed once for them, and the last clip's features are kept.

    A sample that cannot be decoded or encoded is replaced by the next one that can and is no longer, without labels, so
    that it carries no loss and every rank keeps the same number of batches with the same kinds of input; `skipped`
    of the item says so.
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
        augmentation: Augmentation | None = None,
        towers: TowerCache | None = None,
        clips_recur: bool = False,
        seed: int = 0,
    ) -> None:
        self.samples, self.task, self.processor, self.provider = samples, task, processor, provider
        self.tasks = Tasks(task)
        self.video_dir, self.max_length, self.tokens_per_second = video_dir, max_length, tokens_per_second
        self.training, self.answers, self.seed, self.epoch = training, training and answers, seed, 0
        self.keep_clips, self.augmentation, self.towers = keep_clips, augmentation, towers
        self._encoder = ConversationEncoder(processor, **self._limits) if clips_recur else None

    def set_epoch(self, epoch: int) -> None:
        """Redraws random prompts and random frames."""
        self.epoch = epoch

    def leave_out(self, over: np.ndarray, report: SkipReport, *, budget: float) -> None:
        """Takes the samples where `over` (N,) bool says so out, because a batch cannot hold them, and reports them.

        Raises:
            ConfigError: those are all.
        """
        # All of them over it means a wrong budget rather than long clips.
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

    def __getitem__(self, index: int) -> GroundingItem:
        """The encoded sample at `index`.

        A negative index ~i is sample i without labels, to keep a rank busy that has no batch of its own.

        Raises:
            TooManyBadRows: when no sample at all can be encoded.
        """
        if index < 0:
            item = self[~index]
            item.drop_labels()
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
            # Training on it would weigh this sample twice.
            item.drop_labels()
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

    def _item(self, sample: Sample, skipped: Skipped | None) -> GroundingItem:
        clip = self.clip(sample)
        if self.augmentation is not None:
            sample, clip = self.augmentation(sample, clip, epoch=self.epoch)
        features = self.features(sample, clip)
        # Counted in the data worker: only what goes along with the item reaches the training process.
        counts = self.take_counts()
        return GroundingItem(
            features, BatchRow.of(sample, features), sample, skipped, counts, clip if self.keep_clips else None
        )

    def take_counts(self) -> Counter[str]:
        """What its clips cost in this process since the last call, see `ClipProvider.take_counts`; with `towers` also
        `seen`, the clips that needed no pixels."""
        counts = self.provider.take_counts()
        return counts + self.towers.take_counts() if self.towers is not None else counts

    def clip(self, sample: Sample) -> Clip:
        """The clip of a sample. Raises DecodeError."""
        # The same frames in every evaluation, so that two checkpoints are compared on the same input.
        # Not `hash`, which Python salts anew in every process: a run that resumes must draw what it would have drawn.
        drawn = crc32(f"{self.seed}:{self.epoch}".encode()) if self.training else 0
        window = sample.window(resolve_video(sample.video, self.video_dir))
        if self.towers is not None:
            return self.towers.clip(self.provider, window, seed=drawn)
        return self.provider.clip(window, seed=drawn)

    def features(self, sample: Sample, clip: Clip | None = None) -> Features:
        """The encoded conversation of a sample, about `clip` if one is given (as augmented).

        Raises:
            SampleError: if its video cannot be decoded, or it cannot be encoded.
        """
        if self.answers and not sample.is_labelled:
            raise SampleError(f"{sample.place}: timestamp: is missing, so it cannot be trained on; annotate it")
        clip, conversation = self.clip(sample) if clip is None else clip, self._conversation(sample)
        if self._encoder is not None:
            return self._encoder(conversation, clip)
        return encode(self.processor, conversation, clip, **self._limits)

    def questions(self, samples: Sequence[Sample], clip: Clip) -> list[Features | SampleError]:
        """The encoded conversations of samples, all about one clip, whose pixels they share; or why one has none."""
        asked = [self._asked(sample) for sample in samples]
        conversations = [one for one in asked if not isinstance(one, SampleError)]
        made = iter(encode_questions(self.processor, conversations, clip, **self._limits))
        return [one if isinstance(one, SampleError) else next(made) for one in asked]

    def _asked(self, sample: Sample) -> list[dict[str, Any]] | SampleError:
        """A sample's conversation, or why it has none: its subtitles cannot be read, say, when others' can."""
        try:
            return self._conversation(sample)
        except SampleError as error:
            return error

    def _conversation(self, sample: Sample) -> list[dict[str, Any]]:
        seed = self.seed + self.epoch if self.training else 0
        return self.tasks.conversation(sample, answers=self.answers, seed=seed)

    @property
    def _limits(self) -> dict[str, Any]:
        return {"tokens_per_second": self.tokens_per_second, "max_length": self.max_length}

    def _skipped(self, sample: Sample, error: SampleError) -> Skipped:
        # Told apart, because what to do differs: fetch the file, or change the row or the limits.
        kind = "video" if isinstance(error, DecodeError) else "sample"
        return Skipped(sample.place, f"{kind}: {error}", sample.qid, sample.video)


def make_provider(video: VideoConfig, processor: ProcessorMixin, *, cache_bytes: int = CACHE_BYTES) -> ClipProvider:
    """The source of clips at the sizes this processor's model takes; `cache_bytes` of them are kept in memory.

    Raises:
        ConfigError: for a decoder that is asked for by name and cannot be imported.
    """
    if video.decoder in ("decord", "torchcodec"):
        # Here and not at the first clip: there it would be the fault of a row, and every row would be skipped.
        try:
            importlib.import_module(video.decoder)
        except (ImportError, OSError, RuntimeError) as error:
            raise ConfigError(
                f"video.decoder = {video.decoder!r}: cannot be imported ({str(error).strip().splitlines()[0]}); set "
                "video.decoder=auto, or install what it says (torchcodec needs FFmpeg's shared libraries)"
            ) from error
    return ClipProvider(video, cache_bytes=cache_bytes, **frame_options(processor))
