"""Rewards of reinforcement learning: what one completion is worth, as plain functions over the parsed answer.

All look at the same parsed answer and the same IoU as the metrics do. An answer whose status is not `ok` overlaps
nothing: it gets the least its reward can give. With several moments, overlap is that of the seconds covered, and
starts, ends and centres are those of the hull (from the first start to the last end); the order in which moments are
written counts for `step_consistency` alone. Every reward is finite for every text.
"""

import difflib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from vtg.annotations.sample import Sample
from vtg.config.foreign_names import OPTIONS
from vtg.config.rl_settings import RewardsConfig
from vtg.config.task_settings import TaskConfig
from vtg.errors import ConfigError
from vtg.tasks.answer import Answer, Status
from vtg.tasks.iou import Span, set_iou, temporal_ious
from vtg.tasks.span_task import SpanTask


@dataclass(frozen=True, slots=True)
class Completion:
    """What the model wrote, the answer that the task's codec read in it, and the true moments (seconds of the clip)."""

    text: str
    answer: Answer
    truth: tuple[Span, ...]
    duration_s: float

    def __post_init__(self) -> None:
        assert self.truth and self.duration_s > 0, self

    @property
    def predicted(self) -> tuple[Span, ...]:
        """The moments of an answer that is `ok`; none otherwise."""
        return self.answer.spans if self.answer.status == Status.OK else ()


def temporal_iou(completion: Completion, *, threshold: float = 0.0, binary: bool = False, scale: float = 1.0) -> float:
    """IoU times `scale`, in [0, scale]; 0 below `threshold`; with `binary`, `scale` for all that reach the threshold.

    No overlap is worth 0 even at threshold 0, so a binary reward at threshold 0 asks for any overlap at all.
    """
    iou = set_iou(completion.predicted, completion.truth)
    if iou == 0 or iou < threshold:
        return 0.0
    return scale * (1.0 if binary else iou)


def segment_overlap(completion: Completion, *, measure: str = "f1") -> float:
    """Seconds that are both predicted and true, in [0, 1].

    `precision`: as a share of the predicted seconds, `recall`: of the true ones, `f1`: their harmonic mean. The whole
    video has recall 1, so recall alone teaches to answer with it.
    """
    predicted, truth = _union(completion.predicted), _union(completion.truth)
    both_s = sum(max(0.0, min(p[1], t[1]) - max(p[0], t[0])) for p in predicted for t in truth)
    if both_s == 0:
        return 0.0
    of_s = {"precision": _seconds(predicted), "recall": _seconds(truth)}
    of_s["f1"] = (of_s["precision"] + of_s["recall"]) / 2
    return min(1.0, both_s / of_s[measure])


def matched_f1(completion: Completion, *, threshold: float = 0.5) -> float:
    """F1 of moments, in [0, 1]: predicted and true ones matched one to one at IoU >= `threshold` (and above 0).

    The matching is an optimal one: no other has more pairs.
    """
    predicted, truth = completion.predicted, completion.truth
    if not predicted:
        return 0.0
    ious = temporal_ious([[moment] for moment in truth], [predicted])
    candidates = [[j for j, iou in enumerate(row) if iou > 0 and iou >= threshold] for row in ious.tolist()]
    return 2 * _most_pairs(candidates) / (len(predicted) + len(truth))


def moment_count(completion: Completion) -> float:
    """1 where as many moments are predicted as are true, else 1 - |difference| / the larger of both; in [0, 1]."""
    predicted, true = len(completion.predicted), len(completion.truth)
    return 1 - abs(predicted - true) / max(predicted, true)


def step_consistency(completion: Completion) -> float:
    """1 for moments that start before they end, lie inside the clip and follow one another without overlap, else 0.

    Where annotated moments overlap each other, the truth itself gets 0: leave this reward out for such data.
    """
    spans = completion.predicted  # `ok` answers are ordered and inside the clip, each of them
    return float(bool(spans) and all(before[1] <= after[0] for before, after in pairwise(spans)))


def answer_format(completion: Completion, *, think: bool = False) -> float:
    """1 for an answer that can be read, else 0.

    With `think` the text must also be `<think>...</think><answer>...</answer>` and nothing else (white space aside),
    each tag once and something in each: the format reward of Time-R1 (arXiv:2503.13377).
    """
    return float(completion.answer.status == Status.OK and (not think or _thinks_then_answers(completion.text)))


def timestamp_aware_iou(completion: Completion) -> float:
    """IoU * (1 - |start error| / duration) * (1 - |end error| / duration), in [0, 1]: Time-R1 (arXiv:2503.13377)."""
    if not completion.predicted:
        return 0.0
    predicted, truth = _hull(completion.predicted), _hull(completion.truth)
    reward = set_iou(completion.predicted, completion.truth)
    for guess_s, true_s in zip(predicted, truth, strict=True):
        reward *= max(0.0, 1 - abs(guess_s - true_s) / completion.duration_s)
    return reward


