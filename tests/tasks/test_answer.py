import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtg.tasks.answer import MAX_MOMENTS, Answer, Status
from vtg.tasks.answer_forms import CODECS, BinsCodec, RelativeCodec, SecondsCodec, TokensCodec

ALL = [SecondsCodec(), SecondsCodec(0), SecondsCodec(3), RelativeCodec(), BinsCodec(), BinsCodec(2), TokensCodec()]

durations = st.integers(100, 7_200_000).map(lambda ms: ms / 1000)


@st.composite
def clips(draw):
    """A duration and one to five spans of it, the shortest a thousandth of it long."""
    duration_s = draw(durations)
    edge = st.integers(0, 1000)
    pairs = draw(st.lists(st.tuples(edge, edge).filter(lambda p: p[0] != p[1]), min_size=1, max_size=5))
    return duration_s, [(min(p) * duration_s / 1000, max(p) * duration_s / 1000) for p in pairs]


@pytest.mark.parametrize(
    ("codec", "text"),
    [
        (SecondsCodec(), "3.2 to 7.5 seconds, 10.0 to 12.4 seconds"),
        (SecondsCodec(0), "3 to 8 seconds, 10 to 12 seconds"),
        (RelativeCodec(), "0.160 to 0.375, 0.500 to 0.620"),
        (BinsCodec(), "16 to 37, 50 to 61"),
        (TokensCodec(), "<160><374>, <500><619>"),
    ],
)
def test_every_form_has_this_very_text(codec, text):
    assert codec.encode([(10.0, 12.4), (3.2, 7.5)], 20.0) == text


@pytest.mark.parametrize("codec", ALL, ids=repr)
@given(clip=clips())
def test_parsing_an_encoded_answer_gives_the_spans_back_within_the_resolution(codec, clip):
    duration_s, spans = clip
    answer = codec.parse(codec.encode(spans, duration_s), duration_s)
    assert answer.status == Status.OK
    step_s = codec.resolution_s(duration_s)
    grid_slack = 1e-9 * duration_s
    for got in answer.spans:
        assert 0.0 <= got[0] < got[1] <= duration_s
        near = min(max(abs(got[0] - span[0]), abs(got[1] - span[1])) for span in spans)
        assert near <= step_s + grid_slack
    assert len(answer.spans) == len(spans)
    for span in spans:
        if span[1] - span[0] > step_s:
            near = min(max(abs(got[0] - span[0]), abs(got[1] - span[1])) for got in answer.spans)
            assert near <= step_s / 2 + grid_slack


@pytest.mark.parametrize("codec", ALL, ids=repr)
@given(clip=clips())
def test_encoding_what_was_parsed_gives_the_same_text(codec, clip):
    duration_s, spans = clip
    text = codec.encode(spans, duration_s)
    assert codec.encode(codec.parse(text, duration_s).spans, duration_s) == text


def test_a_span_shorter_than_a_grid_step_becomes_that_step():
    assert SecondsCodec().encode([(3.04, 3.06)], 30.0) == "3.0 to 3.1 seconds"
    assert SecondsCodec(0).encode([(0.1, 0.3)], 0.5) == "0 to 1 seconds"
    assert SecondsCodec(0).parse("0 to 1 seconds", 0.5).spans == ((0.0, 0.5),)
    assert BinsCodec(10).encode([(9.99, 10.0)], 10.0) == "9 to 9"
    assert BinsCodec(10).parse("9 to 9", 10.0).spans == ((9.0, 10.0),)


def test_a_span_is_clipped_to_the_clip_when_encoded():
    assert SecondsCodec().encode([(-1.0, 40.0)], 30.0) == "0.0 to 30.0 seconds"
    assert TokensCodec(1000).encode([(-1.0, 40.0)], 30.0) == "<0><999>"


@pytest.mark.parametrize("span", [(5.0, 5.0), (5.0, 3.0), (30.0, 40.0), (math.nan, 3.0), (-5.0, -1.0)])
def test_a_span_with_no_part_in_the_clip_cannot_be_encoded(span):
    with pytest.raises(ValueError, match=r"no part inside the clip of 0 to 30.0 s: .*vtg.validate"):
        SecondsCodec().encode([span], 30.0)


def test_no_moments_and_too_many_cannot_be_encoded():
    with pytest.raises(ValueError, match="0 moments to encode: an answer holds 1 to 256"):
        SecondsCodec().encode([], 30.0)
    with pytest.raises(ValueError, match="257 moments"):
        SecondsCodec().encode([(1.0, 2.0)] * (MAX_MOMENTS + 1), 30.0)


