import itertools
import math
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import assume, given
from hypothesis import strategies as st

from vtg.annotations.sample import Sample
from vtg.annotations.target import Span, Spans
from vtg.config.load import load_config
from vtg.config.rl_settings import RewardsConfig
from vtg.config.task_settings import TaskConfig
from vtg.entry import conf_dir
from vtg.errors import ConfigError
from vtg.tasks.answer import NO_MOMENT, Answer, Status
from vtg.tasks.iou import temporal_iou
from vtg.tasks.span_task import SpanTask
from vtg.training.rl.rewards import REWARDS, Completion
from vtg.training.rl.rewards.mixture import CHECKS, reward_terms
from vtg.training.rl.rewards.mixture_warnings import warnings_of
from vtg.training.rl.rewards.trl_functions import reward_functions

DURATION_S = 100.0
TRUTH = ((40.0, 50.0),)

VARIANTS = {
    "temporal_iou": ("temporal_iou", {}, 0.0, 1.0),
    "iou_from_0.5": ("temporal_iou", {"threshold": 0.5}, 0.0, 1.0),
    "iou_scaled": ("temporal_iou", {"scale": 3.0}, 0.0, 3.0),
    "iou_binary": ("temporal_iou", {"threshold": 0.5, "binary": True}, 0.0, 1.0),
    "f1": ("segment_overlap", {"measure": "f1"}, 0.0, 1.0),
    "precision": ("segment_overlap", {"measure": "precision"}, 0.0, 1.0),
    "recall": ("segment_overlap", {"measure": "recall"}, 0.0, 1.0),
    "matched_f1": ("matched_f1", {}, 0.0, 1.0),
    "matched_f1_any": ("matched_f1", {"threshold": 0.0}, 0.0, 1.0),
    "moment_count": ("moment_count", {}, 0.0, 1.0),
    "step_consistency": ("step_consistency", {}, 0.0, 1.0),
    "format": ("format", {}, 0.0, 1.0),
    "format_think": ("format", {"think": True}, 0.0, 1.0),
    "timestamp_aware_iou": ("timestamp_aware_iou", {}, 0.0, 1.0),
    "giou": ("giou", {}, -1.0, 1.0),
    "diou": ("diou", {}, -1.0, 1.0),
    "wasserstein": ("wasserstein", {}, 0.0, 1.0),
    "wasserstein_3": ("wasserstein", {"beta": 3.0}, 0.0, 1.0),
    "soft_iou": ("soft_iou", {}, -1.0, 1.0),
    "ordered_giou": ("ordered_giou", {}, 0.0, 1.0),
    "parse_penalty": ("parse_penalty", {}, -1.0, 0.0),
}
"""Label → (reward, options, least, most)."""

DENSE = ("giou", "diou", "wasserstein", "soft_iou", "ordered_giou")
"""Every step towards the truth is worth more, also where nothing overlaps yet."""

GRADED = ("temporal_iou", "f1", "timestamp_aware_iou", *DENSE)
"""Every step towards the truth is worth more."""


def read(text: str, *, truth: tuple[Span, ...] = TRUTH, duration_s: float = DURATION_S, **task: object) -> Completion:
    answer = SpanTask(TaskConfig(**task)).parse(text, duration_s=duration_s)  # type: ignore[arg-type]
    return Completion(text, answer, truth, duration_s)


def answered(*spans: Span, truth: tuple[Span, ...] = TRUTH) -> Completion:
    return Completion("", Answer(spans, Status.OK, ""), truth, DURATION_S)


def reward(label: str, completion: Completion) -> float:
    name, options, _, _ = VARIANTS[label]
    return REWARDS[name](completion, **options)


def terms_of(*terms: object, normalise_weights: bool = False):
    return reward_terms(RewardsConfig(terms=list(terms), normalise_weights=normalise_weights))  # type: ignore[arg-type]


