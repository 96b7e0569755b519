"""The clips of rows, each in two: what is seen, and what is to be predicted."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from zlib import crc32

from torch.utils.data import Dataset

from vtg.annotations.sample import Sample, resolve_video
from vtg.data.grounding_dataset import BatchRow
from vtg.data.skip_report import Skipped
from vtg.errors import SampleError
from vtg.latents.future_clips import FoundFuture, FutureReader
from vtg.video.clip import DecodeError
from vtg.video.video_window import VideoWindow


@dataclass(frozen=True)
class ClipItem:
    """An item of `ClipDataset`.

    Attributes:
        index: of the clip in the data set.
        seed: of what is drawn for it.
        start_s: where it begins in its row's window.
        found: None where there is none.
        skipped: why.
    """

    index: int
    row: BatchRow
    seed: int
    start_s: float = 0.0
    found: FoundFuture | None = None
    skipped: Skipped | None = None


@dataclass(frozen=True)
class ClipBatch:
    """The items of a batch that have a clip, and why others have none."""

    items: tuple[ClipItem, ...] = ()
    skipped: tuple[Skipped, ...] = field(default=())

    @classmethod
    def of(cls, items: Sequence[ClipItem]) -> "ClipBatch":
        """The batch of items, of which there may be none."""
        whole = tuple(item for item in items if item.found is not None)
        return cls(whole, tuple(item.skipped for item in items if item.skipped is not None))

    @property
    def found(self) -> list[FoundFuture]:
        return [item.found for item in self.items if item.found is not None]

    @property
    def seeds(self) -> list[int]:
        return [item.seed for item in self.items]


class ClipDataset(Dataset[ClipItem]):
    """One clip of every part of a video that rows name, however many rows do.

    Args:
        video_dir: where relative names of videos are looked up.
        training: clips that begin anywhere are drawn anew each epoch; without, always the same.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        reader: FutureReader,
        video_dir: str | None,
        training: bool = False,
        seed: int = 0,
    ) -> None:
        self.reader, self.training, self.seed, self.epoch = reader, training, seed, 0
        # Rows of grounding name a video several times, once for each query; here it would be trained as often.
        rows: dict[VideoWindow, Sample] = {}
        for sample in samples:
            rows.setdefault(sample.window(resolve_video(sample.video, video_dir)), sample)
        self.rows = list(rows.items())

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, from which random starts are drawn."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> ClipItem:
        window, sample = self.rows[index]
        clips = self.reader.reader
        row = BatchRow(sample.qid, sample.video, sample.duration_s, clips.settings.n_frames)
        # Not `hash`, which Python salts anew in every process: a run that resumes must draw what it would have drawn.
        seed = crc32(f"{self.seed}:{self.epoch if self.training else 'test'}:{index}".encode())
        try:
            start_s = clips.start_s(window, seed=seed)
            return ClipItem(index, row, seed, start_s, self.reader.find(window, start_s=start_s))
        except SampleError as error:
            # Told apart, because what to do differs: mend the file, or choose a shorter context.
            kind = "video" if isinstance(error, DecodeError) else "clip"
            skipped = Skipped(sample.place, f"{kind}: {error}", sample.qid, sample.video)
            return ClipItem(index, row, seed, skipped=skipped)
