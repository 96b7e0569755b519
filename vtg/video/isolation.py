"""Decoding in a child process: a decoder that crashes or hangs costs one sample, not the run.

The child runs `vtg.video.decode_child`; `vtg.video.decode_messages` says what goes through the pipes between the two.

- The child leads a process group, and commands that it starts are in it: all of them are killed together.
- It holds one end of a pipe that nobody writes to (the lifeline). When the parent ends, in whatever way, the pipe
  breaks, and on Linux the kernel then kills the group, even if it hangs.
- On Linux the kernel kills the child first when memory runs out. It has no memory limit of its own: what decoding may
  need depends on the machine and on how many workers share it, and torch maps much that it never touches.
- Decoding uses one core, like a DataLoader worker, unless OMP_NUM_THREADS says otherwise.
"""

import contextlib
import dataclasses
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import msgspec
import numpy as np

from vtg.config.video_settings import VideoConfig
from vtg.errors import ConfigError
from vtg.storage.fork import reset_in_children
from vtg.threads import chosen
from vtg.video.clip import Clip, DecodeError
from vtg.video.clip_loading import add_fallbacks
from vtg.video.decode_messages import BUG_EXIT, ERRORS, LENGTH, READY, DecodeAnswer, DecodeRequest, pack_message
from vtg.video.video_window import VideoWindow

# A child that imports its libraries for longer than this hangs. On a cold disk torch alone takes 20 s.
START_LIMIT_S = 300.0

# A child that has closed its end of the answers is ending; this only bounds the wait for its exit code.
EXIT_LIMIT_S = 5.0

# How much of what the child printed last is kept for error messages: room for a traceback.
OUTPUT_TAIL_BYTES = 8192


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
        self._reset()
        _loaders.add(self)

    @property
    def pid(self) -> int | None:
        """Of the child, None while there is none."""
        child = self._child
        return None if child is None else child.process.pid

    def load_clip(self, window: VideoWindow, config: VideoConfig, **options: Any) -> Clip:
        """`vtg.video.clip_loading.load_clip(window, config, **options)`, decoded in the child.

        Raises:
            DecodeError, ConfigError, ImportError: as `load_clip` does; DecodeError also if it takes longer
                than `timeout_s`, or crashes. The next request starts a new child.
            RuntimeError: a bug (anything else was raised in the child; its traceback is stated), or it cannot start.
        """
        with self._lock, contextlib.ExitStack() as unanswered:
            # Whatever happens between request and answer, Ctrl-C too, ends the child: its late answer would be taken
            # for that to the next request.
            unanswered.callback(self._end_child)
            child = self._ready_child(config)
            try:
                request = DecodeRequest.of(window, dataclasses.replace(config, isolate=False), options)
                answer, frames = child.ask(request, timeout_s=self.timeout_s)
            except TimeoutError:
                raise DecodeError(
                    f"{window.path}: decoding took longer than {self.timeout_s:.10g} s (video.timeout_s); the file may "
                    "be damaged so that its decoder hangs, else allow more time"
                ) from None
            except (EOFError, BrokenPipeError):
                code, end = child.end_report()
                if code == BUG_EXIT:
                    raise RuntimeError(
                        f"{window.path}: a bug, in the process that decodes:\n{child.printed()}"
                    ) from None
                raise DecodeError(
                    f"{window.path}: the decoder crashed ({end}); check the file, or try another video.decoder"
                ) from None
            unanswered.pop_all()
        for name, level, text in answer.log:
            logging.getLogger(name).log(level, "%s", text)
        add_fallbacks(answer.fallbacks)
        if answer.error is None:
            times_s = np.frombuffer(answer.timestamps_s).copy()
            return Clip(path=window.path, frames=frames, timestamps_s=times_s, **answer.fields)
        raise ERRORS[answer.error](answer.text)

    def close(self) -> None:
        """Ends the child once the current request is answered. A later request starts another."""
        with self._lock:
            self._end_child()

    def _ready_child(self, config: VideoConfig) -> "_Child":
        if self._child is not None and self._child.process.poll() is not None:
            self._end_child()  # it ended while idle, so no file is to blame
        if self._child is None:
            self._child = _Child(warm=config.resize == "exact")
            self._started += 1
            self.restarts = self._started - 1
            try:
                self._child.wait_until_ready()
            except (EOFError, TimeoutError) as error:
                end = "it hangs" if isinstance(error, TimeoutError) else self._child.end_report()[1]
                raise RuntimeError(
                    f"video.isolate: the process that decodes cannot be started ({end}); set video.isolate=false, or "
                    f"see what it said:\n{self._child.printed()}"
                ) from None
        return self._child

    def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def _reset(self) -> None:
        """Starts without a child: in a new loader, or after a fork, where the child belongs to the parent."""
        self._lock = threading.Lock()
        self._child: _Child | None = None

    def _after_fork(self) -> None:
        if self._child is not None:
            self._child.release()
        self._reset()
        self.restarts = self._started = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"timeout_s": self.timeout_s}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)


