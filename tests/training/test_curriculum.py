"""Which samples RL meets next: what is recorded, what is drawn from it, and when the reward has stopped rising."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from vtg.annotations.sample import Sample
from vtg.annotations.target import Spans
from vtg.config.rl_settings import CurriculumConfig
from vtg.entry import conf_dir
from vtg.errors import ConfigError
from vtg.training.rl.curriculum import Choice, IoURecord, Plateau, check, choose


def sample(number: int, **given) -> Sample:
    return Sample(f"{number}.mp4", 30.0, **({"target": Spans(((2.0, 6.0),)), "query": "q", "qid": str(number)} | given))


def record_of(iou: list[float] | np.ndarray) -> IoURecord:
    """Of as many samples; NaN is unknown."""
    given = np.asarray(iou, np.float64)
    record = IoURecord.start([sample(number) for number in range(len(given))])
    record.iou[:] = given
    return record


ious = st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0, math.nan])), min_size=1, max_size=60)
configs = st.builds(
    CurriculumConfig,
    select=st.sampled_from(["all", "filter", "gaussian", "hard"]),
    min_iou=st.floats(0, 0.5),
    max_iou=st.floats(0.51, 1),
    mean=st.floats(0, 1),
    std=st.floats(0.001, 2),
    level=st.booleans(),
    power=st.floats(0.1, 8),
    size=st.floats(0.01, 1),
)


def test_a_record_starts_from_the_annotations():
    record = IoURecord.start(
        [
            sample(0, difficulty=40.0, pred=(2.0, 6.0)),
            sample(1, pred=(2.0, 4.0)),
            sample(2, pred=(20.0, 24.0)),
            sample(3, target=Spans(((0.0, 2.0), (4.0, 6.0))), pred=(0.0, 6.0)),
            sample(4, difficulty=130.0),
            sample(5),
        ]
    )
    assert record.iou[:5].tolist() == [0.4, 0.5, 0.0, 4 / 6, 1.0]
    assert math.isnan(record.iou[5])
    assert record.met.tolist() == [0] * 6 and record.step.tolist() == [-1] * 6


def test_a_record_holds_the_latest_group_of_each_sample_and_how_many_there_were():
    record = record_of([math.nan] * 4)
    record.update([(0, 0.25), (2, 1.0)], step=3)
    record.update([(2, 0.5), (2, 0.75)], step=4)
    record.update([], step=5)
    assert record.iou[[0, 2]].tolist() == [0.25, 0.75]
    assert record.met.tolist() == [1, 0, 3, 0] and record.step.tolist() == [3, -1, 4, -1]
    assert repr(record) == "IoURecord(samples=4, met=2)"


@settings(max_examples=50, deadline=None)
@given(ious, st.lists(st.tuples(st.integers(0, 59), st.floats(0, 1)), max_size=20))
def test_a_record_comes_back_from_json_as_it_was(iou: list[float], entries: list[tuple[int, float]]):
    samples = [sample(number) for number in range(len(iou))]
    record = record_of(iou)
    record.update([(at % len(iou), value) for at, value in entries], step=7)
    again = IoURecord.load(json.loads(json.dumps(record.state(), allow_nan=False)), samples)
    assert np.array_equal(record.iou, again.iou, equal_nan=True)
    assert np.array_equal(record.met, again.met) and np.array_equal(record.step, again.step)


def test_a_record_is_written_whole_and_refused_for_other_samples(tmp_path: Path):
    samples = [sample(number) for number in range(3)]
    record, path = IoURecord.start(samples), tmp_path / "checkpoint-1" / "iou.json"
    record.update([(1, 0.5)], step=1)
    record.write(path)
    assert [file.name for file in path.parent.iterdir()] == ["iou.json"]
    assert IoURecord.read(path, samples).met.tolist() == [0, 1, 0]
    after = "go on with the annotations, data.* and seed that the run began with, or start anew: resume=never"
    for others, found in ((samples[:2], "3 samples, but the training list has 2"),
                          (samples[::-1], "3 other samples, but the training list has 3")):  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            IoURecord.read(path, others)
        assert str(caught.value) == f"{path}: is of {found} (their qids are compared, in order); {after}"


@settings(max_examples=200, deadline=None)
@given(ious, configs, st.integers(0, 3))
def test_a_pass_has_its_share_of_what_the_selection_keeps_and_no_sample_twice(
    iou, config: CurriculumConfig, epoch: int
):
    record = record_of(iou)
    choice = choose(record, config, epoch=epoch, seed=5)
    known = record.iou[~np.isnan(record.iou)]
    kept = len(iou)
    if config.select == "filter":
        kept -= int(((known <= config.min_iou) | (known > config.max_iou)).sum())
    assert choice.eligible == (kept or len(iou))
    assert len(choice.indices) == max(1, round(config.size * choice.eligible))
    assert len(set(choice.indices.tolist())) == len(choice.indices)
    assert set(choice.indices.tolist()) <= set(range(len(iou)))
    assert np.array_equal(choice.indices, choose(record, config, epoch=epoch, seed=5).indices)


@settings(max_examples=100, deadline=None)
@given(ious)
def test_the_filter_keeps_what_lies_between_and_what_is_unknown(iou: list[float]):
    record = record_of(iou)
    choice = choose(record, CurriculumConfig(select="filter", max_iou=0.7), epoch=0, seed=0)
    wanted = [at for at, value in enumerate(iou) if math.isnan(value) or 0 < value <= 0.7]
    assert sorted(choice.indices.tolist()) == (wanted or list(range(len(iou))))
    assert (choice.note is None) == bool(wanted)


def test_a_filter_that_leaves_nothing_says_so_and_the_run_goes_on():
    choice = choose(record_of([0.9, 0.8, 0.0]), CurriculumConfig(select="filter", max_iou=0.7), epoch=0, seed=0)
    assert sorted(choice.indices.tolist()) == [0, 1, 2]
    assert choice.note == (
        "curriculum.select = 'filter' keeps none of 3 samples (curriculum.min_iou = 0, curriculum.max_iou = 0.7), so "
        "this pass takes them all; widen the limits, or end the run"
    )


def test_passes_and_seeds_differ():
    record = record_of(np.linspace(0, 1, 200))
    for select in ("all", "filter", "gaussian", "hard"):
        config = CurriculumConfig(select=select, size=0.5)
        first = choose(record, config, epoch=0, seed=0).indices
        for other in ({"epoch": 1, "seed": 0}, {"epoch": 0, "seed": 1}):
            drawn = choose(record, config, **other).indices
            assert set(first.tolist()) != set(drawn.tolist())
        assert abs(np.corrcoef(first, np.arange(len(first)))[0, 1]) < 0.3  # in a random order


@pytest.mark.parametrize("mean", [0.3, 0.5, 0.8])
def test_gaussian_draws_follow_the_gaussian_though_most_samples_are_hard(mean: float):
    iou = np.random.default_rng(0).beta(0.6, 2.5, 40_000)  # more than half below 0.15
    config = CurriculumConfig(select="gaussian", mean=mean, std=0.1, size=0.02)
    difficulty = 1 - iou[choose(record_of(iou), config, epoch=0, seed=0).indices]
    assert difficulty.mean() == pytest.approx(mean, abs=0.03)
    assert difficulty.std() == pytest.approx(0.1, abs=0.03)


def test_without_levelling_a_gaussian_draws_more_where_there_are_more():
    record = record_of([0.3] * 900 + [0.5] * 100)  # at the mean, and one std from it
    config = CurriculumConfig(select="gaussian", mean=0.7, std=0.2, level=False, size=0.001)
    drawn = [choose(record, config, epoch=epoch, seed=0).indices for epoch in range(2000)]
    far = np.mean([indices[0] >= 900 for indices in drawn])
    assert far == pytest.approx(100 * math.exp(-0.5) / (900 + 100 * math.exp(-0.5)), abs=0.02)  # 0.063


def test_hard_draws_by_the_square_of_what_is_missing_to_a_right_answer():
    config = CurriculumConfig(select="hard", size=0.25)  # one of four
    record = record_of([0.0, 0.5, 1.0, math.nan])
    drawn = [choose(record, config, epoch=epoch, seed=0).indices for epoch in range(4000)]
    shares = np.bincount(np.concatenate(drawn), minlength=4) / 4000
    assert shares == pytest.approx([1 / 2.25, 0.25 / 2.25, 0.0, 1 / 2.25], abs=0.02)


def test_hard_still_draws_where_every_sample_is_solved():
    assert len(choose(record_of([1.0] * 8), CurriculumConfig(select="hard", size=0.5), epoch=0, seed=0).indices) == 4


def test_of_unknown_samples_gaussian_draws_as_many_as_of_any_and_more_than_of_the_far_ones():
    config = CurriculumConfig(select="gaussian", mean=0.5, std=0.1, size=0.1)
    unknown = choose(record_of([math.nan] * 1000), config, epoch=0, seed=0)
    assert len(unknown.indices) == 100 and np.ptp(unknown.indices) > 900
    mixed = choose(record_of([math.nan] * 500 + [0.99] * 500), config, epoch=0, seed=0)
    assert (mixed.indices < 500).all()
    near = choose(record_of([math.nan] * 500 + [0.5] * 500), config, epoch=0, seed=0)
    assert 25 <= (near.indices < 500).sum() <= 75


def test_a_very_narrow_gaussian_still_fills_its_share():
    config = CurriculumConfig(select="gaussian", mean=0.0, std=1e-6, size=0.5)
    assert len(choose(record_of(np.linspace(0, 0.9, 100)), config, epoch=0, seed=0).indices) == 50


@pytest.mark.parametrize("select", ["gaussian", "hard"])
def test_a_draw_without_a_choice_is_noted(select: str):
    choice = choose(record_of([0.1, 0.2]), CurriculumConfig(select=select), epoch=0, seed=0)
    assert choice.note == (
        f"curriculum.select = '{select}' has no choice where curriculum.size = 1 takes every sample; set it below"
    )
    assert repr(Choice(choice.indices, 2)) == "Choice(samples=2, eligible=2, note=None)"


def steps_until(plateau: Plateau, rewards: list[float]) -> int | None:
    for step, reward in enumerate(rewards, 1):
        plateau.feed(reward)
        if plateau.reached:
            return step
    return None


def test_a_constant_reward_is_a_plateau_after_twice_the_steps():
    assert steps_until(Plateau(CurriculumConfig(plateau_steps=7)), [0.1] * 100) == 14


def test_a_rising_reward_is_none_and_its_end_is_seen():
    config = CurriculumConfig(plateau_steps=5, plateau_gain=0.025)
    rising = [step / 100 for step in range(60)]
    assert steps_until(Plateau(config), rising) is None
    assert steps_until(Plateau(config), [reward / 10 for reward in rising]) == 10  # 0.005 in five steps
    assert steps_until(Plateau(config), [*rising, *[0.59] * 40]) == 68
    noise = np.random.default_rng(0).normal(0, 0.01, 60)
    assert steps_until(Plateau(config), (np.array(rising) + noise).tolist()) is None


def test_without_plateau_steps_nothing_is_ever_reached():
    assert steps_until(Plateau(CurriculumConfig()), [0.5] * 50) is None


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.1, 0.2, math.nan]), max_size=40), st.integers(1, 6), st.integers(0, 40))
def test_a_plateau_goes_on_from_its_state_where_it_was(rewards: list[float], steps: int, cut: int):
    config = CurriculumConfig(plateau_steps=steps)
    whole, begun = Plateau(config), Plateau(config)
    whole_at = steps_until(whole, rewards)
    begun_at = steps_until(begun, rewards[:cut])
    if begun_at is None:
        again = Plateau.load(json.loads(json.dumps(begun.state(), allow_nan=False)), config)
        begun_at = steps_until(again, rewards[cut:])
        begun_at = None if begun_at is None else begun_at + len(rewards[:cut])
    assert begun_at == whole_at
    assert whole_at is None or whole_at >= 2 * steps


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"select": "easy"}, "curriculum.select = 'easy': must be one of all, filter, gaussian, hard"),
        ({"zero_variance": "no"}, "curriculum.zero_variance = 'no': must be one of keep, drop, resample"),
        (
            {"min_iou": 0.7, "max_iou": 0.7},
            "curriculum.min_iou = 0.7, curriculum.max_iou = 0.7: must be 0 <= min_iou < max_iou <= 1",
        ),
        ({"mean": 1.5}, "curriculum.mean = 1.5: must be between 0 and 1"),
        ({"std": 0.0}, "curriculum.std = 0.0: must be positive"),
        ({"std": math.nan}, "curriculum.std = nan: must be positive"),
        ({"power": 0.0}, "curriculum.power = 0.0: must be positive"),
        ({"power": math.inf}, "curriculum.power = inf: must be positive"),
        ({"size": 0.0}, "curriculum.size = 0.0: must be above 0 and at most 1"),
        ({"size": 1.5}, "curriculum.size = 1.5: must be above 0 and at most 1"),
        ({"resample_rounds": 0}, "curriculum.resample_rounds = 0: must be at least 1"),
        ({"plateau_steps": -1}, "curriculum.plateau_steps = -1: must be at least 0 (0: never stop)"),
        ({"plateau_gain": -0.1}, "curriculum.plateau_gain = -0.1: must be at least 0"),
    ],
)
def test_a_setting_that_cannot_be_is_named(change: dict, text: str):
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        check(CurriculumConfig(**change))


@pytest.mark.parametrize("name", ["none", "time_r1", "time_r1_draw", "timelens", "timelens2", "dapo"])
def test_every_shipped_curriculum_is_possible(name: str):
    folder = conf_dir() / "curriculum"
    merged = OmegaConf.merge(OmegaConf.load(folder / "none.yaml"), OmegaConf.load(folder / f"{name}.yaml"))
    merged.pop("defaults", None)
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(CurriculumConfig), merged))
    assert isinstance(config, CurriculumConfig)
    check(config)
    if name == "none":
        assert config == CurriculumConfig()