@st.composite
def moments(draw, count: int = 5) -> tuple[Span, ...]:
    """One to `count` spans of the clip, in any order; they may overlap."""
    edge = st.integers(0, 200).map(lambda step: step / 2)
    pairs = draw(st.lists(st.tuples(edge, edge).filter(lambda p: p[0] != p[1]), min_size=1, max_size=count))
    return tuple((min(pair), max(pair)) for pair in pairs)


@st.composite
def separate_moments(draw) -> tuple[Span, ...]:
    """One to four spans of the clip, sorted, with time between them."""
    edges = sorted(draw(st.sets(st.integers(0, 200), min_size=2, max_size=8)))
    return tuple((a / 2, b / 2) for a, b in zip(edges[::2], edges[1::2], strict=False))


ADVERSARIAL = {
    "reversed": ("50.0 to 40.0 seconds", "reversed"),
    "whole video": ("0.0 to 100.0 seconds", "ok"),
    "number spam": (", ".join(f"{i / 2:.1f} to {i / 2 + 0.5:.1f}" for i in range(200)), "ok"),
    "the same span over and over": (", ".join(["0.0 to 60.0"] * 200), "ok"),
    "more number spam": (", ".join(f"{i % 90} to {i % 90 + 10}" for i in range(600)), "malformed"),
    "nan and inf": ("nan to inf", "malformed"),
    "beyond floats": ("1e999 to 2e999", "malformed"),
    "near the end of floats": ("1e308 to 1.7e308", "out_of_range"),
    "prose with unrelated numbers": ("In 2024 there were 3 people, 2 dogs and a sign that said 45.", "malformed"),
    "empty": ("", "malformed"),
    "minutes without a unit": ("0.67 to 0.83", "ok"),
    "milliseconds": ("40000 to 50000", "out_of_range"),
    "percent": ("40% to 50%", "malformed"),
    "negative": ("-10.0 to 50.0 seconds", "out_of_range"),
    "out of range": ("40.0 to 5000.0 seconds", "out_of_range"),
    "several, one of them true": ("40.0 to 50.0 seconds, 60.0 to 95.0 seconds, 5.0 to 30.0 seconds", "ok"),
    "a grid step inside the truth": ("44.0 to 44.1 seconds", "ok"),
    "thinking that never ends": ("<think>40.0 to 50.0 seconds", "malformed"),
}


@pytest.mark.parametrize("case", ADVERSARIAL)
def test_no_adversarial_answer_beats_an_honest_near_miss(case):
    text, status = ADVERSARIAL[case]
    completion, near_miss = read(text), read("42.0 to 53.0 seconds")
    assert completion.answer.status == status
    for label in (*GRADED, "matched_f1", "iou_from_0.5", "iou_binary", "iou_scaled"):
        assert reward(label, completion) < reward(label, near_miss), label
    for label, (_, _, least, most) in VARIANTS.items():
        assert least <= reward(label, completion) <= most, label
        if status != "ok":
            assert reward(label, completion) == least, label


def test_recall_is_won_by_the_whole_video_and_precision_by_a_grid_step():
    whole, step = (read(ADVERSARIAL[case][0]) for case in ("whole video", "a grid step inside the truth"))
    near_miss = read("42.0 to 53.0 seconds")
    assert reward("recall", whole) == 1.0 > reward("recall", near_miss)
    assert reward("precision", near_miss) < reward("precision", step) == pytest.approx(1.0)


@given(truth=separate_moments(), think=st.booleans(), answer=st.sampled_from(["seconds", "relative", "bins", "tokens"]))
def test_the_truth_gets_the_most_of_every_reward(truth, think, answer):
    task = {"answer": answer, "num_bins": 200, "think": think}
    text = SpanTask(TaskConfig(**task)).encode(truth, duration_s=DURATION_S)
    text = f"<think>{answer}</think>{text}" if think else text
    for label, (_, _, _, most) in VARIANTS.items():
        if think or label != "format_think":
            assert reward(label, read(text, truth=truth, **task)) == pytest.approx(most), label


