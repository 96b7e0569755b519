"""Grounding by frozen latents: words, ridge regression and spans by hand, and both probes on latents that tell all."""

import numpy as np
import pytest

from vtg.errors import RunError
from vtg.latents.probe.probes import PROBES, ProbeRow
from vtg.latents.probe.query_words import QueryWords, nearest
from vtg.latents.probe.ridge import BilinearRidge
from vtg.latents.probe.span_of_scores import best_span
from vtg.latents.probe.video_latents import Components, VideoLatents

EDGES_S = np.array([0.0, 1.0, 2.0, 3.0, 5.0, 6.0])


def test_a_query_is_its_words_the_most_frequent_first():
    words = QueryWords(["The red circle", "a red CROSS", "the red"])
    assert words.words == ("red", "the", "a", "circle", "cross")
    assert words.features("red? The unheard-of, red").tolist() == [1, 1, 0, 0, 0, 1]
    known = [words.features(query) for query in ("the circle", "a cross", "the circle")]
    assert nearest(words.features("circle"), known) == [0, 2]
    assert nearest(words.features("nothing"), known) == [0, 1, 2]


def test_ridge_by_sums_is_ridge_of_all_products():
    rng = np.random.default_rng(0)
    ridge, products, said = BilinearRidge(3, 4), [], []
    for _ in range(6):
        q, z, y = np.array([*rng.integers(0, 2, 2), 1.0]), rng.normal(size=(5, 4)), rng.normal(size=5)
        ridge.add(q, z, y)
        products += [np.outer(q, row).ravel() for row in z]
        said += y.tolist()
    x = np.array(products)
    expected = np.linalg.solve(x.T @ x / len(x) + 0.1 * np.eye(12), x.T @ np.array(said) / len(x))
    assert ridge.weights(0.1) == pytest.approx(expected.reshape(3, 4))


def test_ridge_of_one_feature_by_hand():
    ridge = BilinearRidge(1, 1)
    ridge.add(np.array([2.0]), np.array([[1.0], [3.0]]), np.array([1.0, 2.0]))
    # Products 2 and 6: (2 * 1 + 6 * 2) / 2 = 7 over (4 + 36) / 2 + 1 = 21.
    assert ridge.weights(1.0).tolist() == [[pytest.approx(7 / 21)]]


@pytest.mark.parametrize(
    ("scores", "span"),
    [
        ([0, 2, 2, 0, 0], (1.0, 3.0)),
        ([2, 0.5, 2, 0, 0], (0.0, 3.0)),  # a dip of less than what follows is bridged
        ([2, -1, 2, 0, 0], (0.0, 1.0)),  # one of as much is not, and of equal spans the first is taken
        ([0, 1.5, 0, 1.5, 0], (3.0, 5.0)),  # it stands for two seconds
        ([0, 0.4, 0, 0, 0], (1.0, 2.0)),  # none is above 1: the highest
        ([2, 2, 2, 2, 2], (0.0, 6.0)),
    ],
)
def test_a_span_is_where_scores_above_the_threshold_outweigh_those_below(scores, span):
    assert best_span(np.array(scores, dtype=float), EDGES_S, threshold=1.0) == span


def test_components_have_a_deviation_of_one_and_constant_directions_are_left_out():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(50, 2)) @ np.array([[3.0, 0.0, 1.0], [0.0, 0.1, 0.0]]) + 5
    found = Components(features, 3).of(features)
    assert found.shape == (50, 3)  # two of three directions, and the 1
    assert found[:, :2].std(axis=0) == pytest.approx([1, 1]) and (found[:, 2] == 1).all()


def test_moments_that_fall_between_latents_are_told():
    latents = VideoLatents(np.array([1.0, 3.0]), np.eye(2), 4.0)
    rows = [ProbeRow("red", ((1.5, 2.5),), "a", latents), ProbeRow("blue", ((0.0, 4.0),), "b", latents)]
    with pytest.raises(RunError, match="no moment of training has latents both in it and beside it"):
        PROBES["nearest_moment"](rows)


def rows_of_events(count: int, *, seed: int) -> list[ProbeRow]:
    """Videos of 20 latents in which a red and a blue event each switch a channel on, apart in time."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        starts, features = rng.permutation([0, 5, 10, 15])[:2], rng.normal(scale=0.1, size=(20, 6))
        spans = {}
        for channel, (color, start) in enumerate(zip(("red", "blue"), starts.tolist(), strict=True)):
            features[start + 1 : start + 4, channel] += 1
            spans[color] = (float(start + 1), float(start + 4))
        latents = VideoLatents(np.arange(20) + 0.5, features, 20.0)
        rows += [ProbeRow(f"the {color} event", (span,), f"{seed}_{number}", latents) for color, span in spans.items()]
    return rows


@pytest.mark.parametrize("probe", list(PROBES))
def test_probes_find_the_events_that_latents_tell_of(probe):
    ground = PROBES[probe](rows_of_events(20, seed=0))
    test = rows_of_events(10, seed=1)
    found = [ground(row) for row in test]
    # Edges of latents lie where the events begin and end.
    assert np.mean([span == row.spans[0] for span, row in zip(found, test, strict=True)]) > 0.9
