"""A request of OpenAI's chat protocol → a video and the sentences to look for in it.

    {"model": NAME, "messages": [{"role": "user", "content": [VIDEO, {"type": "text", "text": "a man sits down"}]}]}

VIDEO is one of:

    {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,..." or an address or a path}}
    {"type": "video", "video": ["data:image/jpeg;base64,...", ...], "timestamps_s": [0.0, 0.5, ...], "duration_s": 9.5}

The text is the query, and nothing but the query: vtg makes its own prompt around it, the one that the checkpoint was
trained with. What has no counterpart in that (a system message, earlier turns, sampling) is refused, not passed over.
"""

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vtg.serving.given_frames import GivenFrames
from vtg.serving.refusals import Refused, wrong

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "temperature": (0,),
    "top_p": (1,),
    "n": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logprobs": (False,),
    "store": (False,),
}
"""Fields of the protocol that are taken at the values which change nothing: answers are greedy."""

WITHOUT_EFFECT = ("seed", "user", "metadata")
"""Fields that change no greedy answer, by what they mean."""

ROOM = ("max_tokens", "max_completion_tokens")

READ = ("model", "messages", "response_format", "stream", "stream_options", *ROOM, "vtg")

OWN = ("queries", "video_start", "video_end")
"""Of the field `vtg`: several queries in place of the text, and the part of the video in seconds."""


@dataclass(frozen=True)
class ChatRequest:
    """What is asked.

    Attributes:
        video: as a client names it, or frames.
        start_s, end_s: the part of the video; None: from its beginning, to its end.
        as_json: the answer's text shall be JSON.
        streams, tells_usage: as events, with the counts of tokens in the last one.
    """

    video: str | GivenFrames
    queries: tuple[str, ...]
    start_s: float | None
    end_s: float | None
    as_json: bool
    streams: bool
    tells_usage: bool


def read_chat_request(body: Any, *, model: str, room: int) -> ChatRequest:
    """The request that a JSON document is.

    Args:
        model: the name of the model that is served.
        room: the most tokens of an answer.

    Raises:
        Refused: it says what is wrong, and what is understood.
    """
    if not isinstance(body, dict):
        raise wrong("the request is no JSON object")
    _check_fields(body, room)
    if _get(body, "model", str) != model:
        raise Refused(f"model {body['model']!r}: this server has {model!r} alone", status=404, code="model_not_found")
    video, text = _content(_get(body, "messages", list))
    own = _get(body, "vtg", dict, {})
    if unknown := own.keys() - set(OWN):
        raise wrong(f"vtg.{min(unknown)}: there is no such field; they are {', '.join(OWN)}")
    queries = _get(own, "queries", list, [text] if text is not None else [])
    if text is not None and "queries" in own:
        raise wrong("vtg.queries and a text in the message: give the queries in one of them")
    if not queries or not all(isinstance(query, str) and query.strip() for query in queries):
        raise wrong("there is no query: give a text beside the video, the sentence to look for (or vtg.queries)")
    for query in queries:
        if any("\ud800" <= sign <= "\udfff" for sign in query):  # halves of characters, which JSON can spell
            raise wrong(f"query {query!r}: is no text")
    options = _get(body, "stream_options", dict, {})
    return ChatRequest(
        video=video,
        queries=tuple(queries),
        start_s=_seconds(own, "video_start"),
        end_s=_seconds(own, "video_end"),
        as_json=_is_json(_get(body, "response_format", dict, {"type": "text"})),
        streams=_get(body, "stream", bool, False),
        tells_usage=_get(options, "include_usage", bool, False),
    )


def _check_fields(body: Mapping[str, Any], room: int) -> None:
    for name, value in body.items():
        if name in READ or name in WITHOUT_EFFECT or value is None:
            continue
        if name not in NEUTRAL:
            raise wrong(f"{name}: is not understood by this server; leave it out")
        if value not in NEUTRAL[name]:
            raise wrong(f"{name} = {value!r}: answers are greedy, one for each query; leave it out")
    for name in ROOM:
        most = _get(body, name, int, room)
        if most < room:
            raise wrong(f"{name} = {most}: an answer takes up to {room} tokens; leave it out, or give {room} or more")


def _is_json(response_format: Mapping[str, Any]) -> bool:
    kind = response_format.get("type")
    if kind not in ("text", "json_object"):
        raise wrong(f"response_format.type = {kind!r}: must be text or json_object")
    return kind == "json_object"


def _content(messages: Sequence[Any]) -> tuple[str | GivenFrames, str | None]:
    """The video of the one message, and its text."""
    if len(messages) != 1 or not isinstance(messages[0], dict) or messages[0].get("role") != "user":
        roles = [one.get("role") if isinstance(one, dict) else one for one in messages]
        raise wrong(
            f"messages of {roles}: give one, of the user, with a video and the sentence to look for; the prompt is "
            "the one that the model was trained with"
        )
    parts = messages[0].get("content")
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise wrong("content: must be a list of parts, a video and a text")
    videos: list[str | GivenFrames] = []
    texts: list[str] = []
    for part in parts:
        kind = part.get("type")
        if kind == "text":
            texts.append(_get(part, "text", str))
        elif kind == "video_url":
            videos.append(_get(_get(part, "video_url", dict), "url", str))
        elif kind == "video":
            videos.append(_frames(part))
        else:
            raise wrong(f"content part of type {kind!r}: must be text, video_url, or video (frames with their times)")
    if len(videos) != 1:
        raise wrong(f"{len(videos)} videos: give one, as a part of type video_url or video")
    return videos[0], "\n".join(texts) if texts else None


def _frames(part: Mapping[str, Any]) -> GivenFrames:
    pictures = [_picture(at, url) for at, url in enumerate(_get(part, "video", list))]
    if ("timestamps_s" in part) == ("fps" in part):
        raise wrong("video: give the times of its frames, as timestamps_s (seconds of each) or as fps")
    if "fps" in part:
        fps = _seconds(part, "fps")
        if not fps:
            raise wrong(f"video.fps = {part['fps']!r}: must be above 0")
        times_s: list[Any] = [at / fps for at in range(len(pictures))]
    else:
        times_s = _get(part, "timestamps_s", list)
        if not all(isinstance(time, int | float) and not isinstance(time, bool) for time in times_s):
            raise wrong("video.timestamps_s: must be numbers, the seconds of each frame")
    # As long as a frame is shown on average, where nothing is said of the end.
    step_s = (times_s[-1] - times_s[0]) / (len(times_s) - 1) if len(times_s) > 1 else 1.0
    duration_s = _seconds(part, "duration_s")
    return GivenFrames(pictures, times_s, (times_s or [0])[-1] + step_s if duration_s is None else duration_s)


def _picture(at: int, url: Any) -> bytes:
    head, _, data = url.partition(",") if isinstance(url, str) else ("", "", "")
    if not (head.startswith("data:image/") and head.endswith(";base64")):
        raise wrong(f"video: frame {at} is no data:image/jpeg;base64,... (frames at addresses are not fetched)")
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise wrong(f"video: frame {at} is no base64 ({error})") from error


def _seconds(values: Mapping[str, Any], name: str) -> float | None:
    value = values.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise wrong(f"{name} = {value!r}: must be a number, at least 0")
    return float(value)


def _get(values: Mapping[str, Any], name: str, kind: type, default: Any = None) -> Any:
    value = values.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        named = {str: "a text", list: "a list", dict: "an object", int: "a whole number", bool: "true or false"}
        raise wrong(f"{name}: is {'missing' if value is None else repr(value)[:80]}; must be {named[kind]}")
    return value