@given(predicted=moments(), truth=moments())
def test_every_reward_keeps_to_its_bounds(predicted, truth):
    for label, (_, _, least, most) in VARIANTS.items():
        assert least <= reward(label, answered(*predicted, truth=truth)) <= most, label


TIMES = st.text(st.sampled_from("0123456789.,:-<>[]()% esmto\n"), max_size=60)


@given(text=TIMES | st.text(max_size=60), truth=moments(), duration_s=st.sampled_from([1e-3, 100.0, 1e7]))
def test_every_reward_is_finite_whatever_the_text(text, truth, duration_s):
    truth = tuple((start * duration_s / 100, end * duration_s / 100) for start, end in truth)
    completion = read(text, truth=truth, duration_s=duration_s)
    assert all(math.isfinite(reward(label, completion)) for label in VARIANTS)


@given(start=st.integers(30, 50), length=st.integers(1, 20), shifts=st.tuples(st.integers(1, 29), st.integers(1, 29)))
def test_a_larger_shift_to_either_side_is_worth_less(start, length, shifts):
    near, far = sorted(shifts)
    truth = ((float(start), float(start + length)),)

    def shifted(label: str, by: int) -> float:
        return reward(label, answered((truth[0][0] + by, truth[0][1] + by), truth=truth))

    for label in GRADED:
        assert shifted(label, near) == pytest.approx(shifted(label, -near))
        assert shifted(label, near) < shifted(label, 0)
        assert shifted(label, far) <= shifted(label, near)
    if near < far:
        for label in DENSE:
            assert shifted(label, far) < shifted(label, near), label


@given(truth=separate_moments(), data=st.data())
def test_a_blind_answer_is_worth_less_than_the_truth_moved_by_a_tenth(truth, data):
    seconds = sum(end - start for start, end in truth)
    assume(seconds <= DURATION_S / 2 and truth[-1][1] < DURATION_S)
    by = min(min(end - start for start, end in truth) / 10, DURATION_S - truth[-1][1])
    near = answered(*((start + by, end + by) for start, end in truth), truth=truth)
    every = data.draw(st.sampled_from([1, 2, 5, 10, 25]))
    blind = {
        "whole video": [(0.0, DURATION_S)],
        "cut into pieces": [(at, at + every) for at in range(0, 100, every)],
        "every other piece": [(at, at + every / 2) for at in range(0, 100, every)],
    }
    for name, spans in blind.items():
        for label in (*GRADED, "wasserstein_3"):
            assert reward(label, answered(*spans, truth=truth)) < reward(label, near), (name, label)


@given(truth=moments(count=1), cuts=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)))
def test_more_of_the_moment_is_worth_more(truth, cuts):
    (start, end), (less, more) = truth[0], sorted(cuts)
    for label in (*GRADED, "wasserstein_3"):
        short, long = (
            reward(label, answered((start, start + (end - start) * cut), truth=truth)) for cut in (less, more)
        )
        assert short <= long + 1e-12, label


@given(predicted=moments(), truth=moments())
def test_splitting_a_moment_in_two_leaves_the_wasserstein_reward_as_it_is(predicted, truth):
    halves = [half for start, end in predicted for half in ((start, (start + end) / 2), ((start + end) / 2, end))]
    whole, split = (reward("wasserstein", answered(*spans, truth=truth)) for spans in (predicted, halves))
    assert whole == pytest.approx(split)


@given(predicted=moments(count=4), truth=moments(count=4))
def test_no_matching_in_order_of_time_is_worth_more_than_that_of_soft_iou(predicted, truth):
    def signed(a: Span, b: Span) -> float:
        return (min(a[1], b[1]) - max(a[0], b[0])) / (max(a[1], b[1]) - min(a[0], b[0]))

    fewer, more = sorted((sorted(predicted), sorted(truth)), key=len)
    sums = (sum(map(signed, fewer, chosen)) for chosen in itertools.combinations(more, len(fewer)))
    expected = (max(sums) - (len(more) - len(fewer))) / len(more)
    assert reward("soft_iou", answered(*predicted, truth=truth)) == pytest.approx(expected)


