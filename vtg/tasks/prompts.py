"""What is asked of the model: how a template of the answer form (`Codec.templates`) is chosen and filled.

A template is plain text with the fields of `FIELDS` in braces (`{{` and `}}` are literal braces). Fields are put in as
they are: a query with braces in it is text like any other, and a template can reach nothing but these fields.
"""

from collections.abc import Mapping, Sequence
from string import Formatter
from zlib import crc32

from vtg.errors import ConfigError, SampleError
from vtg.tasks.answer import NO_MOMENT

FIELDS = ("query", "duration", "num_bins", "last_bin")
"""`query`; `duration` in seconds with one decimal; `num_bins` and `last_bin` (`num_bins - 1`) of the answer form."""

SELECTIONS = ("fixed", "seeded", "random")
"""`fixed` always takes the pool's first template; `seeded` takes one by the sample's key, the same in
every epoch and every process; `random` takes one by seed and key, so a seed that changes with the epoch redraws."""

MOMENTS = ("one", "set")
"""`task.moments`: `one` asks for the moment, `set` for all there are, of which there may be none."""

SET_REQUEST = (
    "\nIt may happen once, several times or never: give all its moments in order of time, separated by commas. "
    f"If it never happens, answer: {NO_MOMENT}."
)
"""Follows the question where all moments are asked for (`task.moments=set`), whichever template asks it."""

THINK_REQUEST = (
    "\nFirst think inside <think> </think> about what happens in the video and when. "
    "Then give the answer, and nothing else, inside <answer> </answer>."
)
"""Follows the question where the model is to reason (`task.think`), whichever template asks it."""

# The tags are plain text: any model can write them, with no new entries in its vocabulary.
TAGGED_ANSWER = "<answer>{}</answer>"
"""The answer where the model is to reason."""


def plain_text(text: str) -> str:
    """A text of a row as it stands in a prompt: white space collapsed.

    `<|` is parted by a blank, because a row must not smuggle a special token such as `<|video_pad|>` into the prompt.
    """
    return " ".join(text.split()).replace("<|", "< |")


def normalise_query(query: str) -> str:
    """A query as it stands in a prompt: white space collapsed, full stops at the end removed.

    Raises SampleError where nothing is left.
    """
    # Annotations end their sentences with a full stop or not, and templates go on after the query.
    normal = plain_text(query).rstrip(". ")
    if not normal:
        raise SampleError(f"query {query!r} is empty: give the sentence to look for")
    return normal


def check_template(template: str) -> str:
    """`template`, if it can be filled. Raises ConfigError, which names the allowed fields, if it cannot."""
    allowed = ", ".join(f"{{{field}}}" for field in FIELDS)
    hint = f"allowed fields are {allowed}; write literal braces as {{{{ and }}}}"
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"task.template = {template!r}: {error}; {hint}") from None
    used = [(field, spec, conversion) for _, field, spec, conversion in pieces if field is not None]
    for field, spec, conversion in used:
        # This refuses `{query.x}` and `{query[0]}` too, with which a format string looks into an object.
        if field not in FIELDS or spec or conversion:
            written = field + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            raise ConfigError(f"task.template = {template!r}: unknown field {{{written}}}; {hint}")
    if "query" not in [field for field, _, _ in used]:
        raise ConfigError(f"task.template = {template!r}: has no {{query}}, so the model would not be asked; {hint}")
    return template


def fill(template: str, fields: Mapping[str, str]) -> str:
    """Put `fields` into a checked template, as plain text. Nothing in the values is interpreted."""
    pieces = Formatter().parse(template)
    return "".join(literal + (fields[field] if field is not None else "") for literal, field, _, _ in pieces)


def choose(pool: Sequence[str], *, selection: str, key: str = "", seed: int = 0) -> str:
    """The template of `pool` for one sample. The same in every process: the hash is CRC-32, not Python's salted one."""
    if selection == "seeded":  # without the seed: runs with other seeds ask about a sample in the same words
        return pool[crc32(key.encode()) % len(pool)]
    if selection == "random":
        return pool[crc32(f"{seed}:{key}".encode()) % len(pool)]
    return pool[0]
