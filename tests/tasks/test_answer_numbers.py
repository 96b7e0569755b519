import pytest

from vtg.tasks.answer_numbers import FRACTIONS, INTEGERS, NUMBERS_IN_SECONDS, TOKENS, answer_part, read_pairs


@pytest.mark.parametrize(
    "text",
    [
        "3.2 to 7.5",
        "3.2 to 7.5 seconds",
        "The event happens from 3.2 to 7.5 seconds.",
        "3.2s - 7.5s",
        "3.2-7.5",
        "3.2\u20137.5",
        "3.2 \u2014 7.5 s",
        "3.2 until 7.5",
        "3.2 \u2192 7.5",
        "[3.2, 7.5]",
        "(3.2, 7.5)",
        "3.2, 7.5",
        "3.2 7.5",
        "between 3.2 and 7.5 seconds",
        "start: 3.2, end: 7.5",
        "start_time: 3.2s end_time: 7.5s",
        '{"start": 3.2, "end": 7.5}',
        "{'start': '3.2', 'end': '7.5'}",
        "It starts at 3.2 seconds and ends at 7.5 seconds.",
        "He sits down at 3.2 s. He has stood up again at 7.5 s.",
        "**3.2** to **7.5** seconds",
        "<3.2 seconds> to <7.5 seconds>",
        "- 3.2 to 7.5",
        "1. 3.2 to 7.5 seconds",
        "00:03.2 to 00:07.5",
        "00:00:03,200 --> 00:00:07,500",
        "2 people walk from 3.2 to 7.5 seconds",
        "2 to 3 people walk from 3.2 to 7.5 seconds",
        "The 2 events: 3.2s, 7.5s",
        "video_2.mp4: 3.2 to 7.5",
        "In the 3D film, v1.2.3 and 50% in, the 2nd man is seen from 3.2 to 7.5",
    ],
)
def test_one_moment_is_read_from_many_ways_of_writing_it(text):
    assert read_pairs(text, NUMBERS_IN_SECONDS) == [(3.2, 7.5)]


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("from 01:05 to 01:20", [(65, 80)]),
        ("1:01:05 - 1:01:20", [(3665, 3680)]),
        ("1 minute 5 seconds to 1m20s", [(65, 80)]),
        ("3 to 5 minutes", [(180, 300)]),
        ("[[3.2, 7.5], [10, 12]]", [(3.2, 7.5), (10, 12)]),
        ("[3.2, 7.5, 10, 12]", [(3.2, 7.5), (10, 12)]),
        ("3.2 to 7.5, 10 to 12 seconds", [(3.2, 7.5), (10, 12)]),
        ("from 3.2 to 7.5 seconds and again from 10 to 12 seconds.", [(3.2, 7.5), (10, 12)]),
        ("1. 3.2 to 7.5 seconds\n2. 10 to 12 seconds", [(3.2, 7.5), (10, 12)]),
        ("7.5 to 3.2", [(7.5, 3.2)]),
        ("-3 to 5", [(-3, 5)]),
        ("3 to -5", [(3, -5)]),
        ("[-3, -1]", [(-3, -1)]),
        ("1e9 to 2e9", [(1e9, 2e9)]),
    ],
)
def test_clock_times_several_moments_and_signs_are_read(text, pairs):
    assert read_pairs(text, NUMBERS_IN_SECONDS) == pairs


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no idea",
        "5.0",
        "nan to 5",
        "inf to inf",
        "1 2 3 4",
        "3, 5, 7",
        "There are 2 dogs and 3 cats.",
        "00:75 to 1:99",
    ],
)
def test_text_that_gives_no_times_gives_no_pairs(text):
    assert read_pairs(text, NUMBERS_IN_SECONDS) == []


def test_each_form_reads_only_its_own_numbers():
    assert read_pairs("0.12 to 0.45", FRACTIONS) == [(0.12, 0.45)]
    assert read_pairs("from 12% to 45% of the video", FRACTIONS) == [(0.12, 0.45)]
    assert read_pairs("0.12 to 0.45 seconds", FRACTIONS) == []
    assert read_pairs("12 to 45", INTEGERS) == [(12, 45)]
    assert read_pairs("1.2 to 4.5", INTEGERS) == []
    assert read_pairs("12 to 45 s", INTEGERS) == []
    assert read_pairs("at <12><45>. And <50> to <60>", TOKENS) == [(12, 45), (50, 60)]
    assert read_pairs("12 to 45", TOKENS) == []


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("3 to 4", "3 to 4"),
        ("<think>1 to 2</think>3 to 4", "3 to 4"),
        ("1 to 2</think>3 to 4", "3 to 4"),
        ("<think>1 to 2</think> so <answer>3 to 4</answer> 5 to 6", "3 to 4"),
        ("<ANSWER>1 to 2</ANSWER><answer>3 to 4</answer>", "3 to 4"),
        ("<think><answer>1 to 2</answer></think>3 to 4", "3 to 4"),
        ("<think>1 to 2 <answer>3 to 4</answer>", "3 to 4"),
        ("<answer>3 to 4", "3 to 4"),
        ("3 to 4<think>1 to 2", "3 to 4"),
        ("<think>1 to 2", ""),
    ],
)
def test_the_answer_part_leaves_the_thinking_out(text, part):
    assert answer_part(text) == part