@pytest.mark.parametrize("think", [False, True])
def test_where_there_is_no_moment_the_answer_none_gets_the_most_and_any_other_the_least(think):
    def told(answer: str, truth: tuple[Span, ...]) -> Completion:
        text = f"<think>so</think><answer>{answer}</answer>" if think else answer
        return read(text, truth=truth, moments="set", think=think)

    right, false_alarm = told(NO_MOMENT, ()), told("40.0 to 50.0 seconds", ())
    missed, unreadable = told(NO_MOMENT, TRUTH), told("no idea", ())
    both = told(f"{NO_MOMENT}, 40.0 to 50.0 seconds", ())
    for label, (name, _, least, most) in VARIANTS.items():
        if name in ("format", "parse_penalty"):  # which look at the form alone
            readable = most if think or label != "format_think" else least
            assert [reward(label, one) for one in (right, false_alarm, missed)] == [readable] * 3
        else:
            assert reward(label, right) == most, label
            # Moments in order are in order, whatever is true.
            assert reward(label, false_alarm) == (1.0 if label == "step_consistency" else least), label
            assert reward(label, missed) == least, label
        assert reward(label, unreadable) == reward(label, both) == least, label


@given(data=st.data(), predicted=moments(), truth=moments())
def test_the_order_of_the_moments_counts_for_consistency_alone(data, predicted, truth):
    other = answered(*data.draw(st.permutations(predicted)), truth=tuple(data.draw(st.permutations(truth))))
    for label in VARIANTS.keys() - {"step_consistency"}:
        assert reward(label, answered(*predicted, truth=truth)) == pytest.approx(reward(label, other)), label


@given(predicted=moments(), truth=moments(), threshold=st.sampled_from([0.0, 0.2, 0.5, 0.9]))
def test_no_matching_has_more_pairs_than_that_of_matched_f1(predicted, truth, threshold):
    fewer, more = sorted((predicted, truth), key=len)
    most = max(
        sum(0 < temporal_iou(a, b) >= threshold for a, b in zip(fewer, chosen, strict=True))
        for chosen in itertools.permutations(more, len(fewer))
    )
    found = REWARDS["matched_f1"](answered(*predicted, truth=truth), threshold=threshold)
    assert found == pytest.approx(2 * most / (len(predicted) + len(truth)))


