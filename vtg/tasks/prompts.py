"""What is asked of the model: pools of templates per answer form, how one is chosen, and how it is filled.

A template is plain text with the fields of `FIELDS` in braces (`{{` and `}}` are literal braces). Fields are put in as
they are: a query with braces in it is text like any other, and a template can reach nothing but these fields.
"""

from collections.abc import Mapping, Sequence
from string import Formatter
from zlib import crc32

from vtg.errors import ConfigError, SampleError

FIELDS = ("query", "duration", "num_bins", "last_bin")
"""`query`; `duration` in seconds with one decimal; `num_bins` and `last_bin` (`num_bins - 1`) of the answer form."""

SELECTIONS = ("fixed", "seeded", "random")
"""`fixed` always takes the pool's first template; `seeded` takes one by the sample's key, the same in
every epoch and every process; `random` takes one by seed and key, so a seed that changes with the epoch redraws."""

TEMPLATES: dict[str, tuple[str, ...]] = {
    "seconds": (
        'When does "{query}" happen in the video? Answer with its start and end in the form: START to END seconds.',
        'Find the moment of the video that shows "{query}". Reply only with its times: START to END seconds.',
        'The video is {duration} seconds long. Give the start and end time of "{query}" as: START to END seconds.',
        'Locate the event "{query}" in the video. State when it starts and ends, in seconds: START to END seconds.',
        'Between which times can "{query}" be seen? Answer in the form: START to END seconds.',
        'Query: "{query}". Return the matching part of the video as: START to END seconds.',
    ),
    "relative": (
        'When does "{query}" happen in the video? Answer with start and end as fractions of its length, '
        "0 being the beginning and 1 the end of the video, in the form: START to END.",
        'Find the moment of the video that shows "{query}". Taking its length as 1, reply only with: START to END.',
        'Let time run from 0 (first frame) to 1 (last frame). Give the start and end of "{query}" as: START to END.',
        'Locate the event "{query}" in the video. Answer with two fractions between 0 and 1: START to END.',
        'Query: "{query}". Return the matching part of the video in fractions of its length: START to END.',
    ),
    "bins": (
        "The video is divided into {num_bins} equal parts, numbered 0 to {last_bin}. "
        'In which parts does "{query}" happen? Answer with the first and the last one in the form: FIRST to LAST.',
        'Find the moment of the video that shows "{query}". With the video cut into {num_bins} equal parts counted '
        "from 0, reply only with: FIRST to LAST.",
        'Number {num_bins} equal parts of the video from 0 to {last_bin}. Give those of "{query}" as: FIRST to LAST.',
        'Locate the event "{query}" in the video. Answer with its first and last part out of 0 to {last_bin}, '
        "all parts being equally long: FIRST to LAST.",
        'Query: "{query}". Return the matching parts of the video, 0 to {last_bin}, as: FIRST to LAST.',
    ),
    "tokens": (
        'When does "{query}" happen in the video? Answer with the time tokens of its start and end, '
        "<0> being the beginning and <{last_bin}> the end of the video.",
        'Find the moment of the video that shows "{query}". Reply only with its two time tokens, <0> to <{last_bin}>.',
        'Time runs from <0> to <{last_bin}> over the video. Give the start and end token of "{query}".',
        'Locate the event "{query}" in the video. Answer with two time tokens between <0> and <{last_bin}>.',
        'Query: "{query}". Return the start and end of the matching part of the video as time tokens.',
    ),
}

THINK_REQUEST = (
    "\nFirst think inside <think> </think> about what happens in the video and when. "
    "Then give the answer, and nothing else, inside <answer> </answer>."
)
"""Stands after the question where the model is to reason (`task.think`), whichever template asks it."""

TAGGED_ANSWER = "<answer>{}</answer>"
"""The answer where the model is to reason. The tags are plain text: they need no entries in the vocabulary."""


def normalise_query(query: str) -> str:
    """A query as it stands in a prompt: white space collapsed, full stops at the end removed.

    `<|` is parted by a blank, because a query must not smuggle a special token such as `<|video_pad|>` into the prompt.
    Raises SampleError where nothing is left.
    """
    normal = " ".join(query.split()).rstrip(". ").replace("<|", "< |")
    if not normal:
        raise SampleError(f"query {query!r} is empty: give the sentence to look for")
    return normal


def check_template(template: str) -> str:
    """Return `template` if it can be filled; ValueError naming `task.template` and the allowed fields otherwise."""
    allowed = ", ".join(f"{{{field}}}" for field in FIELDS)
    hint = f"allowed fields are {allowed}; write literal braces as {{{{ and }}}}"
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"task.template = {template!r}: {error}; {hint}") from None
    used = [(field, spec, conversion) for _, field, spec, conversion in pieces if field is not None]
    for field, spec, conversion in used:
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
    if selection == "seeded":
        return pool[crc32(key.encode()) % len(pool)]
    if selection == "random":
        return pool[crc32(f"{seed}:{key}".encode()) % len(pool)]
    return pool[0]
