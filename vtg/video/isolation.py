"""Decoding in a child process: a decoder that crashes or hangs costs one sample, not the run.

The child runs this module. Requests and answers go through pipes of their own (libraries print on stdout): four bytes
of length, a msgpack header, and after an answer's header the frames as they are in memory. It is a process of its own,
not a `multiprocessing` one, because DataLoader workers may have no such children.

- The child leads a process group, and commands that it starts are in it: all of them are killed together.
- It holds one end of a pipe that nobody writes to (the lifeline). When the parent ends, in whatever way, the pipe
  breaks, and on Linux the kernel kills the group then, even if it hangs. (A parent-death signal would come when the
  *thread* that started the child ends.)
- On Linux the child is what the kernel kills first when memory runs out. There is no memory limit beside that: what
  decoding may need depends on the machine and on how many workers share it, and torch maps much that it never touches.
- Decoding uses one core, like a DataLoader worker, unless OMP_NUM_THREADS says otherwise.
"""

import contextlib
import dataclasses
import fcntl
import logging
import os
import selectors
import signal
import struct
import subprocess
import sys
import threading
import time
import traceback
import weakref
from types import TracebackType
from typing import Any, NoReturn

import msgspec
import numpy as np

from vtg.config.schema import VideoConfig
from vtg.errors import ConfigError, RunError, SampleError
from vtg.threads import chosen
from vtg.video.clip import Clip, DecodeError
from vtg.video.clip_loading import add_fallbacks, load_clip, take_fallbacks

START_LIMIT_S = 300.0
"""A child that takes longer to import its libraries than this will not come. On a cold disk torch alone takes 20 s."""

EXIT_LIMIT_S = 5.0
"""A child that has closed its end of the answers ends within this."""

NOISE_BYTES = 8192
"""The last part of what the child prints is kept, for messages."""

BUG_EXIT = 70
"""Exit code of a child that met an error that no file explains; its traceback is the last that it printed."""

READY = b"R"
LENGTH = struct.Struct("<I")
ARRAYS = ("frames", "timestamps_s")
ERRORS: dict[str, type[Exception]] = {
    "DecodeError": DecodeError,
    "SampleError": SampleError,
    "ConfigError": ConfigError,
    "RunError": RunError,
    "ImportError": ImportError,
}
"""Errors that come back as they were raised. The first that fits names an error, so subclasses stand first."""


class Request(msgspec.Struct):
    """What to load. `folder`: the parent's working directory, which relative paths begin at."""

    path: bytes
    config: VideoConfig
    times: dict[str, Any]
    folder: bytes


class Answer(msgspec.Struct):
    """An error, or a clip whose frames follow.

    Attributes:
        error, text: a key of ERRORS and the message; None if there is a clip.
        fields: the Clip's, without its arrays.
        shape: of the frames, which follow as uint8.
        timestamps_s: float64 bytes.
        log: (logger, level, message) of what was logged meanwhile.
        fallbacks: decoders that stood in (`vtg.video.clip_loading.take_fallbacks`).
    """

    error: str | None = None
    text: str = ""
    fields: dict[str, Any] = {}
    shape: tuple[int, ...] = (0,)
    timestamps_s: bytes = b""
    log: list[tuple[str, int, str]] = []
    fallbacks: dict[str, int] = {}