@pytest.mark.parametrize(
    ("label", "predicted", "expected"),
    [
        ("temporal_iou", [(42.0, 53.0)], 8 / 13),
        ("temporal_iou", [(45.0, 95.0)], 5 / 55),
        ("iou_from_0.5", [(45.0, 95.0)], 0.0),
        ("iou_from_0.5", [(40.0, 60.0)], 0.5),
        ("iou_binary", [(40.0, 60.0)], 1.0),
        ("iou_scaled", [(40.0, 60.0)], 1.5),
        ("precision", [(45.0, 65.0)], 0.25),
        ("recall", [(45.0, 65.0)], 0.5),
        ("f1", [(45.0, 65.0)], 1 / 3),
        ("precision", [(40.0, 45.0), (42.0, 60.0)], 0.5),
        ("timestamp_aware_iou", [(40.0, 60.0)], 0.5 * 0.9),
        ("timestamp_aware_iou", [(30.0, 70.0)], 0.25 * 0.9 * 0.8),
        ("timestamp_aware_iou", [(40.0, 45.0), (45.0, 50.0)], 1.0),
        ("giou", [(60.0, 70.0)], -10 / 30),
        ("giou", [(50.0, 60.0)], 0.0),
        ("diou", [(60.0, 70.0)], -((20 / 30) ** 2)),
        ("diou", [(30.0, 60.0)], 1 / 3),
        ("matched_f1", [(40.0, 51.0), (60.0, 70.0), (80.0, 81.0)], 0.5),
        ("moment_count", [(40.0, 50.0), (60.0, 70.0)], 0.5),
        # moved by 2 and by 3 s at its ends, by 2.5 s on average; its 10 s are those of the truth
        ("wasserstein", [(42.0, 53.0)], math.exp(-0.25)),
        ("wasserstein_3", [(42.0, 53.0)], math.exp(-0.75)),
        ("wasserstein", [(60.0, 70.0)], math.exp(-2)),
        ("wasserstein", [(44.0, 46.0)], math.exp(-0.2)),  # on average 2 s to each side
        ("wasserstein", [(40.0, 46.0), (44.0, 50.0)], 1.0),  # seconds named twice count once
        ("wasserstein", [(40.0, 50.0), (60.0, 70.0)], math.exp(-1)),  # half of its seconds are 20 s away
        ("soft_iou", [(42.0, 53.0)], 8 / 13),
        ("soft_iou", [(60.0, 70.0)], -10 / 30),
        ("soft_iou", [(40.0, 50.0), (60.0, 70.0)], (1 - 1) / 2),
        ("ordered_giou", [(42.0, 53.0)], (1 + 8 / 13) / 2),
        ("ordered_giou", [(60.0, 70.0)], (1 - 10 / 30) / 2),
        ("ordered_giou", [(40.0, 50.0), (60.0, 70.0)], 0.5),
        ("ordered_giou", [(20.0, 30.0), (40.0, 50.0)], (1 - 10 / 30) / 2 / 2),  # the first goes with the first
        ("parse_penalty", [(0.0, 1.0)], 0.0),
        ("step_consistency", [(40.0, 50.0), (50.0, 70.0)], 1.0),
        ("step_consistency", [(40.0, 50.0), (49.0, 70.0)], 0.0),
        ("step_consistency", [(60.0, 70.0), (40.0, 50.0)], 0.0),
    ],
)
def test_rewards_have_these_very_values(label, predicted, expected):
    assert reward(label, answered(*predicted)) == pytest.approx(expected)


def test_an_optimal_matching_is_found_where_taking_the_best_pair_first_misses_it():
    truth = ((0.0, 10.0), (0.0, 16.0))
    predicted = ((0.0, 11.0), (0.0, 6.0))  # the first fits both, the second only the shorter one
    assert REWARDS["matched_f1"](answered(*predicted, truth=truth), threshold=0.6) == 1.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>it opens late</think><answer>40.0 to 50.0 seconds</answer>", 1.0),
        (" <think>a\nb</think>\n\n<answer> 40.0 to 50.0 seconds </answer>\n", 1.0),
        ("<answer>40.0 to 50.0 seconds</answer>", 0.0),
        ("40.0 to 50.0 seconds", 0.0),
        ("<think> </think><answer>40.0 to 50.0 seconds</answer>", 0.0),
        ("<think>a</think><answer></answer>", 0.0),
        ("<think>a</think><answer>no idea</answer>", 0.0),
        ("<think>a</think>so<answer>40.0 to 50.0 seconds</answer>", 0.0),
        ("well <think>a</think><answer>40.0 to 50.0 seconds</answer>", 0.0),
        ("<think>a</think><answer>40.0 to 50.0 seconds</answer>.", 0.0),
        ("<think>a<think>b</think><answer>40.0 to 50.0 seconds</answer>", 0.0),
        ("<think>a</think><answer>1 to 2</answer><answer>40.0 to 50.0 seconds</answer>", 0.0),
        ("<think>a <ANSWER></think><answer>40.0 to 50.0 seconds</answer>", 0.0),
        ("<answer>40.0 to 50.0 seconds</answer><think>a</think>", 0.0),
        ("<think>a<answer>40.0 to 50.0 seconds</answer></think>", 0.0),
    ],
)
def test_the_format_with_thinking_is_one_thought_and_one_answer(text, expected):
    assert reward("format_think", read(text)) == expected


def test_the_format_alone_asks_only_that_the_answer_can_be_read():
    assert reward("format", read("It is from 40.0 to 50.0 seconds.")) == 1.0
    assert reward("format", read("It is late.")) == 0.0


