"""The process that decodes for an `IsolatedLoader` (`python -m vtg.video.decode_child`); see `vtg.video.isolation`."""

import dataclasses
import fcntl
import logging
import os
import signal
import sys
import traceback
from types import TracebackType
from typing import NoReturn

import msgspec
import numpy as np

from vtg.video.clip_loading import load_clip, take_fallbacks
from vtg.video.decode_messages import ARRAYS, BUG_EXIT, ERRORS, LENGTH, READY, DecodeAnswer, DecodeRequest, pack_message


class _RecordCollector(logging.Handler):
    """Collects log records, which the next answer takes along: the child has no log file or console of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[tuple[str, int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append((record.name, record.levelno, _printable(record.getMessage())))


def _serve() -> NoReturn:
    """Answers requests until the parent closes the pipe."""
    sys.excepthook = _end_with_traceback
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    requests, answers, lifeline = map(int, sys.argv[1:4])
    for descriptor in (requests, answers, lifeline):
        os.set_inheritable(descriptor, False)
    if sys.platform == "linux":
        _die_with_parent(lifeline)
        # The kernel kills this process first when memory runs out: it costs one sample, killing a worker the run.
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    collector = _RecordCollector()
    logging.getLogger("vtg").addHandler(collector)

    if "warm" in sys.argv:
        # Resizing imports torch, which takes seconds: before READY they do not count as the first file's time.
        from vtg.video.decoders.picture import resized

        resized(np.zeros((1, 2, 2, 3), dtype=np.uint8), (1, 1))
    _write(answers, READY)
    with open(requests, "rb") as stream:
        while length := stream.read(LENGTH.size):
            request = msgspec.msgpack.decode(stream.read(LENGTH.unpack(length)[0]), type=DecodeRequest)
            answer, frames = _decode(request)
            answer.log, collector.records = collector.records, []
            answer.fallbacks = take_fallbacks()
            _write(answers, pack_message(answer))
            _write(answers, frames)
            del frames, answer  # a whole clip is not to stay in memory while this waits for the next request
    os._exit(0)  # nothing to save, and libraries can crash while they are unloaded


def _decode(request: DecodeRequest) -> tuple[DecodeAnswer, memoryview]:
    """The answer to a request (an error that the file explains is one), and the bytes of its frames."""
    try:
        os.chdir(request.folder)
        clip = load_clip(request.window, request.config, **request.options)
        rest = {field.name: getattr(clip, field.name) for field in dataclasses.fields(clip) if field.name != "path"}
        frames, times_s = (np.ascontiguousarray(rest.pop(name)) for name in ARRAYS)
        return DecodeAnswer(fields=rest, shape=frames.shape, timestamps_s=times_s.tobytes()), frames.data.cast("B")
    except MemoryError:
        path = _printable(request.window.path)
        answer = DecodeAnswer("DecodeError", f"{path}: not enough memory to decode it; check the file")
    except tuple(ERRORS.values()) as error:
        name = next(name for name, kind in ERRORS.items() if isinstance(error, kind))
        answer = DecodeAnswer(name, _printable(str(error)))
    return answer, memoryview(b"")


def _printable(text: str) -> str:
    """Text that can be sent: names of files need not be valid UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def _end_with_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    traceback.print_exception(kind, error, trace)
    sys.stderr.flush()
    os._exit(BUG_EXIT)


def _die_with_parent(lifeline: int) -> None:
    """Has the kernel kill this process group when the other end of `lifeline` is closed."""
    # Asynchronous I/O with SIGKILL as its signal works even while a decoder hangs and no Python code can run. A
    # parent-death signal (prctl) would come already when the *thread* that started this process ends.
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)


def _write(descriptor: int, data: bytes | memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


if __name__ == "__main__":
    _serve()
