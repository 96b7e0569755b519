import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtg.config.task_settings import TaskConfig
from vtg.errors import SampleError
from vtg.tasks.answer import MAX_MOMENTS, NO_MOMENT, Answer, Status, is_answer
from vtg.tasks.answer_forms import CODECS
from vtg.tasks.prompts import SET_REQUEST, THINK_REQUEST
from vtg.tasks.span_task import SpanTask


def test_a_training_conversation_holds_the_video_the_question_and_the_answer():
    messages = SpanTask(TaskConfig()).conversation("A man runs.", duration_s=30.5, spans=[(3.21, 7.5)])
    assert [message["role"] for message in messages] == ["user", "assistant"]
    video, text = messages[0]["content"]
    assert video == {"type": "video"}
    assert text["type"] == "text" and '"A man runs"' in text["text"]
    assert messages[1]["content"] == [{"type": "text", "text": "3.2 to 7.5 seconds"}]


@pytest.mark.parametrize("answer", CODECS)
def test_without_spans_the_conversation_is_the_same_prompt_and_no_answer(answer):
    task = SpanTask(TaskConfig(answer=answer, selection="random"))
    options = {"duration_s": 30.5, "key": "q7", "seed": 3}
    asked = task.conversation("a man runs", **options)
    assert asked == task.conversation("a man runs", spans=[(3.0, 7.0)], **options)[:1]


@pytest.mark.parametrize("answer", CODECS)
def test_the_task_parses_what_it_encodes(answer):
    task = SpanTask(TaskConfig(answer=answer, num_bins=1000))
    parsed = task.parse(task.encode([(3.0, 7.5)], duration_s=30.0), duration_s=30.0)
    assert parsed.status == Status.OK
    assert parsed.spans[0] == pytest.approx((3.0, 7.5), abs=0.1)


def test_an_own_template_replaces_the_pool_and_braces_in_the_query_are_text():
    task = SpanTask(TaskConfig(template="{duration}s: {query}? {{json}}", selection="seeded"))
    question = task.conversation("the {query} {duration.__class__}", duration_s=9.96)[0]["content"][1]["text"]
    assert question == "10.0s: the {query} {duration.__class__}? {json}"


def test_the_prompt_names_the_bins_of_the_config():
    messages = SpanTask(TaskConfig(answer="bins", num_bins=64)).conversation("x", duration_s=1.0)
    assert "64 equal parts, numbered 0 to 63" in messages[0]["content"][1]["text"]


@pytest.mark.parametrize("answer", CODECS)
@pytest.mark.parametrize("template", [None, "When is {query}? {{json}}"])
def test_with_think_the_same_question_is_followed_by_the_request_to_think(answer, template):
    options = {"answer": answer, "template": template, "selection": "random"}
    for seed in range(10):
        plain, thinking = (
            SpanTask(TaskConfig(**options, think=think)).conversation("a man", duration_s=9.0, key="q", seed=seed)
            for think in (False, True)
        )
        assert thinking[0]["content"][1]["text"] == plain[0]["content"][1]["text"] + THINK_REQUEST
    assert all(text.endswith(THINK_REQUEST) for text in SpanTask(TaskConfig(**options, think=True)).pool)
    assert SpanTask(TaskConfig(answer=answer)).pool == CODECS[answer].templates


def test_a_template_that_asks_for_the_tags_itself_is_not_followed_by_a_second_request():
    own = 'When is "{query}"? Reason in <think> </think>, answer in <answer> </answer>.'
    assert SpanTask(TaskConfig(think=True, template=own)).pool == (own,)
    assert SpanTask(TaskConfig(think=True, template="When is {query}?")).pool == ("When is {query}?" + THINK_REQUEST,)


def test_with_think_the_answer_stands_in_tags_and_no_thought_is_invented():
    messages = SpanTask(TaskConfig(think=True)).conversation("a man runs", duration_s=30.5, spans=[(3.21, 7.5)])
    assert messages[1]["content"] == [{"type": "text", "text": "<answer>3.2 to 7.5 seconds</answer>"}]


@pytest.mark.parametrize("answer", CODECS)
@given(cuts=st.lists(st.integers(0, 1000), min_size=2, max_size=8, unique=True), thought=st.text(max_size=40))
def test_with_think_the_task_parses_what_it_encodes_and_not_what_was_thought(answer, cuts, thought):
    spans = [(a / 20, b / 20) for a, b in zip(sorted(cuts)[::2], sorted(cuts)[1::2], strict=False)]
    plain, thinking = (SpanTask(TaskConfig(answer=answer, num_bins=1000, think=think)) for think in (False, True))
    text = thinking.encode(spans, duration_s=50.0)
    expected = plain.parse(plain.encode(spans, duration_s=50.0), duration_s=50.0)
    for written in (text, f"<think>{thought} 1.0 to 2.0 seconds, <3><4></think>\n{text}"):
        parsed = thinking.parse(written, duration_s=50.0)
        assert (parsed.status, parsed.spans) == (Status.OK, expected.spans)
    assert thinking.parse("<think>1.0 to 2.0 seconds <3><4>", duration_s=50.0).status == Status.MALFORMED
    assert thinking.tokens() == plain.tokens()


