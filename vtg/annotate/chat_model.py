"""What an annotation asks: a model behind an endpoint, or one in this process."""

from collections.abc import Sequence
from typing import Any, Protocol

from vtg.tasks.json_form import JsonForm


class ChatModel(Protocol):
    """Answers conversations; several threads may ask it at once."""

    @property
    def identity(self) -> dict[str, Any]:
        """`model`, its name, and what else tells it from another: it stands with every row."""
        ...

    def complete(self, messages: Sequence[dict[str, Any]], form: JsonForm | None = None) -> str:
        """The answer to a conversation in OpenAI's form, without chance.

        Args:
            messages: text, pictures as data and videos as addresses; the last is the user's.
            form: what the answer must be. A model in this process can write nothing else; to others the prompt says it.

        Raises:
            RunError: it cannot be asked any further.
            SampleError: this question has no answer.
        """
        ...
