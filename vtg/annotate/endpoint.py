"""A vision-language model behind an endpoint that speaks OpenAI's chat protocol (vLLM, SGLang, a hosted one)."""

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from vtg.errors import ConfigError, RunError, SampleError
from vtg.tasks.json_form import JsonForm

# Where a hosted endpoint's key is looked for; a server of one's own needs none.
KEY = "OPENAI_API_KEY"
# Answers that a later try may change: the server is overloaded or starting, or something before it is.
PASSING = (408, 409, 425, 429, 500, 502, 503, 504)
PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Asks one model, served at one address or at several, which are asked in turn.

    Attributes:
        addresses: up to and with `/v1`.
        model: its name there.
        timeout_s: for one answer.
        retries: further tries where the server does not answer, or says that it cannot now.
        max_tokens: of an answer.

    Raises:
        ConfigError: the address is none of http or https.
    """

    addresses: tuple[str, ...]
    model: str
    timeout_s: float = 120.0
    retries: int = 3
    max_tokens: int = 2048
    _turn: Iterator[int] = field(default_factory=count, repr=False, compare=False)

    def __post_init__(self) -> None:
        for address in self.addresses:
            if not address.startswith(("http://", "https://")):
                raise ConfigError(f"--endpoint {address}: must be an address, http://HOST:PORT/v1 for example")

    @property
    def identity(self) -> dict[str, Any]:
        return {"model": self.model}

    def complete(self, messages: Sequence[dict[str, Any]], form: JsonForm | None = None) -> str:
        """The answer to a conversation, at temperature 0. The prompt says its form: not every server takes one.

        Raises:
            RunError: nobody is there, or the server refuses what every further question would be.
            SampleError: it takes too long, or answers something other than a completion.
        """
        body = {"model": self.model, "messages": messages, "temperature": 0.0, "max_tokens": self.max_tokens}
        for tried in range(self.retries + 1):
            address = self.addresses[next(self._turn) % len(self.addresses)]
            try:
                return _text(self._post(address, json.dumps(body).encode()))
            except urllib.error.HTTPError as error:
                said = error.read(400).decode("utf-8", "replace").strip()
                if error.code in (401, 403, 404):
                    raise RunError(
                        f"{address} answers {error.code} {error.reason}: {said}; check address, --model, ${KEY}"
                    ) from error
                if error.code not in PASSING or tried == self.retries:
                    raise SampleError(f"{address} answers {error.code} {error.reason}: {said}") from error
            except TimeoutError as error:
                if tried == self.retries:
                    raise SampleError(
                        f"{address} does not answer within {self.timeout_s:g} s; --timeout-s, or fewer frames"
                    ) from error
            except OSError as error:  # URLError, and connections that break off
                if tried == self.retries:
                    raise RunError(f"{address} does not answer ({_reason(error)}); is the server running?") from error
            time.sleep(PAUSE_S * 2**tried)
        raise AssertionError("unreachable")

    def _post(self, address: str, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"{address.rstrip('/')}/chat/completions", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s) as answer:
                return answer.read()
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise error.reason from error
            raise


def _text(answer: bytes) -> str:
    try:
        content = json.loads(answer)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        shown = answer[:80].decode("utf-8", "replace")
        raise SampleError(f"the endpoint answers no chat completion: {shown!r}") from error
    if not isinstance(content, str):
        raise SampleError(f"the endpoint's answer has no text: {content!r}")
    return content


def _reason(error: OSError) -> str:
    reason = getattr(error, "reason", error)
    return str(getattr(reason, "strerror", None) or reason) or type(error).__name__