@given(predicted=moments(), low=st.floats(-2, 2), width=st.floats(0.01, 2))
def test_a_clip_is_kept_to(predicted, low, width):
    clip = [low, low + width]
    for name, options in [(name, options) for name, options, _, _ in VARIANTS.values()]:
        (term,) = terms_of({"name": name, "clip": clip, **options})
        (plain,) = terms_of({"name": name, **options})
        completion = answered(*predicted)
        assert term(completion) == min(max(plain(completion), clip[0]), clip[1])


def test_terms_keep_the_order_of_the_config_and_fill_in_what_it_leaves_out():
    first, second = terms_of(
        {"name": "segment_overlap", "weight": 2, "measure": "recall", "label": "recall", "clip": [0, 0.5]},
        {"name": "temporal_iou"},
    )
    assert (first.name, first.label, first.weight, first.clip) == ("segment_overlap", "recall", 2.0, (0.0, 0.5))
    assert first(answered((0.0, 100.0))) == 0.5
    assert (second.label, second.weight, second.clip) == ("temporal_iou", 1.0, None)
    assert second.options == {"threshold": 0.0, "binary": False, "scale": 1.0}


def test_normalised_weights_sum_to_one_without_their_signs():
    terms = [{"name": "giou", "weight": 3}, {"name": "format", "weight": -1}, {"name": "diou", "weight": 0}]
    assert [term.weight for term in terms_of(*terms, normalise_weights=True)] == [0.75, -0.25, 0.0]
    assert [term.weight for term in terms_of(*terms)] == [3.0, -1.0, 0.0]


def test_every_option_of_every_reward_is_checked_and_its_default_is_possible():
    for name in REWARDS:
        (term,) = terms_of({"name": name})
        assert all(CHECKS[option][0](default) for option, default in term.options.items())


IOU = {"name": "temporal_iou"}


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ([], "rewards.terms is empty: give at least one reward, such as {name: temporal_iou, weight: 1.0}; there are "),
        (["giou"], "rewards.terms[0] = 'giou': must be a mapping, such as {name: temporal_iou, weight: 1.0}"),
        ([{"weight": 1}], "rewards.terms[0].name = None: must be one of temporal_iou, segment_overlap, "),
        ([{"name": ["x"]}], "rewards.terms[0].name = ['x']: must be one of "),
        ([IOU, {"name": "g_iou"}], "rewards.terms[1].name = 'g_iou': did you mean giou? must be one of temporal_iou, "),
        (
            [{"name": "matched_f1", "treshold": 0.5}],
            "rewards.terms[0].treshold: matched_f1 has no such key; did you mean threshold? valid keys are "
            "name, label, weight, clip, threshold",
        ),
        (
            [{"name": "iou_v2"}],
            "rewards.terms[0].name = 'iou_v2': that is timestamp_aware_iou here; must be one of temporal_iou, ",
        ),
        (
            [{"name": "wasserstein", "beta": 0}],
            "rewards.terms[0].beta = 0: must be a finite number above 0",
        ),
        ([{"name": "giou", "scale": 2}], "giou has no such key; valid keys are name, label, weight, clip"),
        (
            [IOU, {"name": "giou"}, {"name": "matched_f1", "threshold": "x"}],
            "rewards.terms[2].threshold = 'x': must be a number from 0 to 1",
        ),
        ([IOU | {"threshold": True}], "rewards.terms[0].threshold = True: must be a number from 0 to 1"),
        ([IOU | {"threshold": math.nan}], "rewards.terms[0].threshold = nan: must be a number from 0 to 1"),
        ([IOU | {"threshold": 50}], "rewards.terms[0].threshold = 50: must be a number from 0 to 1"),
        ([IOU | {"scale": 0}], "rewards.terms[0].scale = 0: must be a finite number above 0"),
        ([IOU | {"binary": 1}], "rewards.terms[0].binary = 1: must be true or false"),
        ([{"name": "format", "think": "yes"}], "rewards.terms[0].think = 'yes': must be true or false"),
        (
            [{"name": "segment_overlap", "measure": "iou"}],
            "rewards.terms[0].measure = 'iou': must be one of precision, recall, f1",
        ),
        ([IOU | {"weight": math.inf}], "rewards.terms[0].weight = inf: must be a finite number"),
        ([IOU | {"weight": 10**400}], "must be a finite number"),
        ([IOU | {"weight": None}], "rewards.terms[0].weight = None: must be a finite number"),
        ([IOU | {"weight": True}], "rewards.terms[0].weight = True: must be a finite number"),
        ([IOU | {"weight": 0}], "rewards.terms: every weight is 0, so nothing would be learned; set one that is not"),
        ([IOU | {"clip": [1, 0]}], "rewards.terms[0].clip = [1, 0]: must be [low, high], two finite numbers with low"),
        ([IOU | {"clip": 1}], "rewards.terms[0].clip = 1: must be [low, high]"),
        ([IOU | {"clip": [0, math.inf]}], "rewards.terms[0].clip = [0, inf]: must be [low, high]"),
        ([IOU | {"label": ""}], "rewards.terms[0].label = '': must be a name of its own for the logs"),
        (
            [IOU, IOU | {"threshold": 0.5}],
            "rewards.terms[1].label = 'temporal_iou': rewards.terms[0] has the same; give each a label of its own",
        ),
    ],
)
def test_terms_that_cannot_be_are_named_with_what_is_allowed(terms, said):
    with pytest.raises(ConfigError) as caught:
        reward_terms(RewardsConfig(terms=terms))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


