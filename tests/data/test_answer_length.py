import pytest

from vtg.annotations.sample import Sample
from vtg.annotations.target import NoMoment, Spans
from vtg.annotations.text_targets import Caption
from vtg.config.task_settings import TaskConfig
from vtg.data.answer_length import answer_room
from vtg.errors import ConfigError
from vtg.tasks.answer_forms import CODECS
from vtg.tasks.span_task import SpanTask


def sample(count: int, *, duration_s: float = 30.0) -> Sample:
    spans = tuple((2.0 * at, 2.0 * at + 1.0) for at in range(count))
    return Sample("a.mp4", duration_s, Spans(spans) if spans else NoMoment(), "a dog", f"q{count}", place=f"a:{count}")


@pytest.mark.parametrize("answer", CODECS)
@pytest.mark.parametrize("think", [False, True])
def test_the_largest_set_must_fit_with_its_end(qwen3_vl, answer, think):
    task = SpanTask(TaskConfig(answer=answer, num_bins=100, moments="set", think=think))
    samples = [sample(count) for count in (0, 7, 2, 1)]
    tokenizer = qwen3_vl.processor.tokenizer
    length = 1 + len(tokenizer(task.encode(samples[1].spans, duration_s=30.0), add_special_tokens=False)["input_ids"])
    with pytest.raises(
        ConfigError, match=r"evaluation.max_new_tokens = 5: the answer to a:7 \(7 moments\) takes"
    ) as caught:
        answer_room(samples, task=task, processor=qwen3_vl.processor, most=5)
    needed = int(str(caught.value).rpartition("set it to ")[2].split()[0])
    # A temporal token, which the tokenizer does not have yet, will be one.
    assert needed < length if answer == "tokens" else needed == length
    assert answer_room(samples, task=task, processor=qwen3_vl.processor, most=needed) == needed
    with pytest.raises(ConfigError, match=f"x = {needed - 1}: "):
        answer_room(samples, task=task, processor=qwen3_vl.processor, most=needed - 1, key="x")


def test_where_one_moment_is_asked_for_nothing_is_checked(qwen3_vl):
    task = SpanTask(TaskConfig())
    assert answer_room([sample(7)], task=task, processor=qwen3_vl.processor, most=1) == 1
    assert answer_room([], task=SpanTask(TaskConfig(moments="set")), processor=qwen3_vl.processor, most=1) == 1


def test_where_nobody_says_how_many_an_answer_gets_what_its_task_wants_and_no_true_one_is_cut(qwen3_vl):
    about = {"task": SpanTask(TaskConfig()), "processor": qwen3_vl.processor, "most": None}
    assert answer_room([sample(1)], **about) == answer_room([], **about) == 48
    texts = {at: Caption("a dog barks " * at) for at in (2, 900)}
    short, long = (Sample("a.mp4", 30.0, text, "", f"c{at}", place=f"a:{at}") for at, text in texts.items())
    assert answer_room([sample(1), short], **about) == 256
    room = answer_room([short, long], **about)
    ids = qwen3_vl.processor.tokenizer(texts[900].text.strip(), add_special_tokens=False)["input_ids"]
    assert room == len(ids) + 1 > 256
    thinking = {**about, "task": SpanTask(TaskConfig(think=True))}
    assert answer_room([sample(1)], **thinking) == 1024 and answer_room([short], **thinking) == 1280
