"""A limit for calls into libraries that may block for ever: a dead network drive, a file that a decoder loops on."""

import threading
from collections.abc import Callable
from typing import Any


def within(seconds: float, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`function(*args, **kwargs)`, called in a thread of its own, which is left behind where it takes too long.

    A thread cannot be ended: one that is left behind keeps what it holds until the process ends, which it does not
    hold up. Decoders and file systems block without Python's lock; what blocks with it needs a process
    (`vtg.video.isolation`).

    Raises:
        TimeoutError: it took longer than `seconds`.
        Exception: what the function raised.
    """
    outcome = _Outcome()

    def call() -> None:
        with outcome:
            outcome.result = function(*args, **kwargs)

    thread = threading.Thread(target=call, name=f"within {seconds:g} s", daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome.is_known:
        raise TimeoutError(f"took longer than {seconds:.10g} s")
    if outcome.error is not None:
        raise outcome.error
    return outcome.result


class _Outcome:
    """What becomes of a call in another thread: what was raised is kept for the thread that waits."""

    result: Any = None
    error: BaseException | None = None
    is_known = False

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        self.error, self.is_known = error, True
        return True