RECALL = {"name": "segment_overlap", "measure": "recall", "label": "recall"}
PRECISION = {"name": "segment_overlap", "measure": "precision", "label": "precision"}
LENIENT = [{"name": "format"}, {"name": "step_consistency"}, {"name": "moment_count"}]
CURE = "add temporal_iou (or segment_overlap with measure: f1) to rewards.terms"


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ([RECALL], f"rewards (recall) are won by answering with the whole video; {CURE}"),
        (
            [RECALL, {"name": "format"}, IOU | {"weight": 0}],
            f"rewards (recall, format) are won by answering with the whole video; {CURE}",
        ),
        ([IOU | {"binary": True}], f"rewards (temporal_iou) are won by answering with the whole video; {CURE}"),
        ([PRECISION], f"rewards (precision) are won by a very short answer inside the moment; {CURE}"),
        (
            LENIENT,
            f"rewards (format, step_consistency, moment_count) do not look at when the true moment is; {CURE}",
        ),
        ([IOU | {"weight": -1}], f"rewards (no reward) do not look at when the true moment is; {CURE}"),
    ],
)
def test_a_mixture_that_teaches_something_else_is_warned_about(terms, said):
    assert warnings_of(terms_of(*terms)) == [said]


@pytest.mark.parametrize(
    "name",
    ["temporal_iou", "timestamp_aware_iou", "giou", "diou", "matched_f1", "wasserstein", "soft_iou", "ordered_giou"],
)
def test_recall_beside_a_reward_that_locates_is_not_warned_about(name):
    assert warnings_of(terms_of(RECALL, *LENIENT, {"name": name})) == []


def test_recall_beside_precision_or_f1_is_not_warned_about():
    assert warnings_of(terms_of(RECALL, PRECISION)) == []
    assert warnings_of(terms_of(RECALL, {"name": "segment_overlap"})) == []
    assert warnings_of(terms_of(IOU | {"binary": True, "threshold": 0.3})) == []


def test_tags_that_the_prompt_does_not_ask_for_are_warned_about():
    terms = terms_of(IOU, {"name": "format", "think": True})
    assert warnings_of(terms) == warnings_of(terms, task=TaskConfig(think=True)) == []
    assert warnings_of(terms, task=TaskConfig()) == [
        "reward format wants <think> and <answer> tags, but the prompt does not ask for them; set task.think=true, or "
        "think: false in rewards.terms"
    ]


