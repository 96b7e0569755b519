"""What the card of an exported model says of its answers, so that they can be read without vtg."""

import pytest

from vtg.config.model_settings import ModelConfig
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.export.model_card import model_card
from vtg.models.checkpoint import Settings
from vtg.models.families import FAMILIES
from vtg.tasks.answer_forms import CODECS
from vtg.tasks.span_task import SpanTask


def card(task: TaskConfig, *, adapter: str = "merged") -> str:
    settings = Settings(ModelConfig(), VideoConfig(), task)
    family = FAMILIES["qwen3_vl"]
    return model_card("mine", settings=settings, family=family, source="run", base="Qwen/Qwen3-VL-4B", adapter=adapter)


@pytest.mark.parametrize("answer", CODECS)
def test_it_says_how_an_answer_is_read(answer):
    task = TaskConfig(answer=answer, num_bins=50)
    told = " ".join(card(task).split())
    examples = {
        "seconds": None,
        "relative": ("0.2 to 0.5", "from 0.2 to 0.5 of the video's length", (2.0, 5.0)),
        "bins": ("2 to 5", "from 2/50 to 6/50 of the video's length, its last part included", (0.4, 1.2)),
        "tokens": ("<2><5>", "from 2/50 to 6/50 of the video's length, its last part included", (0.4, 1.2)),
    }
    assert f"the form of its answers is `{answer}`" in told
    if example := examples[answer]:
        text, meaning, span = example
        assert f": `{text}` is {meaning}" in told
        assert SpanTask(task).parse(text, duration_s=10.0).spans == (pytest.approx(span),)


def test_a_set_may_be_empty_and_has_room_and_one_moment_is_always_answered():
    always = "It answers every question with a moment, also where the video has none."
    one, many = card(TaskConfig()), card(TaskConfig(answer="tokens", moments="set"))
    assert always in one and "max_new_tokens=48," in one
    assert always not in many and "max_new_tokens=384," in many
    assert "every moment the sentence describes, in order of time, or `no such moment`" in many
    assert "If it never happens, answer: no such moment." in many  # in the question that the snippet asks


def test_only_an_adapter_that_is_loaded_on_its_base_needs_rows_for_its_tokens():
    grows = "model.resize_token_embeddings("
    assert grows in card(TaskConfig(answer="tokens"), adapter="alone")
    assert grows not in card(TaskConfig(answer="tokens")) + card(TaskConfig(answer="bins"), adapter="alone")
