"""Temporal tokens in a tokenizer: added once, in the order of the bins, each standing for a part of the clip."""

import copy
import re

import pytest

from vtg.config.task_settings import TaskConfig
from vtg.errors import ConfigError
from vtg.tasks.span_task import SpanTask
from vtg.tasks.time_vocabulary import TimeVocabulary, add_time_tokens, time_vocabulary

TASK = TaskConfig(answer="tokens", num_bins=20)


@pytest.fixture
def tokenizer(vlm):
    return copy.deepcopy(vlm.processor.tokenizer)


def test_an_answer_is_two_tokens_a_moment_and_is_read_back_from_them(tokenizer):
    known = len(tokenizer)
    assert add_time_tokens(tokenizer, TASK, path="tiny") and len(tokenizer) == known + 20
    times = time_vocabulary(tokenizer, TASK)
    assert times == TimeVocabulary(tuple(range(known, known + 20)))
    task = SpanTask(TASK)
    ids = tokenizer(task.encode([(2.0, 3.5)], duration_s=10.0), add_special_tokens=False)["input_ids"]
    assert ids == [times.ids[4], times.ids[6]]
    text = tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True)
    assert task.parse(text, duration_s=10.0).spans == ((2.0, 3.5),)


def test_a_token_stands_for_the_seconds_that_the_codec_reads_in_it():
    times = TimeVocabulary(tuple(range(20)))
    answer = SpanTask(TASK).parse("<4><6>", duration_s=10.0)
    assert answer.spans == ((times.starts_s(10.0)[4], times.ends_s(10.0)[6]),)
    assert times.starts_s(10.0)[0] == 0 and times.ends_s(10.0)[-1] == 10.0


def test_times_in_a_prompt_are_read_as_before(tokenizer):
    text = "<1.5 seconds> between 3 and <25>"
    before = tokenizer(text)["input_ids"]
    add_time_tokens(tokenizer, TASK, path="tiny")
    assert tokenizer(text)["input_ids"] == before


def test_other_forms_add_nothing_and_tokens_are_added_once(tokenizer):
    seconds, known = TaskConfig(answer="seconds"), len(tokenizer)
    assert not add_time_tokens(tokenizer, seconds, path="tiny") and time_vocabulary(tokenizer, seconds) is None
    assert len(tokenizer) == known
    assert add_time_tokens(tokenizer, TASK, path="tiny") and not add_time_tokens(tokenizer, TASK, path="tiny")
    assert len(tokenizer) == known + 20


def test_another_number_of_tokens_than_a_checkpoint_has_is_refused(tokenizer):
    with pytest.raises(ConfigError, match=re.escape("the tokenizer has no token <0>; load it with task=tokens")):
        time_vocabulary(tokenizer, TASK)
    add_time_tokens(tokenizer, TASK, path="outputs/run")
    for bins in (19, 21):
        with pytest.raises(ConfigError) as caught:
            add_time_tokens(tokenizer, TaskConfig(answer="tokens", num_bins=bins), path="outputs/run")
        assert str(caught.value) == (
            f"task.num_bins = {bins}: outputs/run was trained with 20 temporal tokens, <0> to <19>; set "
            "task.num_bins=20, or train its base model anew"
        )
