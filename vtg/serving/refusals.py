"""What a client is told where a server does not do what it asks: a sentence, and HTTP's number for its kind."""

from vtg.errors import ConfigError, SampleError


class Refused(Exception):
    """A request that is not answered.

    Attributes:
        status: HTTP's number: 400 wrong, 401 no key, 403 not allowed, 404 not there, 413 too large, 429 too many at
            once, 499 its client has gone, 503 the model has stopped, 504 it took too long.
        code: the same in a word, for programs.
    """

    def __init__(self, message: str, *, status: int, code: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


ANSWERED_AS_WRONG = (ConfigError, SampleError)
"""Errors of the input alone: a setting that cannot be, a video that cannot be read. A client is told them as 400."""


def wrong(message: str) -> Refused:
    return Refused(message, status=400, code="invalid_value")


def not_allowed(message: str) -> Refused:
    return Refused(message, status=403, code="not_allowed")


def too_large(message: str) -> Refused:
    return Refused(message, status=413, code="too_large")


def busy(message: str) -> Refused:
    return Refused(f"{message}; try again in a moment", status=429, code="busy")


def stopped(message: str) -> Refused:
    return Refused(message, status=503, code="stopped")


def too_slow(message: str) -> Refused:
    return Refused(message, status=504, code="timeout")


def gone() -> Refused:
    """Nobody reads it: the number is the one that nginx writes into its log for clients that have closed."""
    return Refused("the client has gone", status=499, code="gone")
