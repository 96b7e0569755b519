"""Probes fitted to training rows and scored on test rows, beside answers that look at nothing."""

from collections.abc import Sequence
from typing import Any

from vtg.annotations.formats import format_of
from vtg.annotations.sample import Problem, Sample, resolve_video
from vtg.config.latents_schema import LatentsConfig
from vtg.errors import RunError, SampleError
from vtg.evaluation.controls import training_prior
from vtg.evaluation.metrics import grounding_metrics
from vtg.evaluation.presets.case import Case
from vtg.latents.encoders import load_encoder
from vtg.latents.latent_reading import LatentReader
from vtg.latents.probe.probes import PROBES, ProbeRow, Span
from vtg.latents.probe.video_latents import VideoLatents, read_latents
from vtg.progress_bar import ProgressBar
from vtg.video.video_window import VideoWindow


def probed(settings: LatentsConfig, *, train: str, test: str, video_dir: str | None) -> dict[str, Any]:
    """The scores of each probe and control by name (`columns`), and what was left out.

    Raises:
        ConfigError: for an encoder that cannot be.
        OSError: a file that cannot be read.
        RunError: no row of training or of test is left.
    """
    left_out: list[str] = []
    samples = {name: _samples(path, left_out) for name, path in (("train", train), ("test", test))}
    encoder = load_encoder(settings.encoder)
    reader = LatentReader(encoder, settings.clips)
    windows = {_window(sample, video_dir): None for rows in samples.values() for sample in rows}
    latents = _latents(reader, list(windows), left_out)
    rows = {
        name: [
            ProbeRow(sample.query, sample.spans, str(window), latents[window])
            for sample in of_file
            if (window := _window(sample, video_dir)) in latents
        ]
        for name, of_file in samples.items()
    }
    for name, path in (("train", train), ("test", test)):
        if not rows[name]:
            raise RunError(f"{path}: no row with a moment could be read; {left_out[0] if left_out else 'give others'}")
    return {
        "report": "vtg.latents probe",
        "encoder": encoder.identity,
        "train": train,
        "test": test,
        "train_rows": len(rows["train"]),
        "test_rows": len(rows["test"]),
        "columns": {name: scored(spans, rows["test"]) for name, spans in _answers(rows["train"], rows["test"]).items()},
        "left_out": left_out,
    }


def _answers(train: Sequence[ProbeRow], test: Sequence[ProbeRow]) -> dict[str, list[Span]]:
    answers = {}
    for name, fit in PROBES.items():
        ground = fit(train)
        answers[name] = [ground(row) for row in test]
    cases = [
        Case(place="", truth=list(row.spans), video=row.video, query=row.query, duration_s=row.latents.duration_s)
        for row in train
    ]
    first, last = training_prior(cases, path="the training rows")
    lengths = [row.latents.duration_s for row in test]
    answers["training_prior"] = [(first * length_s, last * length_s) for length_s in lengths]
    answers["whole_video"] = [(0.0, length_s) for length_s in lengths]
    return answers


def scored(spans: Sequence[Span], rows: Sequence[ProbeRow]) -> dict[str, float]:
    """R1 and mIoU, in percent, as a run's metrics.json has them."""
    metrics = grounding_metrics([[span] for span in spans], [list(row.spans) for row in rows])
    return {name: value for name, value in metrics.items() if name.startswith("R1@") or name == "mIoU"} | {
        "samples": len(rows)
    }


def _samples(path: str, left_out: list[str]) -> list[Sample]:
    found = []
    for row in format_of(path).samples(path):
        if isinstance(row, Problem):
            left_out.append(str(row))
        elif row.spans and row.query and not row.is_still:  # one without a moment has no span to be found
            found.append(row)
    return found


def _window(sample: Sample, video_dir: str | None) -> VideoWindow:
    return sample.window(resolve_video(sample.video, video_dir))


def _latents(
    reader: LatentReader, windows: Sequence[VideoWindow], left_out: list[str]
) -> dict[VideoWindow, VideoLatents]:
    found = {}
    with ProgressBar(len(windows), title="reading latents", unit="video") as bar:
        for window in windows:
            try:
                found[window] = read_latents(reader, window)
            except SampleError as error:
                left_out.append(str(error))
            bar.update()
    return found
