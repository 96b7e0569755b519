"""What the grammar of an answer lets through can be read, and what a codec writes is let through."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtg.config.task_settings import TaskConfig
from vtg.errors import ConfigError
from vtg.tasks.answer import Status
from vtg.tasks.answer_grammar import BEGIN
from vtg.tasks.span_task import SpanTask

TASKS = [
    SpanTask(TaskConfig(moments=moments, **form))
    for moments in ("one", "set")
    for form in (
        {"answer": "seconds"},
        {"answer": "seconds", "decimals": 0},
        {"answer": "seconds", "decimals": 3},
        {"answer": "relative"},
        {"answer": "bins", "num_bins": 2},
        {"answer": "bins", "num_bins": 105},
        {"answer": "tokens", "num_bins": 105},
    )
]
tasks = pytest.mark.parametrize(
    "task", TASKS, ids=lambda task: " ".join(map(str, (task.config.moments, task.config.answer, task.config.decimals)))
)
durations = st.floats(0.04, 5000.0)


def symbols(task):
    tokens = [f"<{at}>" for at in range(-1, task.config.num_bins + 1)] if task.config.answer == "tokens" else []
    return [*sorted(task.grammar(duration_s=1.0).alphabet), *tokens]


def written(task, text):
    """The text as symbols."""
    return re.findall(r"<\d+>|.", text) if task.config.answer == "tokens" else list(text)


@tasks
@settings(max_examples=15)
@given(data=st.data(), duration_s=durations)
def test_whatever_it_lets_through_is_an_answer_in_the_clip(task, data, duration_s):
    grammar, state, text = task.grammar(duration_s=duration_s), BEGIN, ""
    for _ in range(200):
        choices = {one: after for one in symbols(task) if (after := grammar.step(state, one, more=len(text) < 40))}
        if grammar.may_end(state) and (not choices or data.draw(st.booleans())):
            break
        assert choices, f"nothing may follow {text!r}"
        chosen = data.draw(st.sampled_from(sorted(choices)))
        text, state = text + chosen, choices[chosen]
    answer = task.parse(text, duration_s=duration_s)
    assert answer.status in (Status.OK, Status.NONE), text
    assert (answer.status == Status.NONE) <= task.takes_sets
    assert all(0 <= start < end <= duration_s for start, end in answer.spans)


@tasks
@settings(max_examples=15)
@given(duration_s=durations, ends=st.lists(st.tuples(st.floats(0, 0.9), st.floats(0.01, 1.0)), min_size=1, max_size=3))
def test_what_a_codec_writes_is_let_through(task, duration_s, ends):
    spans = [(start * duration_s, min(1.0, start + width) * duration_s) for start, width in ends]
    grammar = task.grammar(duration_s=duration_s)
    texts = [task.encode(spans, duration_s=duration_s)] + ([task.encode([], duration_s=1.0)] if task.takes_sets else [])
    for text in texts:
        state, parts = BEGIN, written(task, text)
        assert "".join(parts) == text and len(parts) <= len(ends) * (grammar.longest + 2)
        for at, symbol in enumerate(parts):
            assert not grammar.may_end(state) or at
            state = grammar.step(state, symbol)
            assert state is not None, (text, at)
        assert grammar.may_end(state)


@tasks
def test_an_answer_is_not_empty_and_says_that_there_is_none_only_where_it_may(task):
    grammar = task.grammar(duration_s=10.0)
    assert not grammar.may_end(BEGIN)
    assert (grammar.step(BEGIN, "n") is not None) == task.takes_sets


def test_room_that_no_answer_is_sure_to_fit_into_is_refused():
    task = SpanTask(TaskConfig(constrained=True))
    task.check_room(27, key="max_new_tokens")
    with pytest.raises(ConfigError) as caught:
        task.check_room(26, key="max_new_tokens")
    assert str(caught.value) == (
        "max_new_tokens = 26: with task.constrained an answer needs room for up to 27 tokens; set max_new_tokens=27 or "
        "more, or task.constrained=false"
    )
    SpanTask(TaskConfig()).check_room(1, key="max_new_tokens")
