"""A few test clips for the report: their frames, their latents as colours, and those as predicted."""

import base64
import io
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vtg.latents.future_clips import FutureLatents
from vtg.latents.future_model import FutureModel, generators
from vtg.latents.latents import Latents
from vtg.storage.json_files import write_json
from vtg.training.latents.clip_dataset import ClipDataset, ClipItem
from vtg.video.clip import Clip

SHOWN_FILE = "shown_futures.json"
"""In a run directory: {"clips": [{"video": …, "rows": [[name, picture of each time or null], …]}, …], …}."""

SHOWN_CLIPS = 6
FRAME_PX = 64
"""Pixels of the longer side of a frame."""

# The few latents that lie far out would leave the others one colour.
OUTLIERS_PERCENT = 1


@torch.no_grad()
def write_shown_futures(run_dir: Path, model: FutureModel, dataset: ClipDataset) -> None:
    """Predicts the first clips of a data set, and writes `SHOWN_FILE`."""
    was_training = model.training
    model.eval()
    shown: list[tuple[ClipItem, FutureLatents, list[tuple[str, torch.Tensor]]]] = []
    for index in range(len(dataset)):
        item = dataset[index]
        if item.found is not None:
            latents = model.encoded([item.found], dataset.reader)
            shown.append((item, latents, _predicted(model, latents, item.seed)))
        # The first ones, and no choice of good or bad ones: two runs of one data set show the same clips.
        if len(shown) == SHOWN_CLIPS:
            break
    model.train(was_training)
    # All of them may be too short, which the table of errors says.
    if not shown:
        return
    colours = Colours(model, [part for _, latents, _ in shown for part in (latents.context, latents.target)])
    clips = [_clip(dataset, *one, colours) for one in shown]
    write_json(run_dir / SHOWN_FILE, {"clips": clips, "variance_shown": colours.share})


def _predicted(model: FutureModel, latents: FutureLatents, seed: int) -> list[tuple[str, torch.Tensor]]:
    """(name, (1, D, T2, H, W)) of what is predicted: the prediction, and one drawn future where others are possible."""
    asked = latents.context, latents.target.times_s, generators([seed])
    found = [("predicted", model.predictor.predict(*asked))]
    # Of a regression it is the prediction again, which need not be shown twice.
    drawn = model.predictor.futures(*asked, count=1)[0]
    if not torch.equal(drawn, found[0][1]):
        found.append(("one future drawn", drawn))
    return found


class Colours:
    """Latents as colours: their first three principal components over all that are shown, normalised.

    Attributes:
        share: of their variance that these components hold.
    """

    def __init__(self, model: FutureModel, parts: list[Latents]) -> None:
        self.normalizer = model.predictor.normalizer
        dim = model.encoder.dim
        rows = np.concatenate([self._rows(part.values)[_there(part)].reshape(-1, dim) for part in parts])
        self.middle = rows.mean(axis=0)
        # Of a few clips alone: they have few hundred latents, and colours that tell those apart.
        _, sizes, axes = np.linalg.svd(rows - self.middle, full_matrices=False)
        self.axes = axes[:3]
        self.share = float((sizes[:3] ** 2).sum() / max((sizes**2).sum(), np.finfo(float).tiny))
        found = (rows - self.middle) @ self.axes.T
        self.low, self.high = np.percentile(found, [OUTLIERS_PERCENT, 100 - OUTLIERS_PERCENT], axis=0)

    def pictures(self, values: torch.Tensor) -> list[str]:
        """One of each time of a clip's latents, (1, D, T, H, W)."""
        found = (self._rows(values) - self.middle) @ self.axes.T
        share = np.clip((found - self.low) / np.maximum(self.high - self.low, np.finfo(float).tiny), 0, 1)
        pixels = np.zeros((*share.shape[:-1], 3), np.uint8)
        # An encoder of fewer than three channels leaves the others black.
        pixels[..., : share.shape[-1]] = np.round(255 * share)
        return [_encoded(pixels[at], "PNG") for at in range(len(pixels))]

    def _rows(self, values: torch.Tensor) -> np.ndarray:
        """(T, H, W, D)."""
        return self.normalizer(values)[0].permute(1, 2, 3, 0).double().cpu().numpy()


def _clip(
    dataset: ClipDataset,
    item: ClipItem,
    latents: FutureLatents,
    predicted: list[tuple[str, torch.Tensor]],
    colours: Colours,
) -> dict[str, Any]:
    window, sample = dataset.rows[item.index]
    parts = [latents.context, latents.target]
    seen, ahead = int(_there(latents.context).sum()), _there(latents.target)
    # Decoded again: of a clip in the cache there are no frames.
    clip = dataset.reader.reader.clip(window, start_s=item.start_s)
    shown_s = np.concatenate([part.times_s[0].cpu().numpy()[_there(part)] for part in parts])
    true = [picture for part in parts for picture in compress(colours.pictures(part.values), _there(part))]
    rows: list[list[Any]] = [["frames", [_frame(clip, float(time_s)) for time_s in shown_s]], ["latents", true]]
    for name, values in predicted:
        rows.append([name, [*([None] * seen), *compress(colours.pictures(values), ahead)]])
    return {
        "video": sample.video,
        "start_s": item.start_s,
        "times_s": [round(float(time_s), 3) for time_s in shown_s],
        "seen": seen,
        "rows": rows,
    }


def _there(latents: Latents) -> np.ndarray:
    """(T,) bool: which latents of a single clip are observed."""
    return latents.observed[0].cpu().numpy()


def _frame(clip: Clip, time_s: float) -> str:
    """The frame nearest to a time, small."""
    at = int(np.abs(clip.timestamps_s - time_s).argmin())
    picture = Image.fromarray(clip.frames[at].transpose(1, 2, 0))
    picture.thumbnail((FRAME_PX, FRAME_PX))
    return _encoded(np.asarray(picture), "WEBP")


def _encoded(pixels: np.ndarray, kind: str) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
