"""Looks at a training before it starts: `python -m vtg.doctor [the overrides of train_sft.py]`.

For a model, a data set and a video config it shows the times the model will read against the true frame times, the cost
in tokens and memory, the best scores that sampling and answer form leave reachable, and what is wrong with a remedy.
"""

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vtg.config.schema import DoctorConfig
from vtg.entry import hydra_program

if TYPE_CHECKING:
    from vtg.evaluation.diagnosis import Diagnosis
    from vtg.evaluation.reading import ClipReading
    from vtg.models.memory import MemoryEstimate

SHOWN_PATCHES = 5
GIB = 2**30

CAUSES = {"answer": "answer form", "frames": "sampled frames", "both": "both"}


def main() -> None:
    """Composes conf/doctor.yaml and looks; see `python -m vtg.doctor --help`."""
    hydra_program("doctor", schema=DoctorConfig, job=_diagnose)


def _diagnose(config: DoctorConfig) -> None:
    from vtg.demo.dataset import ensure_demo
    from vtg.evaluation.diagnosis import diagnose
    from vtg.training.run import start_logging

    start_logging()
    if config.data.demo is not None:
        assert config.data.video_dir is not None
        ensure_demo(config.data.video_dir, config.data.demo)
    found = diagnose(config)
    print(json.dumps(found.document()) if config.json else "\n".join(_lines(found, config)))
    sys.exit(0 if found.is_fine else 1)


def _lines(found: "Diagnosis", config: DoctorConfig) -> Iterator[str]:
    rows = ", ".join(f"{count} {name}" for name, count in found.rows.items())
    yield f"model {found.model['path']} ({found.model['family']}); {rows} rows of {found.distinct_clips} clips"
    yield ""
    yield "Times the model reads, and when the frames are"
    for clip in found.clips:
        yield from _clip_lines(clip)
    if found.opened:
        worst = max(clip.max_error_s for clip in found.opened.values())
        yield f"  largest error of all {len(found.opened)} clips opened: {worst:.3f} s"
    cost = found.tokens()
    if cost:
        yield ""
        yield f"Tokens ({cost['clips']} clips; the limit is model.max_length = {config.model.max_length})"
        for name, text in (("tokens", "a conversation"), ("vision_tokens", "its vision")):
            least, median, most = (cost[name][key] for key in ("min", "median", "max"))
            yield f"  {text:<16} {least} to {most}, median {median}"
    if found.memory:
        yield from _memory_lines(found.memory)
    yield ""
    yield "Best reachable scores"
    yield "  " + " " * 15 + "".join(f"{key:>9}" for key in found.ceilings["answer"])
    for name, scores in found.ceilings.items():
        cells = "".join(f"{value:>9.1f}" if isinstance(value, float) else f"{value:>9}" for value in scores.values())
        yield f"  {CAUSES[name]:<15}{cells}"
    yield ""
    yield from (str(finding) for finding in found.findings)
    if not found.findings:
        yield "nothing is wrong"


def _clip_lines(clip: "ClipReading") -> Iterator[str]:
    yield f"  {clip.path} ({clip.start_s:.2f} to {clip.end_s:.2f} of {clip.file_s:.2f} s; {clip.place})"
    size = f"{len(clip.frame_times_s)} frames of {clip.width}x{clip.height}"
    yield f"    {size}, {clip.vision_tokens} vision tokens, {clip.tokens} in all"
    if clip.read_s.shape == clip.true_s.shape:
        yield f"    reads {_times(clip.read_s.tolist(), 2)}"
        yield f"    true  {_times(clip.true_s.tolist(), 3)}"
    verdict = "rounding alone" if clip.is_right else "WRONG"
    yield f"    largest error {clip.max_error_s:.3f} s (resolution {clip.resolution_s:.2f} s): {verdict}"


def _times(times_s: list[float], decimals: int) -> str:
    shown = [f"{time_s:8.{decimals}f}" for time_s in times_s]
    if len(shown) > 2 * SHOWN_PATCHES:
        shown = [*shown[:SHOWN_PATCHES], "  ...", *shown[-SHOWN_PATCHES:]]
    return "".join(shown)


def _memory_lines(memory: "MemoryEstimate") -> Iterator[str]:
    yield ""
    ways = "with" if memory.gradient_checkpointing else "without"
    yield (
        f"Memory, a rough estimate: {memory.dtype}, {memory.batch_size} x {memory.tokens} tokens, {ways} gradient "
        f"checkpointing; {memory.trained_parameters:,} of {memory.parameters:,} parameters trained"
    )
    parts = {
        "weights": memory.weights_bytes,
        "gradients, AdamW": memory.optimizer_bytes,
        "activations": memory.activations_bytes,
        "training": memory.training_bytes,
        "generating": memory.generation_bytes,
    }
    yield from (f"  {name:<16} {size / GIB:8.2f} GiB" for name, size in parts.items())


if __name__ == "__main__":
    main()
