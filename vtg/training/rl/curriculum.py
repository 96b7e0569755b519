"""Which samples an RL run takes next, by the IoU of their last completions; and when its reward stops rising."""

import hashlib
import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vtg.annotations.sample import Sample
from vtg.annotations.sample_table import SampleTable
from vtg.annotations.target import Span
from vtg.config.rl_settings import CurriculumConfig
from vtg.errors import ConfigError
from vtg.storage.atomic import write_text
from vtg.tasks.iou import set_iou, temporal_ious

ZERO_VARIANCE = ("keep", "drop", "resample")
"""What becomes of a group whose completions all have the same reward: DAPO's dynamic sampling (arXiv:2503.14476)."""

BINS = 20
"""Of difficulty, over which `select: gaussian` levels how many samples there are."""

STREAM = 2
"""Sets these draws apart from others of the same seed and epoch."""


@dataclass
class IoURecord:
    """How well each of N training samples was answered when last met.

    All ranks hold the same record: what they update it with is gathered first.

    Attributes:
        qids: digest of the samples' qids in their order.
        iou: (N,) float64 in [0, 1], the mean of the latest group of completions; before the first, what the
            annotations say of a base model; NaN if unknown.
        met: (N,) int64, groups of completions so far.
        step: (N,) int64, optimizer step of the latest; -1 if there is none.
    """

    qids: str
    iou: np.ndarray
    met: np.ndarray
    step: np.ndarray

    @classmethod
    def start(cls, samples: Sequence[Sample]) -> "IoURecord":
        """Before any completion: from `difficulty`, or else from `pred`, of the annotations."""
        count = len(samples)
        return cls(_digest(samples), _annotated_iou(samples), np.zeros(count, np.int64), np.full(count, -1, np.int64))

    @classmethod
    def load(cls, state: dict[str, Any], samples: Sequence[Sample], *, place: str = "the IoU record") -> "IoURecord":
        """The record of a `state`. Raises ConfigError if it was of other samples, or in another order."""
        # Entries go by position: with other samples, or another order, every IoU would belong to a wrong sample.
        if state["qids"] != _digest(samples):
            count = len(state["iou"])
            raise ConfigError(
                f"{place}: is of {count} {'other ' if count == len(samples) else ''}samples, but the training list has "
                f"{len(samples)} (their qids are compared, in order); go on with the annotations, data.* and seed that "
                "the run began with, or start anew: resume=never"
            )
        iou = np.array([math.nan if value is None else value for value in state["iou"]], np.float64)
        return cls(state["qids"], iou, np.array(state["met"], np.int64), np.array(state["step"], np.int64))

    @classmethod
    def read(cls, path: str | os.PathLike[str], samples: Sequence[Sample]) -> "IoURecord":
        """The record of a file that `write` wrote; see `load`."""
        return cls.load(json.loads(Path(path).read_text(encoding="utf-8")), samples, place=os.fspath(path))

    def update(self, entries: Iterable[tuple[int, float]], step: int) -> None:
        """Takes in (index of the sample, mean IoU of its group) of an optimizer step; the last of a sample stays."""
        pairs = np.array(list(entries), np.float64).reshape(-1, 2)
        at, iou = pairs[:, 0].astype(np.int64), pairs[:, 1]
        assert ((at >= 0) & (at < len(self))).all() and ((iou >= 0) & (iou <= 1)).all(), pairs
        self.iou[at] = iou
        np.add.at(self.met, at, 1)
        self.step[at] = step

    def state(self) -> dict[str, Any]:
        """All of it, for JSON; an unknown IoU is None."""
        # JSON has no NaN.
        iou = [None if math.isnan(value) else value for value in self.iou.tolist()]
        return {"qids": self.qids, "iou": iou, "met": self.met.tolist(), "step": self.step.tolist()}

    def write(self, path: str | os.PathLike[str]) -> None:
        """One line of JSON (a million samples: some 20 MB), written beside and renamed."""
        write_text(path, json.dumps(self.state(), separators=(",", ":")) + "\n")

    def __len__(self) -> int:
        return len(self.iou)

    def __repr__(self) -> str:
        return f"IoURecord(samples={len(self)}, met={int((self.met > 0).sum())})"