_loaders = reset_in_children(IsolatedLoader._after_fork)


class _Child:
    """The parent's side of a child process."""

    def __init__(self, *, warm: bool) -> None:
        # Pipes of their own: libraries print on stdout. Not `multiprocessing`: DataLoader workers are daemonic, and may
        # have no such children.
        pipes = [os.pipe() for _ in range(3)]
        (child_requests, requests), (answers, child_answers), (child_lifeline, lifeline) = pipes
        child_ends = (child_requests, child_answers, child_lifeline)
        self.requests, self.answers = open(requests, "wb", buffering=0), open(answers, "rb", buffering=0)  # noqa: SIM115
        self.lifeline = open(lifeline, "wb", buffering=0)  # noqa: SIM115
        self.output_tail = b""
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path)}
        # Workers already fill the cores. A number that `vtg.threads` set was meant for the training process.
        if "OMP_NUM_THREADS" not in environment or "OMP_NUM_THREADS" in chosen:
            environment["OMP_NUM_THREADS"] = "1"
        # -P: a file in the working directory must not shadow a library.
        try:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "vtg.video.decode_child",
                    *map(str, child_ends),
                    *(["warm"] if warm else []),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                pass_fds=child_ends,
                process_group=0,
                env=environment,
            )
        finally:
            for descriptor in child_ends:
                os.close(descriptor)
        assert self.process.stdout
        self.output = self.process.stdout

    def wait_until_ready(self) -> None:
        """Raises EOFError if it ends, TimeoutError if it takes too long."""
        ready = self._read(len(READY), time.monotonic() + START_LIMIT_S)
        assert ready.tobytes() == READY

    def ask(self, request: DecodeRequest, *, timeout_s: float) -> tuple[DecodeAnswer, np.ndarray]:
        """Raises EOFError or BrokenPipeError if the child ends, TimeoutError if it takes longer than `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        self.output_tail = b""
        message = memoryview(pack_message(request))
        while message:
            message = message[self.requests.write(message) :]
        (length,) = LENGTH.unpack(self._read(LENGTH.size, deadline).data)
        answer = msgspec.msgpack.decode(self._read(length, deadline).data, type=DecodeAnswer)
        return answer, self._read(int(np.prod(answer.shape)), deadline).reshape(answer.shape)

    def end_report(self) -> tuple[int | None, str]:
        """The exit code of a child that has closed its end, and in words how it ended and what it printed last."""
        try:
            code = self.process.wait(EXIT_LIMIT_S)
        except subprocess.TimeoutExpired:
            code = None
        os.set_blocking(self.output.fileno(), False)
        while chunk := self.output.read(OUTPUT_TAIL_BYTES):
            self._add_output(chunk)
        end = "it stopped answering" if code is None else f"exit code {code}"
        if code is not None and code < 0:
            end = signal.Signals(-code).name
        if code == -signal.SIGKILL:
            end += ", perhaps for lack of memory"
        lines = self.printed().splitlines()
        return code, f"{end}: {lines[-1].strip()}" if lines else end

    def printed(self) -> str:
        """The last that it printed since the last request."""
        return self.output_tail.decode(errors="replace").strip()

    def kill(self) -> None:
        """Ends it and all that it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._close()

    def release(self) -> None:
        """Closes a forked copy of the pipes."""
        # An open copy of the lifeline would keep the child alive when its parent ends.
        self.process.returncode = 0  # it is no child of this process, so Popen must not wait for it
        self._close()

    def _close(self) -> None:
        for file in (self.requests, self.answers, self.output, self.lifeline):
            file.close()

    def _read(self, count: int, deadline: float) -> np.ndarray:
        """The next (count,) uint8 of its answers."""
        received = np.empty(count, dtype=np.uint8)
        rest = received.data
        with selectors.PollSelector() as selector:
            selector.register(self.answers, selectors.EVENT_READ)
            # What it prints is read too: a child that fills this pipe would wait for ever.
            selector.register(self.output, selectors.EVENT_READ)
            while rest:
                events = selector.select(max(0.0, deadline - time.monotonic()))
                if not events:
                    raise TimeoutError
                for key, _ in events:
                    if key.fileobj is self.answers:
                        # Straight into the array: frames may be hundreds of megabytes, not to be copied again.
                        count_read = os.readv(key.fd, [rest])
                        if not count_read:
                            raise EOFError
                        rest = rest[count_read:]
                    elif chunk := os.read(key.fd, OUTPUT_TAIL_BYTES):
                        self._add_output(chunk)
                    else:
                        selector.unregister(self.output)
        return received

    def _add_output(self, chunk: bytes) -> None:
        self.output_tail = (self.output_tail + chunk)[-OUTPUT_TAIL_BYTES:]
