"""Boundaries of many videos: one that cannot be read costs only itself, an interruption only what is not read yet."""

from collections.abc import Sequence
from typing import Any

from vtg.errors import SampleError
from vtg.latents.boundaries.found_boundaries import FoundBoundaries, end_recalls
from vtg.latents.boundaries.surprise import SurpriseReader
from vtg.latents.video_sources import VideoSource
from vtg.progress_bar import ProgressBar


class BoundaryRun:
    """What became of each video.

    Attributes:
        found: of those that could be read, in order.
        failed: why others could not, a line each.
        interrupted: by Ctrl-C.
    """

    def __init__(self, sources: Sequence[VideoSource], *, threshold: float, min_gap_s: float) -> None:
        self.sources, self.threshold, self.min_gap_s = sources, threshold, min_gap_s
        self.found: list[FoundBoundaries] = []
        self.failed: list[str] = []
        self.interrupted = False

    def read(self, reader: SurpriseReader) -> None:
        """Reads all of them."""
        try:
            # Of latents, as one long video takes as long as many short ones; how many there are, no file tells.
            with ProgressBar(None, title="predicting", unit="latent") as bar:
                for number, source in enumerate(self.sources, 1):
                    bar.note({"video": f"{number}/{len(self.sources)}"})
                    self._read(source, reader, bar)
        except KeyboardInterrupt:
            self.interrupted = True

    def _read(self, source: VideoSource, reader: SurpriseReader, bar: ProgressBar) -> None:
        try:
            surprise = reader.read(source.window, told=bar.update)
        except SampleError as error:
            self.failed.append(str(error))
            return
        self.found.append(FoundBoundaries.of(source, surprise, threshold=self.threshold, min_gap_s=self.min_gap_s))

    def rows(self) -> list[dict[str, Any]]:
        """Those of all spans."""
        return [row for one in self.found for row in one.rows()]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "report": "vtg.latents boundaries",
            "threshold": self.threshold,
            "min_gap_s": self.min_gap_s,
            "videos": [one.document() for one in self.found],
            "failed": self.failed,
            "annotated_ends": end_recalls(self.found),
        }

    def lines(self) -> list[str]:
        """For a terminal."""
        lines = []
        for one in self.found:
            count = len(one.times_s)
            at = ", ".join(f"{time_s:.2f}" for time_s in one.times_s)
            said = f"{count} {'boundary' if count == 1 else 'boundaries'}"
            lines.append(f"{one.source.name}: {said} in {one.duration_s:.1f} s{f': {at}' if at else ''}")
        if (recalls := end_recalls(self.found)) is not None:
            lines.append(
                f"{recalls['recall']:.0%} of {recalls['ends']} annotated ends have a boundary within "
                f"{recalls['tolerance_s']} s; {recalls['uniform_cuts']:.0%} with as many uniform cuts"
            )
        if self.interrupted:
            lines.append(f"interrupted after {len(self.found)} of {len(self.sources)} videos")
        return lines