@dataclass(frozen=True)
class Choice:
    """The samples of one pass.

    Attributes:
        indices: (n,) int64 in a random order, n >= 1; all different, unless a mixture repeats a small source.
        eligible: how many the selection keeps, of which `size` took its share.
        note: a warning for the user.
    """

    indices: np.ndarray
    eligible: int
    note: str | None = None

    def __repr__(self) -> str:
        return f"Choice(samples={len(self.indices)}, eligible={self.eligible}, note={self.note!r})"


def choose(record: IoURecord, config: CurriculumConfig, *, epoch: int, seed: int) -> Choice:
    """Draws the samples of a pass, a function of the arguments alone.

    The selection weighs the samples, and the share `size` of those it keeps (one at least) is drawn by these weights,
    without replacement. Where it keeps none, all are kept and a note says so: a run does not end by it.

    A run that resumes within a pass needs the indices it began with: the record has changed since.
    """
    assert len(record)
    # No state of a generator to save: seed and pass alone decide, on every rank and after a resume.
    rng = np.random.default_rng([seed, epoch, STREAM])
    weights, note = SELECTIONS[config.select](record, config), None
    if np.isneginf(weights).all():
        weights = np.zeros(len(record))
        note = (
            f"curriculum.select = '{config.select}' keeps none of {len(record)} samples (curriculum.min_iou = "
            f"{config.min_iou:g}, curriculum.max_iou = {config.max_iou:g}), so this pass takes them all; widen the "
            "limits, or end the run"
        )
    elif config.select in ("gaussian", "hard") and config.size == 1:
        note = (
            f"curriculum.select = '{config.select}' has no choice where curriculum.size = 1 takes every sample; set it "
            "below"
        )
    eligible = int((~np.isneginf(weights)).sum())
    count = max(1, round(config.size * eligible))
    drawn = np.argsort(-(weights + rng.gumbel(size=len(weights))))[:count]  # top keys: a draw without replacement
    return Choice(rng.permutation(drawn), eligible, note)


def _all(record: IoURecord, config: CurriculumConfig) -> np.ndarray:
    return np.zeros(len(record))


def _filter(record: IoURecord, config: CurriculumConfig) -> np.ndarray:
    """What the model has learned, or never gets right, goes (Time-R1, arXiv:2503.13377: 0 < IoU <= 0.7).

    A sample that is left out keeps its IoU, so it stays out.
    """
    # NaN (never met) stays in: a sample must be met once before it can be judged.
    kept = np.isnan(record.iou) | ((record.iou > config.min_iou) & (record.iou <= config.max_iou))
    return np.where(kept, 0.0, -np.inf)


