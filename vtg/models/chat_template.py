"""A model's chat template is a program of whoever made the model: it is tried before anything depends on it.

transformers runs it in Jinja's sandbox, which reaches no files and no commands, but which may loop for ever (loops of
100,000 inside each other) or write without end. What is bounded here is one conversation as all of them are made, so a
template that does so for every conversation. One that does so for some text alone is bounded by nothing.
"""

from jinja2 import TemplateError
from transformers import ProcessorMixin

from vtg.config.task_settings import TaskConfig
from vtg.errors import ConfigError
from vtg.tasks.span_task import SpanTask
from vtg.video.time_limit import within

LIMIT_S = 30.0
"""For what takes a millisecond, or a second where it is compiled on a machine that has much to do."""

LIMIT_CHARACTERS = 1 << 20

FAULTS = (
    *(TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError),
    *(RecursionError, MemoryError),
)
"""What a program in Jinja can end with."""


def check_chat_template(processor: ProcessorMixin, path: str) -> None:
    """Renders a conversation with the template of the model `path`.

    Raises:
        ConfigError: it fails, takes longer than `LIMIT_S`, or writes more than `LIMIT_CHARACTERS`.
    """
    messages = SpanTask(TaskConfig(name="span", answer="seconds")).conversation("a person sits down", duration_s=10.0)
    remedy = "take another model, or mend chat_template.jinja in its folder"
    try:
        text = within(LIMIT_S, processor.apply_chat_template, messages, tokenize=False, add_generation_prompt=True)
    except TimeoutError:
        raise ConfigError(f"model {path!r}: its chat template does not end within {LIMIT_S:.10g} s; {remedy}") from None
    except FAULTS as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ConfigError(f"model {path!r}: its chat template fails ({said}); {remedy}") from error
    if len(text) > LIMIT_CHARACTERS:
        raise ConfigError(
            f"model {path!r}: its chat template makes {len(text):,} characters of a question of a sentence; {remedy}"
        )
