"""Long futures of many videos: one that cannot be read costs only itself, an interruption only what is not read yet."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from vtg.config.latents_schema import FutureConfig
from vtg.errors import SampleError
from vtg.latents.clip_reading import ClipReader
from vtg.latents.encoders.encoder import Encoder
from vtg.latents.future_clips import FutureClip
from vtg.latents.future_scores import HorizonScore, LatentErrors, horizon_scores, latent_errors
from vtg.latents.horizon_table import score_document, score_table
from vtg.latents.latents import Latents
from vtg.latents.predictors.future_predictor import FuturePredictor
from vtg.latents.predictors.rollout import rollout
from vtg.latents.video_sources import VideoSource
from vtg.progress_bar import ProgressBar
from vtg.video.clip import Clip
from vtg.video.video_window import VideoWindow


class RolloutRun:
    """What became of each video.

    Args:
        reader, future: of the clips that the predictor was trained on.
        ahead_s: seconds behind the context that are predicted.
        draws: futures that are drawn of each clip; 0: predictions are rolled out.
        run: what is told of the predictor.

    Attributes:
        errors: of all latents of the videos that could be read.
        failed: why others could not, a line each.
        interrupted: by Ctrl-C.
    """

    def __init__(
        self,
        encoder: Encoder,
        predictor: FuturePredictor,
        reader: ClipReader,
        *,
        future: FutureConfig,
        ahead_s: float,
        draws: int,
        run: str,
    ) -> None:
        self.encoder, self.predictor, self.reader, self.run = encoder, predictor, reader, run
        self.future, self.ahead_s, self.draws = future, ahead_s, draws
        self.errors: list[LatentErrors] = []
        self.failed: list[str] = []
        self.interrupted = False

    def read(self, sources: Sequence[VideoSource]) -> None:
        """Reads and predicts all of them."""
        try:
            with ProgressBar(len(sources), title="rolling out", unit="video") as bar:
                for source in sources:
                    self._read(source)
                    bar.update()
        except KeyboardInterrupt:
            self.interrupted = True

    def document(self) -> dict[str, Any]:
        """As JSON."""
        settings = {"run": self.run, "ahead_s": self.ahead_s, "draws": self.draws}
        return settings | {"scores": score_document(self._scores()), "failed": self.failed}

    def lines(self) -> list[str]:
        """For a terminal."""
        if not self.errors:
            return ["no video could be scored"]
        return score_table(self._scores())

    def _scores(self) -> list[HorizonScore]:
        return horizon_scores(self.errors, bin_s=self.future.horizon_s)

    def _read(self, source: VideoSource) -> None:
        try:
            found = [
                row for clip, chunk in self._clips(source.window) for row in self._errors(source.name, clip, chunk)
            ]
        except SampleError as error:
            self.failed.append(str(error))
            return
        self.errors += found

    def _clips(self, window: VideoWindow) -> Iterator[tuple[FutureClip, int]]:
        """The clips of a window, one after another, and how many frames of their targets were one target in training.

        Raises:
            SampleError: the window cannot be read, or ends before anything is left to predict.
        """
        settings, context_s = self.reader.settings, self.future.context_s
        step_s = self.reader.span_s(window) / settings.n_frames
        count = round((context_s + self.ahead_s) / step_s)
        seconds = None if settings.seconds is None else count * step_s
        longer = ClipReader(replace(settings, n_frames=count, seconds=seconds), frame_size_px=self.reader.frame_size_px)
        trained = max(1, settings.n_frames - round(context_s / step_s))
        start_s = 0.0
        while start_s == 0 or start_s + context_s + step_s <= self.reader.length_s(window):
            clip = longer.clip(window, start_s=start_s)
            yield FutureClip.of(clip, context_s=context_s, step_s=step_s), trained
            start_s += count * step_s

    @torch.no_grad()
    def _errors(self, name: str, clip: FutureClip, chunk: int) -> list[LatentErrors]:
        context = self.encoder.encode([clip.context])
        # Encoders that attend over time are shown as much at once as in training.
        parts = [self.encoder.encode([part]) for part in _parts(clip.target, chunk)]
        target = Latents(
            torch.cat([part.values for part in parts], dim=2),
            torch.cat([part.times_s for part in parts], dim=1),
            torch.cat([part.observed for part in parts], dim=1),
        )
        window = parts[0].values.shape[2]
        # The same video has the same futures, whichever are beside it.
        generator = torch.Generator().manual_seed(0)

        def rolled(drawn: bool) -> torch.Tensor:
            return rollout(self.predictor, context, target.times_s, window=window, drawn=drawn, generator=generator)

        futures = torch.stack([rolled(True) for _ in range(self.draws)]) if self.draws else None
        said = rolled(False) if futures is None else futures.mean(dim=0)
        return latent_errors(said, context, target, [name], self.predictor.normalizer, futures=futures)


def _parts(clip: Clip, frames: int) -> list[Clip]:
    """Clips of so many of its frames, the last of what is left."""
    cuts = np.arange(frames, len(clip.frames), frames)
    pieces = zip(np.split(clip.frames, cuts), np.split(clip.timestamps_s, cuts), strict=True)
    return [replace(clip, frames=shown, timestamps_s=times_s, pad=0) for shown, times_s in pieces]
