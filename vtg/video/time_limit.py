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
    result: list[Any] = []
    failure: list[BaseException] = []

    def call() -> None:
        try:
            result.append(function(*args, **kwargs))
        except BaseException as error:  # handed on below
            failure.append(error)

    thread = threading.Thread(target=call, name=f"within {seconds:g} s", daemon=True)
    thread.start()
    thread.join(seconds)
    if failure:
        raise failure[0]
    if not result:
        raise TimeoutError(f"took longer than {seconds:.10g} s")
    return result[0]