@pytest.mark.parametrize("duration_s", [0.0, -1.0, math.nan, math.inf])
def test_a_duration_must_be_positive(duration_s):
    with pytest.raises(ValueError, match=r"duration .*: must be a positive number of seconds"):
        SecondsCodec().parse("1 to 2", duration_s)


@pytest.mark.parametrize(
    ("text", "status", "spans"),
    [
        ("3.2 to 7.5 seconds", "ok", ((3.2, 7.5),)),
        ("9.0 to 10.4 seconds", "ok", ((9.0, 10.0),)),
        ("-0.2 to 4", "ok", ((0.0, 4.0),)),
        ("9.0 to 10.6 seconds", "out_of_range", ((9.0, 10.6),)),
        ("10.0 to 10.3 seconds", "out_of_range", ((10.0, 10.3),)),
        ("-3 to 5", "out_of_range", ((-3.0, 5.0),)),
        ("1 to 1e9", "out_of_range", ((1.0, 1e9),)),
        ("7.5 to 3.2", "reversed", ((7.5, 3.2),)),
        ("5.0 to 5.0", "reversed", ((5.0, 5.0),)),
        ("1 to 2, 99 to 3", "reversed", ((1.0, 2.0), (99.0, 3.0))),
        ("1e999 to 2e999", "malformed", ()),
        ("nan to inf", "malformed", ()),
        ("no idea", "malformed", ()),
        (", ".join(["1 to 2"] * (MAX_MOMENTS + 1)), "malformed", ()),
    ],
)
def test_the_status_says_what_became_of_an_answer(text, status, spans):
    assert SecondsCodec().parse(text, 10.0) == Answer(spans, Status(status), text)


def test_a_bin_that_does_not_exist_is_out_of_range():
    assert TokensCodec(100).parse("<98><99>", 1.0).status == Status.OK
    assert TokensCodec(100).parse("<98><100>", 1.0).status == Status.OUT_OF_RANGE
    assert BinsCodec(100).parse("-1 to 5", 1.0).status == Status.OUT_OF_RANGE
    assert BinsCodec(100).parse("7 to 5", 1.0).status == Status.REVERSED


def test_an_answer_in_another_form_is_malformed():
    assert BinsCodec().parse("3.2 to 7.5 seconds", 10.0).status == Status.MALFORMED
    assert TokensCodec().parse("3.2 to 7.5 seconds", 10.0).status == Status.MALFORMED
    assert RelativeCodec().parse("3.2 to 7.5 seconds", 10.0).status == Status.MALFORMED


@pytest.mark.parametrize("codec", ALL, ids=repr)
@given(text=st.text(st.sampled_from("0123456789.,:-<>[]()% esmto\n"), max_size=60) | st.text(max_size=60))
def test_no_text_makes_the_parser_raise(codec, text):
    answer = codec.parse(text, 12.3)
    assert (answer.status == Status.MALFORMED) == (answer.spans == ())
    if answer.status == Status.OK:
        assert all(0.0 <= start < end <= 12.3 for start, end in answer.spans)


@pytest.mark.parametrize(
    "piece", ["1 ", "1 to ", "1.", "1:", "-", "9", "[1,", "<1>", "1m", "<think>", "<answer>", " ", "1e"]
)
@pytest.mark.parametrize("codec", [SecondsCodec(), RelativeCodec(), TokensCodec()], ids=repr)
def test_a_hundred_thousand_characters_are_parsed_in_linear_time(codec, piece):
    began = time.thread_time()
    codec.parse(piece * (100_000 // len(piece)), 10.0)
    assert time.thread_time() - began < 10.0  # of the processor: with the square of the length it would be minutes


def test_only_the_token_form_adds_to_the_vocabulary():
    assert TokensCodec(1000).tokens()[0] == "<0>"
    assert TokensCodec(1000).tokens()[-1] == "<999>"
    assert len(TokensCodec(1000).tokens()) == 1000
    assert [name for name, codec in CODECS.items() if codec().tokens()] == ["tokens"]


def test_settings_of_a_codec_are_checked():
    with pytest.raises(ValueError, match=r"task\.decimals = -1: must be an integer from 0 to 6"):
        SecondsCodec(-1)
    with pytest.raises(ValueError, match=r"task\.num_bins = 1: must be an integer from 2 to 100000"):
        BinsCodec(1)
    with pytest.raises(ValueError, match=r"task\.num_bins = True"):
        TokensCodec(True)