class IsolatedLoader:
    """`load_clip` in a child process of its own, which starts with the first request and serves many.

    Safe to share between threads: requests wait for each other. A forked or pickled copy starts a child of its own.

    Args:
        timeout_s: how long one clip may take. The start of a child is not counted.

    Attributes:
        restarts: children started after the first.
    """

    def __init__(self, *, timeout_s: float) -> None:
        if not timeout_s > 0:
            raise ConfigError(f"video.timeout_s = {timeout_s}: seconds for one clip, must be above 0")
        self.timeout_s = timeout_s
        self.restarts = 0
        self._started = 0
        self._forget()
        _loaders.add(self)

    @property
    def pid(self) -> int | None:
        """Of the child, None while there is none."""
        child = self._child
        return None if child is None else child.process.pid

    def load_clip(self, path: str, config: VideoConfig, **times: Any) -> Clip:
        """`vtg.video.clip_loading.load_clip(path, config, **times)`, decoded in the child.

        Raises:
            DecodeError, SampleError, ConfigError, ImportError: as `load_clip` does; DecodeError also if it takes longer
                than `timeout_s`, or crashes. The next request starts a new child.
            RuntimeError: a bug (anything else was raised in the child; its traceback is stated), or it cannot start.
        """
        with self._lock, contextlib.ExitStack() as failing:
            # Whatever happens between question and answer, Ctrl-C too: the next answer would be to the wrong question.
            failing.callback(self._end_child)
            child = self._ready_child(config)
            try:
                request = Request(os.fsencode(path), dataclasses.replace(config, isolate=False), times, os.getcwdb())
                answer, frames = child.ask(request, timeout_s=self.timeout_s)
            except TimeoutError:
                raise DecodeError(
                    f"{path}: decoding took longer than {self.timeout_s:.10g} s (video.timeout_s); the file may be "
                    "damaged so that its decoder hangs, else allow more time"
                ) from None
            except (EOFError, BrokenPipeError):
                code, end = child.last_words()
                if code == BUG_EXIT:
                    raise RuntimeError(f"{path}: a bug, in the process that decodes:\n{child.printed()}") from None
                raise DecodeError(
                    f"{path}: the decoder crashed ({end}); check the file, or try another video.decoder"
                ) from None
            failing.pop_all()
        for name, level, text in answer.log:
            logging.getLogger(name).log(level, "%s", text)
        add_fallbacks(answer.fallbacks)
        if answer.error is None:
            times_s = np.frombuffer(answer.timestamps_s).copy()
            return Clip(path=path, frames=frames, timestamps_s=times_s, **answer.fields)
        raise ERRORS[answer.error](answer.text)

    def close(self) -> None:
        """Ends the child, after the request under way if there is one. A later request starts another."""
        with self._lock:
            self._end_child()

    def _ready_child(self, config: VideoConfig) -> "_Child":
        if self._child is not None and self._child.process.poll() is not None:
            self._end_child()  # it ended while it had nothing to do: nobody's fault
        if self._child is None:
            self._child = _Child(warm=config.resize == "exact")
            self._started += 1
            self.restarts = self._started - 1
            try:
                self._child.wait_until_ready()
            except (EOFError, TimeoutError) as error:
                end = "it hangs" if isinstance(error, TimeoutError) else self._child.last_words()[1]
                raise RuntimeError(
                    f"video.isolate: the process that decodes cannot be started ({end}); set video.isolate=false, or "
                    f"see what it said:\n{self._child.printed()}"
                ) from None
        return self._child

    def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def _forget(self) -> None:
        """Begins without a child: in a new loader, or after a fork, where the child is the parent's."""
        self._lock = threading.Lock()
        self._child: _Child | None = None

    def _after_fork(self) -> None:
        if self._child is not None:
            self._child.let_go()
        self._forget()
        self.restarts = self._started = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"timeout_s": self.timeout_s}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)


_loaders: weakref.WeakSet[IsolatedLoader] = weakref.WeakSet()


def _after_fork() -> None:
    for loader in list(_loaders):
        loader._after_fork()


os.register_at_fork(after_in_child=_after_fork)


class _Child:
    """The parent's side of a child process."""

    def __init__(self, *, warm: bool) -> None:
        pipes = [os.pipe() for _ in range(3)]
        (asked, requests), (answers, answered), (held, lifeline) = pipes
        theirs = (asked, answered, held)
        self.requests, self.answers = open(requests, "wb", buffering=0), open(answers, "rb", buffering=0)  # noqa: SIM115
        self.lifeline = open(lifeline, "wb", buffering=0)  # noqa: SIM115
        self.noise = b""
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path)}
        if "OMP_NUM_THREADS" not in environment or "OMP_NUM_THREADS" in chosen:
            environment["OMP_NUM_THREADS"] = "1"
        # -P: what lies in the working directory is not to shadow a library
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "vtg.video.isolation", *map(str, theirs), *(["warm"] if warm else [])],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                pass_fds=theirs,
                process_group=0,
                env=environment,
            )
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        assert self.process.stdout
        self.output = self.process.stdout

    def wait_until_ready(self) -> None:
        """Raises EOFError if it ends, TimeoutError if it takes too long."""
        ready = self._read(len(READY), time.monotonic() + START_LIMIT_S)
        assert ready.tobytes() == READY

    def ask(self, request: Request, *, timeout_s: float) -> tuple[Answer, np.ndarray]:
        """Raises EOFError or BrokenPipeError if the child ends, TimeoutError if it takes longer than `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        self.noise = b""
        message = memoryview(_packed(request))
        while message:
            message = message[self.requests.write(message) :]
        (length,) = LENGTH.unpack(self._read(LENGTH.size, deadline).data)
        answer = msgspec.msgpack.decode(self._read(length, deadline).data, type=Answer)
        return answer, self._read(int(np.prod(answer.shape)), deadline).reshape(answer.shape)

    def last_words(self) -> tuple[int | None, str]:
        """Of a child that has closed its end: its exit code, and in words how it ended and what it printed last."""
        try:
            code = self.process.wait(EXIT_LIMIT_S)
        except subprocess.TimeoutExpired:
            code = None
        os.set_blocking(self.output.fileno(), False)
        while chunk := self.output.read(NOISE_BYTES):
            self._keep(chunk)
        end = "it stopped answering" if code is None else f"exit code {code}"
        if code is not None and code < 0:
            end = signal.Signals(-code).name
        if code == -signal.SIGKILL:
            end += ", perhaps for lack of memory"
        said = self.printed().splitlines()
        return code, f"{end}: {said[-1].strip()}" if said else end

    def printed(self) -> str:
        """What it printed lately."""
        return self.noise.decode(errors="replace").strip()

    def kill(self) -> None:
        """Ends it and all that it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._close()

    def let_go(self) -> None:
        """Closes a forked copy of the pipes, so that the child's end is the parent's business alone."""
        self.process.returncode = 0  # not to be waited for here
        self._close()

    def _close(self) -> None:
        for file in (self.requests, self.answers, self.output, self.lifeline):
            file.close()

    def _read(self, count: int, deadline: float) -> np.ndarray:
        """The next (count,) uint8 of its answers; what it prints is read meanwhile, lest it wait for that."""
        received = np.empty(count, dtype=np.uint8)
        rest = received.data
        with selectors.PollSelector() as selector:
            selector.register(self.answers, selectors.EVENT_READ)
            selector.register(self.output, selectors.EVENT_READ)
            while rest:
                events = selector.select(max(0.0, deadline - time.monotonic()))
                if not events:
                    raise TimeoutError
                for key, _ in events:
                    if key.fileobj is self.answers:
                        got = os.readv(key.fd, [rest])
                        if not got:
                            raise EOFError
                        rest = rest[got:]
                    elif chunk := os.read(key.fd, NOISE_BYTES):
                        self._keep(chunk)
                    else:
                        selector.unregister(self.output)
        return received

    def _keep(self, chunk: bytes) -> None:
        self.noise = (self.noise + chunk)[-NOISE_BYTES:]


