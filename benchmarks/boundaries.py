"""Event boundaries on the gym, whose events are known exactly: precision, recall and F1 of four ways within 0.5 s.

    python benchmarks/boundaries.py -o outputs/boundaries        # three seeds; about ten minutes on two cores
    pip install scenedetect opencv-python-headless               # for PySceneDetect's row

Each seed is another gym, and another predictor that train_latents.py trains on it. Every way chooses its threshold, the
unit of its scores and the least gap between boundaries by F1 on videos of training, and is scored on others. Uniform
cuts are as many in each video as the predictor finds. Printed are means over seeds with the F1 of each; a seed that is
done is not done again.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import numpy as np

from vtg.config.clip_settings import ClipsConfig
from vtg.config.data_settings import GymConfig
from vtg.demo.gym_dataset import ensure_gym, gym_world, video_name
from vtg.latents.boundaries.boundaries_command import MIN_GAP_S, THRESHOLD
from vtg.latents.boundaries.peaks import BoundaryCounts, pick_peaks, uniform_cuts
from vtg.latents.boundaries.surprise import Surprise, SurpriseReader
from vtg.latents.clip_reading import ClipReader
from vtg.latents.latent_run import load_latent_run
from vtg.storage.json_files import write_json
from vtg.video.video_window import VideoWindow

ROOT = Path(__file__).parents[1]
TOLERANCE_S = 0.5
CLIPS, CONTEXT_S = ClipsConfig(n_frames=24, seconds=3.0), 2.0
TRAIN_VIDEOS, TEST_VIDEOS, CHOOSING = 40, 16, 24
GAPS_S = (0.0, 0.25, 0.5, 0.75)
QUANTILES = np.linspace(0.4, 0.99, 60)
CONTENT_THRESHOLDS = (1.5, 3, 6, 9, 12, 18, 27)

Signals = list[Surprise]
Truth = list[list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("outputs/boundaries"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150, help="of each predictor (default: 150)")
    options = parser.parse_args()
    results = []
    for seed in range(options.seeds):
        path = options.output / f"seed_{seed}.json"
        if not path.is_file():
            write_json(path, measured(options.output, seed, options.steps))
        results.append(json.loads(path.read_text()))
        print(f"seed {seed}: {json.dumps(results[-1])}", file=sys.stderr)
    print(table(results))


def measured(output: Path, seed: int, steps: int) -> dict[str, list[float]]:
    """Way → precision, recall and F1 on the test videos."""
    gym = GymConfig(train_videos=TRAIN_VIDEOS, test_videos=TEST_VIDEOS, seed=seed)
    folder = ensure_gym(output / f"gym_{seed}", gym)
    run = trained(output, folder, seed, steps)
    encoder, predictor, reader, _ = load_latent_run(str(run))
    windows, truth = {}, {}
    for split, count in (("train", CHOOSING), ("test", TEST_VIDEOS)):
        worlds = [gym_world(split, number, gym) for number in range(count)]
        ends = [{time_s for event in world.events for time_s in (event.start_s, event.end_s)} for world in worlds]
        truth[split] = [sorted(t for t in one if 0 < t < w.duration_s) for one, w in zip(ends, worlds, strict=True)]
        windows[split] = [
            VideoWindow(str(folder / video_name(split, number)), duration_s=world.duration_s)
            for number, world in enumerate(worlds)
        ]
    ways: dict[str, Callable[[VideoWindow], Surprise]] = {
        "prediction error": SurpriseReader(encoder, reader, context_s=CONTEXT_S, predictor=predictor).read,
        "change of latents": SurpriseReader(encoder, reader, context_s=CONTEXT_S).read,
        "frame difference": frame_difference,
    }
    scores: dict[str, list[float]] = {}
    for name, read in ways.items():
        signals = {split: [read(window) for window in windows[split]] for split in windows}
        pick = chosen(signals["train"], truth["train"])
        found = [pick(signal) for signal in signals["test"]]
        scores[name] = scored(found, truth["test"])
        if name == "prediction error":
            cuts = [uniform_cuts(len(f), s.duration_s) for f, s in zip(found, signals["test"], strict=True)]
            scores["uniform cuts"] = scored(cuts, truth["test"])
            default = [peaks(signal, signal.scores, THRESHOLD, MIN_GAP_S) for signal in signals["test"]]
            scores["prediction error, the command's defaults"] = scored(default, truth["test"])
    if importlib.util.find_spec("scenedetect"):
        scores |= of_scenedetect(windows, truth)
    return scores


def trained(output: Path, folder: Path, seed: int, steps: int) -> Path:
    """The run of a predictor on a gym's training videos."""
    run = output / f"run_{seed}"
    settings = [
        f"output_dir={run}",
        *(f"seed={seed}", "data=gym", f"data.video_dir={folder}", f"data.gym.seed={seed}"),
        *(f"data.gym.train_videos={TRAIN_VIDEOS}", f"data.gym.test_videos={TEST_VIDEOS}", "data.gym.val_videos=0"),
        *("data.gym.long_videos=0", "data.val_file=null", f"clips.n_frames={CLIPS.n_frames}"),
        *(f"clips.seconds={CLIPS.seconds}", "clips.start=random", f"future.context_s={CONTEXT_S}"),
        *("predictor.width=64", "predictor.depth=1", f"trainer.max_steps={steps}", "trainer.eval_strategy=no"),
    ]
    subprocess.run([sys.executable, "train_latents.py", *settings], cwd=ROOT, check=True, stdout=sys.stderr)
    return run


