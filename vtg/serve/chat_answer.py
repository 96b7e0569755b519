"""Answers as documents of OpenAI's chat protocol: one choice for each query, its moments in a field of vtg's own."""

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

from vtg.serve.chat_request import ChatRequest
from vtg.serving.asked_question import Answered


def completion(request: ChatRequest, answered: Answered, *, model: str) -> dict[str, Any]:
    """`chat.completion`: in `choices[i].message` the text in `content`, and in `vtg` what it says:

    query; moments, [[start, end], ...] in seconds of the clip; status (`vtg.tasks.answer.Status`); text, word for word;
    duration_s of the clip; timestamps_s, the times of the frames that the model saw.
    """
    choices = []
    for at, (query, answer) in enumerate(zip(request.queries, answered.answers, strict=True)):
        moments = [list(span) for span in answer.spans]
        found = {"moments": moments, "status": str(answer.status)}
        own = {
            "query": query,
            **found,
            "text": answer.text,
            "duration_s": answered.clip.duration_s,
            "timestamps_s": answered.clip.timestamps_s.tolist(),
        }
        content = json.dumps(found) if request.as_json else answer.text
        message = {"role": "assistant", "content": content, "refusal": None, "vtg": own}
        reason = "stop" if answered.finished[at] else "length"
        choices.append({"index": at, "message": message, "logprobs": None, "finish_reason": reason})
    return {**_head("chat.completion", model), "choices": choices, "usage": usage(answered)}


def usage(answered: Answered) -> dict[str, int]:
    """Tokens that were read and written, of all queries; a clip that several ask about is counted for each."""
    read, written = sum(answered.prompt_tokens), sum(answered.completion_tokens)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def events(document: dict[str, Any], *, tells_usage: bool) -> Iterator[str]:
    """A completion as server-sent events: each answer in one piece, as it is known when it is written to its end."""
    head = _head("chat.completion.chunk", document["model"]) | {"id": document["id"], "created": document["created"]}
    # The protocol has the field in every event, or in none.
    none_yet: dict[str, Any] = {"usage": None} if tells_usage else {}
    for choice in document["choices"]:
        message = {name: value for name, value in choice["message"].items() if name != "refusal"}
        whole = {"index": choice["index"], "delta": message, "logprobs": None, "finish_reason": None}
        end = whole | {"delta": {}, "finish_reason": choice["finish_reason"]}
        for part in (whole, end):
            yield f"data: {json.dumps({**head, 'choices': [part], **none_yet})}\n\n"
    if tells_usage:
        yield f"data: {json.dumps({**head, 'choices': [], 'usage': document['usage']})}\n\n"
    yield "data: [DONE]\n\n"


def _head(kind: str, model: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}