def trl_call(functions, texts: list[str], samples: list[Sample], *, chat: bool) -> list[list[float]]:
    """As TRL's GRPOTrainer calls them."""
    completions = [[{"role": "assistant", "content": text}] for text in texts] if chat else texts
    columns = {"completion_ids": [[1]] * len(texts), "trainer_state": None, "log_extra": None, "log_metric": None}
    return [f(prompts=["p"] * len(texts), completions=completions, sample=samples, **columns) for f in functions]


@pytest.mark.parametrize("chat", [True, False])
def test_the_functions_for_trl_give_one_unweighted_reward_a_completion(chat):
    terms = terms_of(
        {"name": "temporal_iou", "weight": 5.0, "clip": [0, 0.75]},
        {"name": "segment_overlap", "weight": 0.5, "measure": "recall", "label": "recall"},
        {"name": "format"},
    )
    functions = reward_functions(terms, SpanTask(TaskConfig(answer="relative")))
    assert [f.__name__ for f in functions] == ["temporal_iou", "recall", "format"]
    samples = [Sample("a.mp4", duration_s, Spans(((10.0, 20.0),)), "x", "q") for duration_s in (100.0, 50.0, 50.0)]
    rewards = trl_call(functions, ["0.100 to 0.300", "0.200 to 0.400", "no idea"], samples, chat=chat)
    assert rewards == [[0.5, 0.75, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]
    again = pickle.loads(pickle.dumps(functions))
    assert trl_call(again, ["0.100 to 0.300"], samples[:1], chat=chat) == [[0.5], [1.0], [1.0]]


CONF = conf_dir()
SHIPPED = sorted(path.stem for path in (CONF / "rewards").glob("*.yaml"))


@pytest.mark.parametrize("choice", SHIPPED)
def test_every_shipped_mixture_builds_and_teaches_what_it_should(choice):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = load_config(compose(f"rewards/{choice}").rewards, RewardsConfig)
    terms = reward_terms(config)
    task = TaskConfig(think=any(term.options.get("think", False) for term in terms))
    assert warnings_of(terms, task=task) == []
    assert (CONF / "rewards" / f"{choice}.yaml").read_text(encoding="utf-8").startswith("# ")
    text = SpanTask(task).encode(TRUTH, duration_s=DURATION_S)
    best = read(f"<think>a</think>{text}" if task.think else text)
    worse = read("30.0 to 50.0 seconds")
    total, less = (sum(term.weight * term(completion) for term in terms) for completion in (best, worse))
    most = [1.0 if term.name != "parse_penalty" else 0.0 for term in terms]
    assert less < total == pytest.approx(sum(term.weight * best for term, best in zip(terms, most, strict=True)))


def test_rewards_are_computed_without_torch_and_without_hugging_face():
    code = "import sys, vtg.training.rl.rewards.trl_functions, vtg.training.rl.rewards.mixture_warnings\n"
    code += "print(*sorted({'torch', 'transformers', 'trl'} & sys.modules.keys()))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True)
    assert done.stdout == "\n"


def test_an_option_that_no_other_reward_has_takes_values_of_the_type_of_its_default(monkeypatch):
    def brevity(completion: Completion, *, longest: float = 0.5, strict: bool = False, of: str = "clip") -> float:
        return longest * bool(completion.predicted)

    monkeypatch.setitem(REWARDS, "brevity", brevity)
    (term,) = reward_terms(RewardsConfig(terms=[{"name": "brevity", "longest": 0.4, "of": "file", "strict": True}]))
    assert term.options == {"longest": 0.4, "strict": True, "of": "file"}
    for key, value, allowed in (
        ("longest", "0.4", "a finite number"),
        ("strict", 1, "true or false"),
        ("of", 2, "a text"),
    ):
        with pytest.raises(ConfigError, match=rf"rewards.terms\[0\].{key} = {value!r}: must be {allowed}"):
            reward_terms(RewardsConfig(terms=[{"name": "brevity", key: value}]))