def giou(completion: Completion) -> float:
    """IoU - gap / hull of both, in (-1, 1]; -1 for an answer that is not `ok`.

    The gap is the time between the hulls of what is predicted and what is true, 0 where these meet: GIoU
    (arXiv:1902.09630) in one dimension.
    """
    if not completion.predicted:
        return -1.0
    predicted, truth = _hull(completion.predicted), _hull(completion.truth)
    gap_s = max(0.0, max(predicted[0], truth[0]) - min(predicted[1], truth[1]))
    return set_iou(completion.predicted, completion.truth) - gap_s / _length_s(_hull([predicted, truth]))


def diou(completion: Completion) -> float:
    """IoU - (distance of the centres / hull of both)^2, in (-1, 1]; -1 for an answer that is not `ok`.

    DIoU (arXiv:1911.08287) in one dimension.
    """
    if not completion.predicted:
        return -1.0
    predicted, truth = _hull(completion.predicted), _hull(completion.truth)
    distance_s = abs(sum(predicted) - sum(truth)) / 2
    return set_iou(completion.predicted, completion.truth) - (distance_s / _length_s(_hull([predicted, truth]))) ** 2


Reward = Callable[..., float]

REWARDS: dict[str, Reward] = {
    "temporal_iou": temporal_iou,
    "segment_overlap": segment_overlap,
    "matched_f1": matched_f1,
    "moment_count": moment_count,
    "step_consistency": step_consistency,
    "format": answer_format,
    "timestamp_aware_iou": timestamp_aware_iou,
    "giou": giou,
    "diou": diou,
}
"""Name in the config → reward. The options of a reward are its keywords, each with its default."""


def _union(spans: Iterable[Span]) -> list[Span]:
    """The same seconds as spans that are sorted and do not meet."""
    union: list[Span] = []
    for start, end in sorted(spans):
        if union and start <= union[-1][1]:
            union[-1] = (union[-1][0], max(union[-1][1], end))
        else:
            union.append((start, end))
    return union


def _length_s(span: Span) -> float:
    return span[1] - span[0]


def _seconds(spans: Iterable[Span]) -> float:
    return sum(map(_length_s, spans))


def _hull(spans: Sequence[Span]) -> Span:
    return min(start for start, _ in spans), max(end for _, end in spans)


def _most_pairs(candidates: Sequence[Sequence[int]]) -> int:
    """How many rows can each be given a candidate of their own (Kuhn's augmenting paths)."""
    owner: dict[int, int] = {}

    def place(row: int, tried: set[int]) -> bool:
        for column in candidates[row]:
            if column not in tried:
                tried.add(column)
                if column not in owner or place(owner[column], tried):
                    owner[column] = row
                    return True
        return False

    return sum(place(row, set()) for row in range(len(candidates)))


_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_WHOLE = re.compile(r"\s*<think>(.*)</think>\s*<answer>(.*)</answer>\s*", re.DOTALL)


def _thinks_then_answers(text: str) -> bool:
    lower = text.lower()
    whole = _WHOLE.fullmatch(text) if all(lower.count(tag) == 1 for tag in _TAGS) else None
    return whole is not None and all(part.strip() for part in whole.groups())


@dataclass(frozen=True, slots=True)
class Term:
    """One reward of the mixture: called with a completion, it gives the reward clipped and not yet weighted."""

    name: str
    label: str
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)
    clip: tuple[float, float] | None = None

    def __call__(self, completion: Completion) -> float:
        reward = REWARDS[self.name](completion, **self.options)
        return reward if self.clip is None else min(max(reward, self.clip[0]), self.clip[1])


def build(config: RewardsConfig) -> list[Term]:
    """The terms of the mixture, in the order of the config, all options filled in.

    Raises:
        ConfigError: no terms, an unknown reward or option (the valid ones are listed), a value that an option cannot
            have, a label given twice, or weights that are all zero.
    """
    if not config.terms:
        raise ConfigError(f"rewards.terms is empty: give at least one reward, such as {EXAMPLE}; there are {_NAMES}")
    terms = [_term(f"rewards.terms[{i}]", given) for i, given in enumerate(config.terms)]
    for i, term in enumerate(terms):
        first = [earlier.label for earlier in terms].index(term.label)
        if first < i:
            raise ConfigError(
                f"rewards.terms[{i}].label = {term.label!r}: rewards.terms[{first}] has the same; give each a label of "
                "its own (it is the reward's name unless set)"
            )
    total = sum(abs(term.weight) for term in terms)
    if total == 0:
        raise ConfigError("rewards.terms: every weight is 0, so nothing would be learned; set one that is not")
    return [replace(term, weight=term.weight / total) for term in terms] if config.normalise_weights else terms


EXAMPLE = "{name: temporal_iou, weight: 1.0}"
_NAMES = ", ".join(REWARDS)
MEASURES = ("precision", "recall", "f1")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_clip(value: Any) -> bool:
    is_pair = isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value))
    return value is None or (is_pair and value[0] < value[1])


CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "weight": (_is_number, "a finite number"),
    "label": (lambda value: isinstance(value, str) and bool(value.strip()), "a name of its own for the logs"),
    "clip": (_is_clip, "[low, high], two finite numbers with low < high"),
    "threshold": (lambda value: _is_number(value) and 0 <= value <= 1, "a number from 0 to 1"),
    "scale": (lambda value: _is_number(value) and value > 0, "a finite number above 0"),
    "binary": (lambda value: isinstance(value, bool), "true or false"),
    "think": (lambda value: isinstance(value, bool), "true or false"),
    "measure": (lambda value: value in MEASURES, f"one of {', '.join(MEASURES)}"),
}
"""Key of a term → what it may hold, and how that is said. An option means the same in every reward that has it."""


def _term(place: str, given: Any) -> Term:
    if not isinstance(given, Mapping):
        raise ConfigError(f"{place} = {given!r}: must be a mapping, such as {EXAMPLE}")
    name = given.get("name")
    if not isinstance(name, str) or name not in REWARDS:
        raise ConfigError(f"{place}.name = {name!r}: {_meant(name, REWARDS)}must be one of {_NAMES}")
    options = {key: parameter.default for key, parameter in inspect.signature(REWARDS[name]).parameters.items()}
    del options["completion"]
    settings = {"label": name, "weight": 1.0, "clip": None} | options
    for key, value in given.items():
        if key == "name":
            continue
        if key not in settings:
            valid = ("name", *settings)
            meant = f"set {OPTIONS[key]}; " if key in OPTIONS else _meant(key, valid)
            raise ConfigError(f"{place}.{key}: {name} has no such key; {meant}valid keys are {', '.join(valid)}")
        allows, allowed = CHECKS[key]
        if not allows(value):
            raise ConfigError(f"{place}.{key} = {value!r}: must be {allowed}")
        settings[key] = value
    clip = settings["clip"]
    return Term(
        name=name,
        label=settings["label"],
        weight=float(settings["weight"]),
        options={key: settings[key] for key in options},
        clip=None if clip is None else (float(clip[0]), float(clip[1])),
    )


def _meant(written: Any, valid: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(written), valid, n=1)
    return f"did you mean {close[0]}? " if close else ""


def warnings_of(terms: Sequence[Term], *, task: TaskConfig | None = None) -> list[str]:
    """What a mixture teaches that nobody wants: one line each, with the cure. `task` says what the prompt asks for."""
    found = []
    wanted = [term for term in terms if term.weight > 0]
    measures = {term.options["measure"] for term in wanted if term.name == "segment_overlap"}
    named = ", ".join(term.label for term in wanted) or "no reward"
    if not any(_locates(term) for term in wanted) and not {"precision", "recall"} <= measures:
        cure = "add temporal_iou (or segment_overlap with measure: f1) to rewards.terms"
        if "precision" in measures:
            found.append(f"rewards ({named}) are won by a very short answer inside the moment; {cure}")
        elif "recall" in measures or any(term.name == "temporal_iou" for term in wanted):
            found.append(f"rewards ({named}) are won by answering with the whole video; {cure}")
        else:
            found.append(f"rewards ({named}) do not look at when the true moment is; {cure}")
    if task is not None and not task.think:
        found += [
            f"reward {term.label} wants <think> and <answer> tags, but the prompt does not ask for them; set "
            "task.think=true, or think: false in rewards.terms"
            for term in wanted
            if term.name == "format" and term.options["think"]
        ]
    return found


def _locates(term: Term) -> bool:
    """Whether only an answer near the true moment, about as long, gets the most of this reward."""
    if term.name == "segment_overlap":
        return term.options["measure"] == "f1"
    if term.name == "temporal_iou":
        return not term.options["binary"] or term.options["threshold"] > 0
    return term.name in ("timestamp_aware_iou", "giou", "diou", "matched_f1")


@dataclass(frozen=True, slots=True)
class RewardFunction:
    """A term in the form that TRL calls, which logs it by `__name__`. Its weight goes to TRL's `reward_weights`."""

    term: Term
    task: SpanTask

    @property
    def __name__(self) -> str:
        return self.term.label

    def __call__(
        self,
        *,
        completions: Sequence[Any],
        sample: Sequence[Sample],
        skipped: Sequence[bool] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """Unweighted rewards, one a completion: a text, or messages in chat form of which the last one counts. None,
        which TRL leaves out, for a sample whose own clip could not be shown.
        """
        hidden = skipped or [False] * len(sample)
        together = zip(completions, sample, hidden, strict=True)
        return [None if is_hidden else self._reward(one, of) for one, of, is_hidden in together]

    def _reward(self, completion: Any, sample: Sample) -> float:
        text = completion if isinstance(completion, str) else completion[-1]["content"]
        answer = self.task.parse(text, duration_s=sample.duration_s)
        return self.term(Completion(text, answer, sample.spans, sample.duration_s))


def reward_functions(terms: Iterable[Term], task: SpanTask) -> list[RewardFunction]:
    """One function a term, for TRL's `reward_funcs`; `reward_weights` is `[term.weight for term in terms]`."""
    return [RewardFunction(term, task) for term in terms]