def frame_difference(window: VideoWindow) -> Surprise:
    """The mean absolute difference between frames, of those that the predictor is shown."""
    assert window.duration_s is not None and CLIPS.seconds is not None
    count = int(np.ceil(window.duration_s * CLIPS.n_frames / CLIPS.seconds))
    whole = ClipsConfig(n_frames=count, seconds=count * CLIPS.seconds / CLIPS.n_frames)
    clip = ClipReader(whole, frame_size_px=None).clip(window)
    change = np.abs(np.diff(clip.frames.astype(np.float32), axis=0)).mean(axis=(1, 2, 3))
    return Surprise(clip.timestamps_s[1:], change.astype(np.float64), window.duration_s)


def chosen(signals: Signals, truth: Truth) -> Callable[[Surprise], list[float]]:
    """How peaks are picked: what had the highest F1 on these videos."""
    units: dict[str, Callable[[Surprise], np.ndarray]] = {"mean": lambda s: s.scores, "none": lambda s: s.errors}
    best: tuple[float, Callable[[Surprise], list[float]]] = (-1.0, lambda signal: [])
    for unit in units.values():
        thresholds = np.quantile(np.concatenate([unit(signal) for signal in signals]), QUANTILES)
        for threshold, gap_s in product(thresholds.tolist(), GAPS_S):

            def pick(
                signal: Surprise,
                unit: Callable[[Surprise], np.ndarray] = unit,
                at: float = threshold,
                gap: float = gap_s,
            ) -> list[float]:
                return peaks(signal, unit(signal), at, gap)

            f1 = scored([pick(signal) for signal in signals], truth)[2]
            best = max(best, (f1, pick), key=lambda pair: pair[0])
    return best[1]


def peaks(signal: Surprise, scores: np.ndarray, threshold: float, gap_s: float) -> list[float]:
    return signal.times_s[pick_peaks(signal.times_s, scores, threshold=threshold, min_gap_s=gap_s)].tolist()


def of_scenedetect(windows: dict[str, list[VideoWindow]], truth: dict[str, Truth]) -> dict[str, list[float]]:
    """PySceneDetect's ContentDetector: as it is by default, and with a threshold and length chosen as the others'."""
    from scenedetect import ContentDetector, detect  # pyright: ignore[reportMissingImports]

    def cuts(window: VideoWindow, **settings: float) -> list[float]:
        scenes = detect(window.path, ContentDetector(**settings), backend="pyav")
        return [scene[0].seconds for scene in scenes[1:]]

    def all_cuts(split: str, **settings: float) -> list[float]:
        return scored([cuts(window, **settings) for window in windows[split]], truth[split])

    tried = [{"threshold": at, "min_scene_len": length} for at, length in product(CONTENT_THRESHOLDS, (1, 5))]
    best = max(tried, key=lambda settings: all_cuts("train", **settings)[2])
    return {"PySceneDetect": all_cuts("test", **best), "PySceneDetect, its defaults": all_cuts("test")}


def scored(found: Sequence[Sequence[float]], truth: Truth) -> list[float]:
    """Precision, recall and F1 of all videos together."""
    pairs = zip(found, truth, strict=True)
    total = sum((BoundaryCounts.of(f, t, tolerance_s=TOLERANCE_S) for f, t in pairs), BoundaryCounts())
    return [total.precision, total.recall, total.f1]


def table(results: list[dict[str, list[float]]]) -> str:
    """Markdown: means over seeds, and the lowest and highest F1."""
    lines = ["| way | precision | recall | F1 | F1 of the seeds |", "|---|---|---|---|---|"]
    for name in sorted(results[0], key=lambda way: -np.mean([one[way][2] for one in results])):
        means = np.mean([one[name] for one in results], axis=0)
        of_seeds = ", ".join(f"{one[name][2]:.3f}" for one in results)
        lines.append(f"| {name} | {means[0]:.3f} | {means[1]:.3f} | {means[2]:.3f} | {of_seeds} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
