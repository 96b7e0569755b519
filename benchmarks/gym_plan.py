"""What gym.py trains: its cases, the settings that all of them share, and the command of one run."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vtg.config.data_settings import GymConfig

ROOT = Path(__file__).parents[1]
FORMS = ("seconds", "relative", "bins", "tokens")
INITS = ("sinusoidal", "mean", "random", "numbers")
LOSSES = ("cross_entropy", "smoothed", "soft_time", "combined")

BEST = "best"
"""Stands for the initialisation whose runs with cross-entropy scored the highest mean mIoU."""


# Of seconds with cross-entropy after 90 steps: at 1e-3 full training answers with about one span whatever is asked
# (mIoU 18.7 before, 15.8 after), at 2e-4 it still looks. Each way is also trained at the other's rate, on two forms.
RATES = {"full": "2e-4", "lora": "5e-4"}
"""Learning rate by what is trained, where a case names none."""


@dataclass(frozen=True, order=True)
class Case:
    """A way of training: one row of the table.

    `init` is empty where no tokens are added; `adapts` is full or lora, and may name a learning rate: full@5e-4.
    """

    form: str
    init: str = ""
    loss: str = "cross_entropy"
    adapts: str = "full"

    @property
    def name(self) -> str:
        parts = (self.form, self.init, self.loss, self.adapts)
        return "-".join(part for part in parts if part)

    def overrides(self) -> list[str]:
        """Its settings of train_sft.py."""
        task = [f"task={self.form}"] + ([f"task.token_init={self.init}"] if self.init else [])
        # 100 for bins and tokens alike: so many parts are finer than what a clip of 40 frames shows.
        task += ["task.num_bins=100"] if self.form in ("bins", "tokens") else []
        what, _, rate = self.adapts.partition("@")
        adapts = ["lora=none"] if what == "full" else []
        return [*task, f"loss={self.loss}", *adapts, f"trainer.learning_rate={rate or RATES[what]}"]


BASELINE = Case("seconds")


@dataclass(frozen=True)
class Size:
    """How much is trained and tested."""

    steps: int
    data: GymConfig
    batch_tokens: int = 1300
    overrides: tuple[str, ...] = ()


# Clips of 20 to 40 s in training and of up to 80 s in the test: the tiny model was pretrained on up to 22 s.
DATA = GymConfig(train_videos=160, test_videos=20, long_videos=10, longest_s=40.0, long_s=80.0)

# About a minute of a quiet core; 90 steps took 40 s of CPU beside other work.
FULL = Size(steps=100, data=DATA)
# A GPU spends a step's time on starting kernels, so its batches are larger: packing keeps them one sequence.
FULL_ON_GPU = Size(steps=300, data=DATA, batch_tokens=4000)
QUICK = Size(
    steps=2,
    data=GymConfig(train_videos=4, test_videos=1, long_videos=1, longest_s=25.0, long_s=30.0),
)


def stages(*, everything: bool, quick: bool) -> tuple[list[Case], list[Case]]:
    """The cases that are trained first, and those that need to know which initialisation was best.

    All of them is the product of forms and losses, each initialisation being a form of its own, in full, and LoRA with
    cross-entropy. By default a loss other than cross-entropy is tried on two forms alone: on seconds, and on tokens
    with the best initialisation; and LoRA likewise, and either at the learning rate of the other.
    """
    forms = [Case(form) for form in FORMS[:3]] + [Case("tokens", init) for init in INITS]
    if quick:
        return [BASELINE, Case("tokens", "mean")], [Case("tokens", BEST, "combined")]
    if everything:
        product = [Case(case.form, case.init, loss) for loss in LOSSES for case in forms]
        return product + [Case(case.form, case.init, adapts="lora") for case in forms], []
    ways = ("lora", f"lora@{RATES['full']}", f"full@{RATES['lora']}")
    first = forms + [Case("seconds", loss=loss) for loss in LOSSES[1:]] + [Case("seconds", adapts=way) for way in ways]
    then = [Case("tokens", BEST, loss) for loss in LOSSES[1:]] + [Case("tokens", BEST, adapts=way) for way in ways]
    return first, then


@dataclass(frozen=True)
class Run:
    """One training of a case with one seed, in `folder`."""

    case: Case
    seed: int
    folder: Path = field(compare=False)

    @property
    def name(self) -> str:
        return f"{self.case.name}-seed{self.seed}"

    @property
    def path(self) -> Path:
        return self.folder / "runs" / self.name

    @property
    def log(self) -> Path:
        return self.folder / "logs" / f"{self.name}.txt"

    def command(self, size: Size, more: Sequence[str], *, on_gpu: bool) -> list[str]:
        """The command line of this run."""
        folder = str(self.folder.absolute())
        gym = [f"data.gym.{key}={value}" for key, value in vars(size.data).items()]
        shared = [
            "data=gym",
            f"data.video_dir={quoted(folder + '/data')}",
            f"data.annotation_file={quoted(folder + '/train.jsonl')}",
            f"data.test_file={quoted(folder + '/test.jsonl')}",
            "data.val_file=null",
            *gym,
            "video.max_frames=40",
            f"video.cache_dir={quoted(folder + '/cache')}",
            "video.cache_format=raw",
            # All questions of a clip in one sequence: the clip is most of the work, and runs once for seven of them.
            "batching=packed",
            "batching.share_video=true",
            f"batching.target_batch_tokens={size.batch_tokens}",
            f"trainer.max_steps={size.steps}",
            "trainer.eval_strategy=no",
            "trainer.save_strategy=no",
            "trainer.report_to=none",
            f"trainer.use_cpu={'false' if on_gpu else 'true'}",
            "evaluation.shuffled_video_control=false",
            "evaluation.max_new_tokens=16",  # the longest answer, of the relative form, has 13
        ]
        own = [*self.case.overrides(), f"seed={self.seed}", f"output_dir={quoted(str(self.path.absolute()))}"]
        return [sys.executable, str(ROOT / "train_sft.py"), *shared, *own, *more]


def quoted(path: str) -> str:
    """A path as a value on the command line, where Hydra reads commas and brackets as its own."""
    return "'" + path.replace("'", "\\'") + "'"
