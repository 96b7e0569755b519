"""Which rows are trained on and tested, and which of them make a batch."""

from dataclasses import dataclass

from vtg.config.setting import setting


@dataclass
class DemoConfig:
    """Size of the synthetic data set."""

    train_videos: int = setting(0, "videos that are trained on")
    val_videos: int = setting(0, "videos that are validated on")
    test_videos: int = setting(0, "videos that are tested on")
    seed: int = setting(0, "draws the videos, events and sentences")


@dataclass
class GymConfig:
    """Size of the harder synthetic data set, and how long its clips are."""

    train_videos: int = setting(0, "videos that are trained on")
    val_videos: int = setting(0, "videos that are validated on")
    test_videos: int = setting(0, "videos that are tested on, as long as those of training")
    long_videos: int = setting(0, "videos longer than any of training: the rows of long_one.jsonl, long_set.jsonl")
    shortest_s: float = setting(20.0, "length of the shortest videos, in seconds")
    longest_s: float = setting(80.0, "length of the longest videos of training, validation and test, in seconds")
    long_s: float = setting(120.0, "length of the longest of long_videos, in seconds")
    crowded: bool = setting(
        True, "7 to 12 shapes in a clip, which come back and look alike; false: 1 to 4, each once, and clips from 4 s"
    )
    seed: int = setting(0, "draws the videos, events and sentences")


@dataclass
class LeRobotConfig:
    """Which videos of a LeRobot data set are asked about."""

    camera_key: str = setting("", "camera, such as observation.images.top; empty: the first of the data set")


@dataclass
class WebVidConfig:
    """Which partitions of a set in WebVid's layout are read."""

    dataset_name: str = setting("webvid-10M", "folder of the set's tables, below raw/")
    split: str = setting("train", "whose partitions are read", choices=("train", "val"))


@dataclass
class RowsConfig:
    """Files of annotation rows, and where their videos are."""

    annotation_file: str | None = setting(
        None,
        "JSONL rows: video, duration, timestamp, sentence (python -m vtg.validate FILE checks them); or shards/*.tar, "
        "or FORMAT:FILE as published, videos:FOLDER for latents",
        on_resume="may_change",
    )
    root: str | None = setting(
        None,
        "folder of a published set: its files as they are published, its videos in videos/",
        on_resume="may_change",
    )
    video_dir: str | None = setting(
        None,
        "where relative `video` names are looked up, or s3://bucket/videos; null: as they are",
        on_resume="may_change",
    )
    val_file: str | None = setting(
        None,
        "validated on while training; null: val_share of the training videos, or no validation",
        on_resume="may_change",
    )
    # Of videos, not of rows: rows of one video in both would make the validation look better than it is.
    val_share: float = setting(0.0, "share of the training videos to validate on instead of val_file; 0: none")
    test_file: str | None = setting(
        None, "measured before and after training; null: the validation rows", on_resume="may_change"
    )
    max_samples: int = setting(0, "train on the first N rows only; 0: all")
    demo: DemoConfig | None = None
    gym: GymConfig | None = None
    lerobot: LeRobotConfig | None = None
    webvid: WebVidConfig | None = None

    @property
    def has_validation(self) -> bool:
        """Whether there are rows to validate on while training."""
        return self.val_file is not None or self.val_share > 0


@dataclass
class SourceConfig(RowsConfig):
    """One of the data sets that a mixture draws from."""

    preset: str | None = setting(
        None, "a data set of conf/data/ by its name, whose settings hold where none is given here"
    )
    weight: float = setting(
        1.0,
        "its part of the samples drawn, beside the others' (data.weights says of what); 0: none is trained on, and "
        "its val and test rows are asked, if it names files",
    )
    group: str | None = setting(None, "the group of data.groups that it shares a part with; null: it has its own")


