import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtg.tasks.answer_forms import CODECS
from vtg.tasks.prompts import TAGGED_ANSWER, THINK_REQUEST, check_template, choose, fill, normalise_query

FILLED = {"query": "a man runs", "duration": "30.5", "num_bins": "100", "last_bin": "99"}


def test_every_answer_form_has_at_least_five_different_templates_that_can_be_filled():
    for pool in (codec.templates for codec in CODECS.values()):
        assert len(set(pool)) == len(pool) >= 5
        assert all("a man runs" in fill(check_template(template), FILLED) for template in pool)


def test_the_request_to_think_names_all_tags_and_can_follow_any_template():
    for tag in ("<think>", "</think>", "<answer>", "</answer>"):
        assert THINK_REQUEST.count(tag) == 1
    assert fill("{{x}} {query}" + THINK_REQUEST, FILLED) == "{x} a man runs" + THINK_REQUEST
    assert TAGGED_ANSWER.format("<1><2>") == "<answer><1><2></answer>"


@given(st.text())
def test_a_query_is_put_in_as_it_is_whatever_it_holds(query):
    assert fill("{{x}} {query}!", {**FILLED, "query": query}) == f"{{x}} {query}!"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("When does it happen?", r"has no \{query\}"),
        ("{query} {sentence}", r"unknown field \{sentence\}"),
        ("{query.__class__}", r"unknown field \{query.__class__\}"),
        ("{query!r}", r"unknown field \{query!r\}"),
        ("{query:>10}", r"unknown field \{query:>10\}"),
        ("{query} {}", r"unknown field \{\}"),
        ("{query", "expected '}'"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused_with_the_allowed_fields(template, said):
    with pytest.raises(ValueError, match=rf"task.template = .*{said}.*allowed fields are \{{query\}}, \{{duration\}}"):
        check_template(template)


@pytest.mark.parametrize(
    ("query", "normal"),
    [
        ("  A man\n runs. ", "A man runs"),
        ("he says {hi}...", "he says {hi}"),
        ("look <|video_pad|> here", "look < |video_pad|> here"),
        ("a dog's $5 \u72d7", "a dog's $5 \u72d7"),
    ],
)
def test_a_query_is_normalised(query, normal):
    assert normalise_query(query) == normal


def test_an_empty_query_is_refused():
    with pytest.raises(ValueError, match=r"query ' \. ' is empty"):
        normalise_query(" . ")


def test_fixed_and_first_always_take_the_first_template():
    pool = CODECS["seconds"].templates
    assert {choose(pool, selection="fixed", key=str(i), seed=i) for i in range(50)} == {pool[0]}


def test_seeded_depends_on_the_sample_alone_and_random_on_the_seed_too():
    pool = CODECS["seconds"].templates
    seeded = [choose(pool, selection="seeded", key=f"q{i}", seed=0) for i in range(200)]
    assert seeded == [choose(pool, selection="seeded", key=f"q{i}", seed=1) for i in range(200)]
    assert set(seeded) == set(pool)
    epochs = [[choose(pool, selection="random", key=f"q{i}", seed=seed) for i in range(200)] for seed in (0, 1, 0)]
    assert epochs[0] == epochs[2] != epochs[1]
    assert set(epochs[0]) == set(pool)


def test_the_choice_is_the_same_in_another_process():
    program = (
        "from vtg.tasks.prompts import choose\n"
        "print([choose('abcde', selection=s, key=f'q{i}', seed=3) for s in ('seeded', 'random') for i in range(20)])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": salt, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for salt in ("1", "2")
    }
    assert len(outputs) == 1
