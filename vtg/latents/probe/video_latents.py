"""Latents along a whole video, as a few features of each moment."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from vtg.latents.latent_reading import LatentReader
from vtg.video.video_window import VideoWindow

# Cells a side of the grid that are told apart: where something is, roughly, and no more numbers than can be fitted.
CELLS = 2


@dataclass(frozen=True)
class VideoLatents:
    """`features`: (T, F) float64 of latents at `times_s`, (T,) seconds of the row's window of `duration_s`."""

    times_s: np.ndarray
    features: np.ndarray
    duration_s: float

    @property
    def edges_s(self) -> np.ndarray:
        """(T + 1,): each latent stands for the time until halfway to the next one."""
        middles = (self.times_s[1:] + self.times_s[:-1]) / 2
        return np.concatenate([[0.0], middles, [self.duration_s]])


def read_latents(reader: LatentReader, window: VideoWindow) -> VideoLatents:
    """Those of clips that follow one another over a row's window.

    Raises:
        DecodeError, SampleError: see `ClipReader.clip`.
    """
    clips = reader.clips.reader
    span_s = clips.span_s(window)
    # The last clip may be shorter than its frame before is shown, and have none of its own.
    starts = np.unique((clips.times_s(window) // span_s).astype(int)) * span_s
    times_s, features = [], []
    for start_s in starts.tolist():
        latents = reader.read([(window, start_s)])
        seen = latents.observed[0]
        values = latents.values[0][:, seen].float().movedim(1, 0)
        cells = (min(CELLS, values.shape[-2]), min(CELLS, values.shape[-1]))
        features.append(functional.adaptive_avg_pool2d(values, cells).flatten(1).double().cpu().numpy())
        times_s.append(latents.times_s[0][seen].cpu().numpy() + start_s)
    return VideoLatents(np.concatenate(times_s), np.concatenate(features), clips.length_s(window))


class Components:
    """The directions in which training latents differ most, each scaled to a deviation of 1, and a last 1."""

    def __init__(self, features: np.ndarray, count: int) -> None:
        self.mean = features.mean(axis=0)
        # The covariance rather than the latents: there are more of them than features.
        centred = torch.from_numpy(features - self.mean)
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(features))
        kept = [at for at in range(len(values) - 1, -1, -1)[:count] if values[at] > 1e-9 * values[-1]]
        self.axes = (vectors[:, kept] / values[kept].sqrt()).numpy()

    def of(self, features: np.ndarray) -> np.ndarray:
        """(T, count + 1) of (T, F)."""
        return np.concatenate([(features - self.mean) @ self.axes, np.ones((len(features), 1))], axis=1)