@dataclass
class DataConfig(RowsConfig):
    """Which annotation rows are trained on, validated on while training, and tested at the end."""

    index_file: str | None = setting(
        None,
        "facts of the videos, made by python -m vtg.inspect --index FILE; null: FILE.videos.parquet, if it is there",
        on_resume="may_change",
    )
    cache_dir: str | None = setting(
        None,
        "where large annotation files are kept in a form to be mapped; null: ~/.cache/vtg",
        on_resume="may_change",
    )
    # A few broken videos are usual in data from the web; more is a wrong video_dir, or a download that broke off.
    max_bad_share: float = setting(
        0.05, "stop when more than this share of the rows cannot be used", on_resume="may_change"
    )
    sources: dict[str, SourceConfig] = setting(
        factory=dict, help="data sets to draw from instead, by a name of yours each: sources.NAME.preset, weight, ..."
    )
    weights: str = setting(
        "explicit",
        "with sources, what their weights multiply",
        choices={
            "explicit": "nothing: the weights are the parts",
            "proportional": "each source's number of samples",
            "sqrt": "its square root",
        },
    )
    groups: dict[str, float] = setting(
        factory=dict, help="with sources, the part of each group of them; its sources share it by their weights"
    )
    epoch_samples: int = setting(
        0, "with sources, samples drawn in an epoch; 0: as many as the sources with a weight have"
    )
    epoch_source: str | None = setting(
        None, "with sources, the one that an epoch goes through once, while the others are drawn beside it"
    )

    @property
    def read_sources(self) -> dict[str, SourceConfig]:
        """The sources without those that are weighed 0 and name no file, which are left out."""
        return {name: one for name, one in self.sources.items() if one.weight or one.annotation_file is not None}

    @property
    def has_validation(self) -> bool:
        """Whether there are rows to validate on while training, of any source."""
        return super().has_validation or any(source.has_validation for source in self.sources.values())


@dataclass
class AugmentationConfig:
    """Random changes of training clips; the times of their frames and moments change with them."""

    crop: float = setting(0.0, "share of the rows whose clip is cut to a part that holds all their moments")
    crop_min_share: float = setting(0.5, "with crop: of the clip's length at least this share is left")
    shift: float = setting(
        0.0, "share of the rows whose clip is cut in two outside their moments, its parts in other order"
    )
    speed: float = setting(1.0, "a clip is played up to so many times faster, or slower; 1: as it is")
    color: float = setting(0.0, "brightness, contrast and saturation change by at most this share; 0: as they are")

    @property
    def is_on(self) -> bool:
        """Whether anything may change."""
        return self.crop > 0 or self.shift > 0 or self.speed > 1 or self.color > 0


@dataclass
class BatchingConfig:
    """Which samples make a batch, and in which form: padded side by side, or packed end to end."""

    by: str = setting(
        "fixed",
        "what a batch is filled up to",
        choices={
            "fixed": "trainer.per_device_train_batch_size samples",
            "duration": "target_batch_duration seconds of video",
            "tokens": "target_batch_tokens tokens",
        },
    )
    target_batch_duration: float = setting(
        120.0, "with by=duration: samples x the longest of them (packed: their sum), in seconds", on_resume="may_change"
    )
    # 0 is not "no limit": every sample that the settings allow then fits into a batch.
    target_batch_tokens: int = setting(
        0,
        "with by=tokens: likewise, in tokens; 0: as many as the longest clip that the settings allow",
        on_resume="may_change",
    )
    max_batch_size: int | None = setting(0, "samples; 0 or null: no limit", on_resume="may_change")
    min_batch_size: int = setting(1, "samples, where the budget allows", on_resume="may_change")
    drop_last: bool = setting(False, "leave out what does not fill a last step on all ranks, rather than split batches")
    # An error, because leaving out the longest samples changes what is learned.
    oversize: str = setting(
        "error",
        "a sample that no batch can hold",
        choices={"error": "ends the run", "alone": "is a batch of its own", "skip": "is left out, and reported"},
    )
    attention_cost: float = setting(
        24576.0, "for balancing ranks, a sequence of l tokens takes as long as l + l²/this; 0: l"
    )
    global_size: int = setting(
        0,
        "samples of an optimizer step, of all ranks together: sets trainer.gradient_accumulation_steps (by=fixed: "
        "exactly so many; else the nearest that whole batches make on average); 0: as that says",
        on_resume="may_change",
    )
    packing: bool = setting(False, "samples end to end without padding, each attending to itself only")
    share_video: bool | None = setting(
        False,
        "packed, and rows of one clip hold its video once; in RL, prompts of a micro-batch do; null: in RL alone, "
        "where no other setting keeps prompts from it",
    )
    largest_first: bool = setting(
        False, "the costliest step of the first epoch comes first, so that if memory runs out it does at once"
    )
