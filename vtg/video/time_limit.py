"""A limit for calls into libraries that may block for ever: a dead network drive, a file that a decoder loops on."""

import threading
from collections.abc import Callable
from typing import Any


def within(seconds: float, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`function(*args, **kwargs)`, called in a thread of its own, which is abandoned where it takes too long.

    Works for calls that block without Python's global lock, as decoders and file systems do; what blocks with it needs
    a process (`vtg.video.isolation`).

    Raises:
        TimeoutError: it took longer than `seconds`.
        Exception: what the function raised.
    """
    outcome = _Outcome()

    def call() -> None:
        with outcome:
            outcome.result = function(*args, **kwargs)

    # A thread cannot be ended: an abandoned one keeps its memory until the process ends; as a daemon it does not delay
    # that end.
    thread = threading.Thread(target=call, name=f"within {seconds:g} s", daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome.is_known:
        raise TimeoutError(f"took longer than {seconds:.10g} s")
    if outcome.error is not None:
        raise outcome.error
    return outcome.result


class _Outcome:
    """The result of a call in another thread, or what it raised, for the thread that waits."""

    result: Any = None
    error: BaseException | None = None
    is_known = False

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        self.error, self.is_known = error, True
        return True
