"""A chat template that does not work is said before a model is loaded, in one line."""

import shutil
from pathlib import Path

import pytest

from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import encode
from vtg.demo.tiny_model import TINY_QWEN3_VL
from vtg.errors import ConfigError, SampleError
from vtg.models import chat_template
from vtg.models.loading import load_processor
from vtg.tasks.span_task import SpanTask

ENDLESS = "".join(f"{{% for {name} in range(150) %}}" for name in "abcd") + "{% endfor %}" * 4
"""Ten seconds or more: far more than the limit even where the machine is busy and the limit is noticed late. With the
100,000 that the sandbox allows it would be years, and the test would leave it running."""


def model(folder: Path, template: str) -> str:
    shutil.copytree(TINY_QWEN3_VL, folder)
    (folder / "chat_template.jinja").write_text(template)
    return str(folder)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('no videos here') }}", r"fails \(no videos here\)"),
        ("{{ messages[99].content }}", r"fails \(.*no element 99\)"),
        ("{% for %}", r"fails \(Expected an expression"),
        ("{{ 1 / 0 }}", r"fails \(division by zero\)"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", r"fails \(access to attribute '__class__' .* is unsafe"),
        ("{{ range(99999999) }}", r"fails \(Range too big"),
        ("{{ 'a' * 2000000 }}", r"makes 2,000,000 characters of a question of a sentence"),
    ],
)
def test_a_template_that_fails_is_one_line_with_its_model(tmp_path, template, said):
    path = model(tmp_path / "model", template)
    with pytest.raises(ConfigError, match=f"^model '{path}': its chat template {said}.*; take another model") as caught:
        load_processor(path)
    assert "\n" not in str(caught.value)


def test_a_template_that_loops_for_ever_is_waited_for_no_longer_than_a_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(chat_template, "LIMIT_S", 0.02)
    path = model(tmp_path / "model", ENDLESS)
    with pytest.raises(ConfigError, match=r"its chat template does not end within 0\.02 s"):
        load_processor(path)


def test_a_template_that_fails_on_one_conversation_costs_that_row(tmp_path, make_clip):
    text = (Path(TINY_QWEN3_VL) / "chat_template.jinja").read_text()
    bad = "{% if 'cat' in messages | string %}{{ raise_exception('no cats') }}{% endif %}"
    processor = load_processor(model(tmp_path / "model", bad + text))
    clip = make_clip([0.0, 0.5])
    ask = SpanTask(TaskConfig(name="span", answer="seconds")).conversation
    encode(processor, ask("a dog sits", duration_s=1.0), clip)
    with pytest.raises(SampleError, match=r"the model's chat template fails on its conversation \(no cats\)"):
        encode(processor, ask("a cat sits", duration_s=1.0), clip)
