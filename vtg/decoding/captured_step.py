"""Steps of decoding as CUDA graphs: one launch instead of several thousand, which take longer than the work itself."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from vtg.decoding.paged_attention import Shape

# PyTorch records one graph at a time in a process; an app has a thread for each of its models.
_recording = threading.Lock()


@dataclass
class Recorded:
    """The graph of one shape, once it was run plainly, and how often it was replayed."""

    graph: torch.cuda.CUDAGraph | None = None
    was_run: bool = False
    replays: int = 0
    compiled: bool = False


class StepGraphs:
    """Runs steps, each recorded at its second time in a shape, and replayed from then on.

    A step reads and writes the same tensors every time, and needs no look at what a tensor on the GPU holds. It is run
    while the model's GPU is the current one (`on_device`).

    Args:
        compiled_after: steps of a shape after which it is recorded anew, of compiled layers; None: never.
    """

    def __init__(self, *, compiled_after: int | None = None) -> None:
        self._compiled_after = compiled_after
        self._shapes: dict[Shape, Recorded] = {}
        self._pool: Any = None
        self._stream: Any = None

    def run(self, shape: Shape, step: Callable[[bool], None]) -> None:
        """Runs a step of this shape; `step` is told whether its layers are to be compiled."""
        one = self._shapes.setdefault(shape, Recorded())
        if not one.was_run:
            # Plainly, on a stream of its own, as a graph needs it to be before: kernels are chosen and made here.
            self._stream = self._stream or torch.cuda.Stream()
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                step(one.compiled)
            torch.cuda.current_stream().wait_stream(self._stream)
            one.was_run = True
            return
        if one.graph is None:
            one.graph = self._record(step, compiled=one.compiled)
        one.graph.replay()
        one.replays += 1
        if one.replays == self._compiled_after:
            self._shapes[shape] = Recorded(replays=one.replays, compiled=True)

    def _record(self, step: Callable[[bool], None], *, compiled: bool) -> torch.cuda.CUDAGraph:
        # No two graphs run at once, so what they compute with is one memory.
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        kind = {"dtype": torch.get_autocast_dtype("cuda"), "enabled": torch.is_autocast_enabled("cuda")}
        # The stream is that of the first run: PyTorch's own is on the GPU of whoever recorded first. By thread: the one
        # that pins the next batch allocates meanwhile, which is no error of this one.
        own: dict[str, Any] = {"pool": self._pool, "stream": self._stream, "capture_error_mode": "thread_local"}
        # Without its cache: weights that were cast before would not be cast anew, once they are trained.
        with _recording, torch.autocast("cuda", cache_enabled=False, **kind), torch.cuda.graph(graph, **own):
            step(compiled)
        return graph

    def forget(self) -> None:
        """Lets all graphs go: the tensors they are about are others now."""
        self._shapes, self._pool = {}, None
