"""Steps of decoding as CUDA graphs: one launch instead of several thousand, which take longer than the work itself."""

from collections.abc import Callable
from typing import Any

import torch

from vtg.decoding.paged_attention import Shape


class StepGraphs:
    """Runs steps, each recorded at its second time in a shape, and replayed from then on.

    A step reads and writes the same tensors every time, and needs no look at what a tensor on the GPU holds.
    """

    def __init__(self) -> None:
        self._graphs: dict[Shape, torch.cuda.CUDAGraph | None] = {}
        self._pool: Any = None

    def run(self, shape: Shape, step: Callable[[], None]) -> None:
        graph = self._graphs.get(shape)
        if graph is not None:
            graph.replay()
            return
        if shape not in self._graphs:
            # Plainly, on a stream of its own, as a graph needs it to be before: kernels are chosen and made here.
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                step()
            torch.cuda.current_stream().wait_stream(stream)
            self._graphs[shape] = None
            return
        # No two graphs run at once, so what they compute with is one memory.
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        kind = {"dtype": torch.get_autocast_dtype("cuda"), "enabled": torch.is_autocast_enabled("cuda")}
        # Without its cache: weights that were cast before would not be cast anew, once they are trained.
        with torch.autocast("cuda", cache_enabled=False, **kind), torch.cuda.graph(graph, pool=self._pool):
            step()
        self._graphs[shape] = graph
        graph.replay()

    def forget(self) -> None:
        """Lets all graphs go: the tensors they are about are others now."""
        self._graphs, self._pool = {}, None
