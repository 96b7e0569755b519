"""Whatever a model prefers, what it may write of a form is JSON of that form."""

import json
from itertools import pairwise

import numpy as np
import pytest

from vtg.decoding.form_constraint import FormConstraint, Spelling
from vtg.tasks.answer_grammar import BEGIN, State
from vtg.tasks.json_form import JsonForm, spans_form, text_form


def written(form: JsonForm, processor, *, room: int, seed: int) -> str:
    """An answer of tokens drawn from those that are allowed, the whole of `room` at most."""
    constraint, rng = FormConstraint(form, Spelling(processor)), np.random.default_rng(seed)
    state: State | None = BEGIN
    tokens: list[int] = []
    while state is not None:
        assert len(tokens) < room
        allowed = constraint.allowed(form, state, room=room - len(tokens))
        assert len(allowed) and set(allowed) <= set(constraint.columns)
        # Half of the time the first characters of an end, which are few among the tokens of a text.
        few = [one for one in allowed if '"' in constraint.spelling.text_of.get(one, "")] or list(allowed)
        tokens.append(int(rng.choice(few if rng.random() < 0.5 else allowed)))
        state = constraint.after(form, state, tokens[-1])
    return processor.tokenizer.decode(tokens, skip_special_tokens=True)


@pytest.mark.parametrize(("room", "several"), [(130, False), (600, True)])
def test_spans_are_in_their_bounds_one_after_another_and_have_a_text(room: int, several: bool, qwen3_vl):
    counts = set()
    for seed in range(20):
        found = json.loads(written(spans_form(3.04, 12.37, least_s=0.25), qwen3_vl.processor, room=room, seed=seed))
        times = [time for one in found for time in (one["start"], one["end"])]
        assert times == sorted(times) and times[0] >= 3.1 and times[-1] <= 12.3
        assert all(one["end"] - one["start"] > 0.25 and one["text"].strip() for one in found)
        assert all(before["end"] <= after["start"] for before, after in pairwise(found))
        counts.add(len(found))
    assert min(counts) == 1 and (max(counts) > 1) == several


def test_where_nothing_fits_the_list_is_empty_and_a_text_ends_in_time(qwen3_vl):
    assert written(spans_form(0.0, 0.2, least_s=0.3), qwen3_vl.processor, room=9, seed=0) == "[]"
    for seed in range(5):
        answer = json.loads(written(text_form("plan"), qwen3_vl.processor, room=40, seed=seed))
        assert answer.keys() == {"plan"} and answer["plan"].strip()


def test_a_further_item_that_was_begun_while_there_was_room_goes_on(qwen3_vl):
    """Whatever the room is when its separator is being written; before that, one that has no room cannot begin."""
    form = spans_form(0.0, 600.0, least_s=0.5)
    constraint = FormConstraint(form, Spelling(qwen3_vl.processor))
    last, text_of = len(form.pieces) - 1, constraint.spelling.text_of

    def next_of(written: str, room: int) -> set[str]:
        return {text_of[int(one)] for one in constraint.allowed(form, (0, last, written, 10), room=room)}

    enough = next(room for room in range(1, 2000) if "," in {text[0] for text in next_of('"}', room)})
    assert {text[0] for text in next_of('"}', enough - 1)} == {"]"}
    for written in ('"},', '"}, {', '"}, {"start'):
        assert next_of(written, enough) and next_of(written, enough - 1) == next_of(written, enough)