def _packed(message: Request | Answer) -> bytes:
    """The message with its length before it."""
    body = msgspec.msgpack.encode(message, enc_hook=_plain)
    return LENGTH.pack(len(body)) + body


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"{type(value).__name__} cannot be sent to the process that decodes")


class _Kept(logging.Handler):
    """Log records that the next answer takes along."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[tuple[str, int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append((record.name, record.levelno, _printable(record.getMessage())))


def _serve() -> NoReturn:
    """What the child does: answers requests until there are no more."""
    sys.excepthook = _end_with_traceback
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    requests, answers, lifeline = map(int, sys.argv[1:4])
    for descriptor in (requests, answers, lifeline):
        os.set_inheritable(descriptor, False)
    if sys.platform == "linux":
        _die_with_parent(lifeline)
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    kept = _Kept()
    logging.getLogger("vtg").addHandler(kept)

    if "warm" in sys.argv:
        # What resizing imports takes seconds, which are no file's fault.
        from vtg.video.decoders.picture import resized

        resized(np.zeros((1, 2, 2, 3), dtype=np.uint8), (1, 1))
    _write(answers, READY)
    with open(requests, "rb") as stream:
        while length := stream.read(LENGTH.size):
            request = msgspec.msgpack.decode(stream.read(LENGTH.unpack(length)[0]), type=Request)
            frames = memoryview(b"")
            try:
                os.chdir(request.folder)
                path = os.fsdecode(request.path)
                clip = load_clip(path, request.config, **request.times)
                rest = {
                    field.name: getattr(clip, field.name) for field in dataclasses.fields(clip) if field.name != "path"
                }
                pictures, times_s = (np.ascontiguousarray(rest.pop(name)) for name in ARRAYS)
                frames = pictures.data.cast("B")
                answer = Answer(fields=rest, shape=pictures.shape, timestamps_s=times_s.tobytes())
                del clip, pictures
            except MemoryError:
                answer = Answer("DecodeError", f"{_printable(path)}: not enough memory to decode it; check the file")
            except tuple(ERRORS.values()) as error:
                answer = Answer(
                    next(name for name, kind in ERRORS.items() if isinstance(error, kind)), _printable(str(error))
                )
            answer.log, kept.records = kept.records, []
            answer.fallbacks = take_fallbacks()
            _write(answers, _packed(answer))
            _write(answers, frames)
            del frames, answer  # not to be held while waiting
    os._exit(0)  # nothing to save, and libraries can crash while they are unloaded


def _printable(text: str) -> str:
    """Text that can be sent: names of files need not be valid UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def _end_with_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    traceback.print_exception(kind, error, trace)
    sys.stderr.flush()
    os._exit(BUG_EXIT)


def _die_with_parent(lifeline: int) -> None:
    """Has the kernel kill this process group when the other end of `lifeline` is closed."""
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)


def _write(descriptor: int, data: bytes | memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


if __name__ == "__main__":
    _serve()