def _gaussian(record: IoURecord, config: CurriculumConfig) -> np.ndarray:
    """The difficulties drawn, 1 - IoU, follow a Gaussian however many samples of each there are.

    As TimeLens trains (arXiv:2512.14698, `fixed_gaussian_sampling` of its published code): the Gaussian's density over
    the number of samples in the bin. Without `level` the density alone, as Time-R1 drew its 2,500 samples
    (arXiv:2503.13377, `gaussian_sample` of its published code). A sample of unknown IoU weighs as if it stood at the
    mean.
    """
    known = ~np.isnan(record.iou)
    difficulty = 1 - record.iou[known]
    weights = np.zeros(len(record))
    weights[known] = -0.5 * ((difficulty - config.mean) / config.std) ** 2
    if not config.level:
        return weights
    bins = np.minimum((difficulty * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    level = known.sum() / max(1, np.count_nonzero(counts))  # samples of a bin if they were spread evenly
    # Dividing by the count of the bin undoes how many samples the data happens to have at each difficulty.
    weights[known] += np.log(level / counts[bins])
    return weights


def _hard(record: IoURecord, config: CurriculumConfig) -> np.ndarray:
    """(1 - IoU)^power, the IoU being a mean over completions: TimeLens2 (arXiv:2607.17423), with power 2.

    As in its published `build_sample_weights`, a sample of unknown IoU weighs as if it were never hit.
    """
    # 1e-8 is TimeLens2's: a sample that is always right stays possible, should there be no others.
    return config.power * np.log(1 - np.nan_to_num(record.iou) + 1e-8)


SELECTIONS: dict[str, Callable[[IoURecord, CurriculumConfig], np.ndarray]] = {
    "all": _all,
    "filter": _filter,
    "gaussian": _gaussian,
    "hard": _hard,
}
"""Log weights of the samples, (N,), up to a constant; -inf for one that is left out."""


class Plateau:
    """Whether the reward has stopped rising: `plateau_steps` optimizer steps without a better mean of as many steps.

    Better is by more than `plateau_gain` over the best mean so far, so that a slow rise counts once it adds up.
    """

    def __init__(self, config: CurriculumConfig) -> None:
        self.steps, self.gain = config.plateau_steps, config.plateau_gain
        self.rewards: deque[float] = deque(maxlen=self.steps)
        self.best: float | None = None
        self.since = 0

    @classmethod
    def load(cls, state: dict[str, Any], config: CurriculumConfig) -> "Plateau":
        """Resumes from a `state`, under settings that may have changed."""
        plateau = cls(config)
        plateau.rewards.extend(state["rewards"])
        plateau.best, plateau.since = state["best"], state["since"]
        return plateau

    def feed(self, reward: float) -> None:
        """Takes in the mean reward of one optimizer step; one that is not finite (no reward was given) counts not."""
        if not self.steps or not math.isfinite(reward):
            return
        self.rewards.append(reward)
        if len(self.rewards) < self.steps:
            return
        # A mean over as many steps as the patience: single GRPO steps are too noisy to compare.
        mean = math.fsum(self.rewards) / self.steps
        if self.best is None or mean > self.best + self.gain:
            self.best, self.since = mean, 0
        else:
            self.since += 1

    @property
    def reached(self) -> bool:
        return 0 < self.steps <= self.since

    def state(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {"rewards": list(self.rewards), "best": self.best, "since": self.since}


def check(config: CurriculumConfig) -> None:
    """Raises ConfigError for a setting that cannot be."""
    for key, value, allowed in (
        ("select", config.select, tuple(SELECTIONS)),
        ("zero_variance", config.zero_variance, ZERO_VARIANCE),
    ):
        if value not in allowed:
            raise ConfigError(f"curriculum.{key} = {value!r}: must be one of {', '.join(allowed)}")
    if not 0 <= config.min_iou < config.max_iou <= 1:
        raise ConfigError(
            f"curriculum.min_iou = {config.min_iou}, curriculum.max_iou = {config.max_iou}: "
            "must be 0 <= min_iou < max_iou <= 1"
        )
    for key, value, possible, must in (
        ("mean", config.mean, 0 <= config.mean <= 1, "between 0 and 1"),
        ("std", config.std, 0 < config.std < math.inf, "positive"),
        ("power", config.power, 0 < config.power < math.inf, "positive"),
        ("size", config.size, 0 < config.size <= 1, "above 0 and at most 1"),
        ("resample_rounds", config.resample_rounds, config.resample_rounds >= 1, "at least 1"),
        ("plateau_steps", config.plateau_steps, config.plateau_steps >= 0, "at least 0 (0: never stop)"),
        ("plateau_gain", config.plateau_gain, config.plateau_gain >= 0, "at least 0"),
    ):
        if not possible:
            raise ConfigError(f"curriculum.{key} = {value}: must be {must}")


def _digest(samples: Sequence[Sample]) -> str:
    """SHA-256 of the JSON list of the qids, in hex."""
    # Fed piecewise: a million qids need not stand in memory as one JSON text.
    digest = hashlib.sha256(b"[")
    for at, qid in enumerate(SampleTable.of(samples).qids()):
        digest.update(f"{', ' if at else ''}{json.dumps(qid)}".encode())
    digest.update(b"]")
    return digest.hexdigest()


def _annotated_iou(samples: Sequence[Sample]) -> np.ndarray:
    """(N,) float64: `difficulty` is 100 x IoU already; `pred` is compared with the moments as rewards do; else NaN."""
    table = SampleTable.of(samples)
    iou = (table.numbers("difficulty") / 100).clip(0, 1)
    predicted = np.flatnonzero(np.isnan(iou) & ~np.isnan(table.numbers("pred_start_s")))
    chosen = table.select(predicted)
    predicted_iou = np.empty(len(chosen))
    pairs: list[tuple[int, Span, Span]] = []
    for at, sample in enumerate(chosen):
        assert sample.pred is not None
        # Samples with one moment, nearly all, are computed at once; the loop in Python is slow for a million.
        if len(sample.spans) == 1:
            pairs.append((at, sample.pred, sample.spans[0]))
        else:
            predicted_iou[at] = set_iou([sample.pred], sample.spans)
    if pairs:
        at, preds, spans = zip(*pairs, strict=True)
        predicted_iou[list(at)] = temporal_ious(preds, spans)
    iou[predicted] = predicted_iou
    return iou
