"""Tries a model's chat template, which is a program of whoever made the model, before anything depends on it.

transformers runs it in Jinja's sandbox, which reaches no files and no commands, but may loop for ever (nested loops of
100,000) or write without end. One typical conversation is rendered here under limits, which finds a template that does
so for every conversation; one that does so for certain texts alone is not found.
"""

from jinja2 import TemplateError
from transformers import ProcessorMixin

from vtg.config.task_settings import TaskConfig
from vtg.errors import ConfigError
from vtg.models.families import family_of
from vtg.tasks.span_task import SpanTask
from vtg.video.time_limit import within

# Rendering takes a millisecond; compiling the template first takes up to a second on a busy machine.
LIMIT_S = 30.0

# A real template adds some hundred characters to a question: this is far from any of them.
LIMIT_CHARACTERS = 1 << 20

TEMPLATE_ERRORS = (
    *(TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError),
    *(RecursionError, MemoryError),
)
"""What rendering a template can raise: Jinja runs Python's own operators and methods."""


def check_chat_template(processor: ProcessorMixin, path: str) -> None:
    """Renders a conversation with the template of the model `path`.

    Raises:
        ConfigError: it fails, takes longer than `LIMIT_S`, or writes more than `LIMIT_CHARACTERS`.
    """
    messages = SpanTask(TaskConfig(name="span", answer="seconds")).conversation("a person sits down", duration_s=10.0)
    remedy = "take another model, or mend chat_template.jinja in its folder"
    options = {"tokenize": False, "add_generation_prompt": True} | dict(family_of(processor).template_options)
    try:
        text = within(LIMIT_S, processor.apply_chat_template, messages, **options)
    except TimeoutError:
        raise ConfigError(f"model {path!r}: its chat template does not end within {LIMIT_S:.10g} s; {remedy}") from None
    except TEMPLATE_ERRORS as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ConfigError(f"model {path!r}: its chat template fails ({reason}); {remedy}") from error
    if len(text) > LIMIT_CHARACTERS:
        raise ConfigError(
            f"model {path!r}: its chat template makes {len(text):,} characters of a question of a sentence; {remedy}"
        )