def sets(answer: str = "seconds", **options) -> SpanTask:
    return SpanTask(TaskConfig(answer=answer, num_bins=1000, moments="set", **options))


@pytest.mark.parametrize("answer", CODECS)
@pytest.mark.parametrize("think", [False, True])
def test_a_set_is_asked_for_in_order_of_time_and_with_the_words_for_none(answer, think):
    for template in (None, "When is {query}?"):
        task = sets(answer, think=think, template=template)
        for text in task.pool:
            assert text.endswith(SET_REQUEST + (THINK_REQUEST if think else ""))
    assert "in order of time" in SET_REQUEST and NO_MOMENT in SET_REQUEST
    one = SpanTask(TaskConfig(answer=answer, num_bins=1000))
    assert all(NO_MOMENT not in text for text in one.pool)


@pytest.mark.parametrize("answer", CODECS)
@pytest.mark.parametrize("think", [False, True])
@given(cuts=st.lists(st.integers(0, 1000), max_size=8, unique=True), thought=st.text(max_size=40), data=st.data())
def test_a_set_of_any_size_comes_back_in_order_of_time(answer, think, cuts, thought, data):
    task, edges = sets(answer, think=think), sorted(cuts)
    spans = [(a / 20, b / 20) for a, b in zip(edges[::2], edges[1::2], strict=False)]
    text = task.encode(data.draw(st.permutations(spans)), duration_s=50.0)
    for written in (text, f"<think>{thought} 1.0 to 2.0 seconds, {NO_MOMENT}</think>{text}"):
        parsed = task.parse(written, duration_s=50.0)
        assert parsed.status == (Status.OK if spans else Status.NONE)
        assert len(parsed.spans) == len(spans)
        for got, true in zip(parsed.spans, spans, strict=True):
            assert got == pytest.approx(true, abs=0.051)
    assert is_answer(parsed.status)


def test_none_is_the_target_of_a_row_without_a_moment_and_no_target_of_a_single_moment():
    asked = sets().conversation("a man runs", duration_s=30.0, spans=[])
    assert asked[1]["content"] == [{"type": "text", "text": "no such moment"}]
    assert len(sets().conversation("a man runs", duration_s=30.0)) == 1
    with pytest.raises(SampleError, match=r"timestamp: \[\] says that there is no moment.*set task.moments=set"):
        SpanTask(TaskConfig()).conversation("a man runs", duration_s=30.0, spans=[])
    with pytest.raises(SampleError, match=f"{MAX_MOMENTS + 1} moments to encode"):
        sets().encode([(1.0, 2.0)] * (MAX_MOMENTS + 1), duration_s=30.0)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("no such moment", "none"),
        ("There is **No  such\nmoment** in the 12.0 seconds.", "none"),
        ("<answer>no such moment</answer>", "none"),
        ("no moment", "malformed"),
        ("<think>no such moment</think>", "malformed"),
        ("<think>no such moment", "malformed"),
        ("", "malformed"),
        ("no such moment, 3.0 to 5.0 seconds", "malformed"),
        ("<think>no such moment</think>3.0 to 5.0 seconds", "ok"),
        ("5.0 to 3.0 seconds", "reversed"),
    ],
)
def test_a_set_that_says_none_is_an_answer_and_one_that_says_both_is_not(text, status):
    answer = sets().parse(text, duration_s=12.0)
    assert answer.status == status
    assert bool(answer.spans) == (status in ("ok", "reversed"))


def test_where_one_moment_is_asked_for_none_is_no_answer():
    assert SpanTask(TaskConfig()).parse(NO_MOMENT, duration_s=9.0) == Answer((), Status.MALFORMED, NO_MOMENT)


def test_new_tokens_follow_the_config():
    assert SpanTask(TaskConfig(answer="tokens", num_bins=3)).tokens() == ["<0>", "<1>", "<2>"]
    assert SpanTask(TaskConfig()).tokens() == []


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (TaskConfig(answer="second"), "task.answer = 'second': must be one of seconds, relative, bins, tokens"),
        (TaskConfig(moments="all"), "task.moments = 'all': must be one of one, set"),
        (TaskConfig(selection="any"), "task.selection = 'any': must be one of fixed, seeded, random"),
        (TaskConfig(decimals=9), "task.decimals = 9: must be an integer from 0 to 6"),
        (TaskConfig(answer="bins", num_bins=0), "task.num_bins = 0: must be an integer from 2 to 100000"),
        (TaskConfig(template="when?"), "task.template = 'when\\?'.*has no {query}"),
    ],
)
def test_a_setting_that_cannot_be_is_named_with_what_is_allowed(config, said):
    with pytest.raises(ValueError, match=said):
        SpanTask(config)
