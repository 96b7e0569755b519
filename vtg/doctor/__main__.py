"""Diagnoses a training before it starts: `python -m vtg.doctor [the overrides of train_sft.py]`.

For a model, a data set and a video config it shows the times the model will read against the true frame times, the cost
in tokens and memory, the best scores that sampling and answer form leave reachable, and what is wrong with a remedy.

`look=memory`: the memory a training takes, from its settings alone, and which settings fit into which GPU. With
`rl=grpo` (or any setting of `rl`) memory is that of train_rl.py.
"""

import json
import logging
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vtg.config.derived import activation_checkpointing
from vtg.config.programs import DoctorConfig
from vtg.console import aligned
from vtg.entry import hydra_program, loading
from vtg.models.hub import find_model

if TYPE_CHECKING:
    from vtg.doctor.diagnosis import Diagnosis
    from vtg.doctor.times_read import ClipReading
    from vtg.memory.estimate import MemoryEstimate
    from vtg.memory.proposals import Proposal

# Times at either end of a clip: ten columns fit into a terminal of 120.
SHOWN_PATCHES = 5
# Decimal, as GPUs are sold and as the estimate counts.
GB = 10**9

CAUSES = {"answer": "answer form", "frames": "sampled frames", "both": "both"}


def main() -> None:
    """Composes conf/doctor.yaml and looks; see `python -m vtg.doctor --help`."""
    hydra_program("doctor", schema=DoctorConfig, job=_diagnose)


def _diagnose(config: DoctorConfig) -> None:
    if config.look == "memory":
        return _look_at_memory(config)
    find_model(config.model.path)
    # Late, so that --help and the checks of settings take a fraction of a second.
    with loading("torch and transformers"):
        from vtg.demo.synthetic_data import ensure_synthetic
        from vtg.doctor.diagnosis import diagnose
        from vtg.logs import start_logging

    start_logging()
    ensure_synthetic(config.data)
    diagnosis = diagnose(config)
    print(json.dumps(diagnosis.document()) if config.json else "\n".join(_lines(diagnosis, config)))
    sys.exit(0 if diagnosis.is_fine else 1)  # warnings alone do not fail a script that asks before it trains


def _look_at_memory(config: DoctorConfig) -> None:
    from vtg.logs import start_logging
    from vtg.memory.checkpointing import choose, training_bytes
    from vtg.memory.parameters import count, empty_model
    from vtg.memory.proposals import propose
    from vtg.memory.workload import Workload
    from vtg.tasks.span_task import SpanTask

    start_logging(logging.WARNING)  # counting parameters logs what would be trained, which the report says itself
    on_gpu, workload = config.device == "gpu", Workload(config)
    model = empty_model(config.model.path, workload.weights_dtype(gpu=on_gpu))
    setup = workload.training_setup(gpu=on_gpu, ranks=config.gpus)
    added = len(SpanTask(config.task).tokens())
    counts = count(model, config.parts, config.lora, quantization=config.model.quantization, time_tokens=added)
    memory = workload.estimate(counts, workload.longest_clips(), setup)
    proposals = propose(config.gpu_gb, gpus=config.gpus)
    auto: dict[str, str] = {}
    if on_gpu and activation_checkpointing(config.trainer) == "auto":
        needed = training_bytes(workload, counts, setup)
        auto = {str(size): choose(needed, size * GB) for size in config.gpu_gb}
    if config.json:
        document = {"report": "vtg.doctor", "memory": memory.document(), "proposals": [p.document() for p in proposals]}
        print(json.dumps(document | {"gradient_checkpointing": auto}))
        return
    print(f"model {config.model.path}; the largest batch that the settings allow")
    print("\n".join([*_memory_lines(memory), *_auto_lines(auto), *_proposal_lines(proposals, config.gpus)]))


def _lines(diagnosis: "Diagnosis", config: DoctorConfig) -> Iterator[str]:
    rows = ", ".join(f"{count} {name}" for name, count in diagnosis.rows.items())
    model = f"{diagnosis.model['path']} ({diagnosis.model['family']})"
    yield f"model {model}; {rows} rows of {diagnosis.distinct_clips} clips"
    if diagnosis.moments["one"] < sum(diagnosis.moments.values()):
        yield f"moments of a row: {', '.join(f'{name} {count}' for name, count in diagnosis.moments.items())}"
    if diagnosis.sources:
        yield from source_lines(diagnosis.sources)
    yield ""
    yield "Times the model reads, and when the frames are"
    for clip in diagnosis.clips:
        yield from clip_lines(clip)
    if diagnosis.opened:
        worst = max(clip.max_error_s for clip in diagnosis.opened.values())
        yield f"  largest error of all {len(diagnosis.opened)} clips opened: {worst:.3f} s"
    cost = diagnosis.tokens()
    if cost:
        yield ""
        yield f"Tokens ({cost['clips']} clips; the limit is model.max_length = {config.model.max_length})"
        for name, text in (("tokens", "a conversation"), ("vision_tokens", "its vision")):
            least, median, most = (cost[name][key] for key in ("min", "median", "max"))
            yield f"  {text:<16} {least} to {most}, median {median}"
    if diagnosis.memory:
        yield from _memory_lines(diagnosis.memory)
    if diagnosis.ceilings:  # of spans: rows of other tasks have none
        yield ""
        yield "Best reachable scores"
        yield "  " + " " * 15 + "".join(f"{key:>9}" for key in diagnosis.ceilings["answer"])
    for name, scores in diagnosis.ceilings.items():
        cells = "".join(f"{value:>9.1f}" if isinstance(value, float) else f"{value:>9}" for value in scores.values())
        yield f"  {CAUSES[name]:<15}{cells}"
    yield ""
    yield from (str(finding) for finding in diagnosis.findings)
    if not diagnosis.findings:
        yield "nothing is wrong"


def source_lines(sources: dict[str, dict[str, Any]]) -> list[str]:
    """A table of a mixture's sources: their part of the samples drawn, their rows, what the clips opened cost."""
    rows = [["source", "share wanted", "train", "val", "test", "clips opened", "tokens, median (most)"]]
    for name, facts in sources.items():
        counts = [str(facts["rows"].get(split, "-")) for split in ("train", "val", "test")]
        cost = facts["tokens"]
        tokens = f"{cost['tokens']['median']} ({cost['tokens']['max']})" if cost else "-"
        rows.append([name, f"{100 * facts['share']:.2f} %", *counts, str(cost["clips"] if cost else 0), tokens])
    return aligned(rows)


def clip_lines(clip: "ClipReading") -> Iterator[str]:
    """What is said of one clip: its cost, and the times the model reads beside the true ones."""
    yield f"  {clip.path} ({clip.start_s:.2f} to {clip.end_s:.2f} of {clip.file_s:.2f} s; {clip.place})"
    size = f"{len(clip.frame_times_s)} frames of {clip.width}x{clip.height}"
    yield f"    {size}, {clip.vision_tokens} vision tokens, {clip.tokens} in all"
    # Where the model reads too few or too many times they cannot be shown in pairs; the error below is infinite then.
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
    batch, setup = memory.batch, memory.setup
    yield ""
    rows = f"{batch.rows} x {batch.length} tokens" if not batch.packed else f"{batch.length} tokens packed"
    if batch.generations:
        rows = f"{batch.rows} prompts of {batch.length} tokens, {batch.generations} x {batch.completion} more each"
    kinds = {"none": "without", "selective": "with selective", "full": "with"}
    checkpointing = f"{kinds[setup.gradient_checkpointing]} gradient checkpointing"
    zero = f", ZeRO-{setup.stage} on {setup.ranks} GPUs" if setup.stage else ""
    offload = " with offload" if setup.offload_optimizer or setup.offload_parameters else ""
    yield (
        f"Memory of {'a GPU' if setup.cuda else 'a CPU'}, estimated: {memory.dtype}, {rows}, "
        f"{checkpointing}{zero}{offload}; {memory.trained_parameters:,} of {memory.parameters:,} parameters trained"
    )
    parts = {
        "weights": memory.weights_bytes,
        "gradients": memory.gradient_bytes,
        "optimizer": memory.optimizer_bytes,
        "activations": memory.work_bytes,
        "training": memory.training_bytes,
        "generating": memory.generation_bytes,
    }
    yield from (f"  {name:<16} {size / GB:8.2f} GB" for name, size in parts.items())


def _auto_lines(auto: dict[str, str]) -> Iterator[str]:
    """What `trainer.gradient_checkpointing=auto` comes to, by the GB of a GPU."""
    if auto:
        yield "  trainer.gradient_checkpointing=auto, estimated above as full, comes to"
    for way in dict.fromkeys(auto.values()):
        yield f"    {way} on a GPU of {', '.join(size for size, chosen in auto.items() if chosen == way)} GB"


def _proposal_lines(proposals: list["Proposal"], gpus: int) -> Iterator[str]:
    yield ""
    each = f"each of {gpus} GPUs" if gpus > 1 else "one GPU"
    yield f"What fits into {each}, a tenth left free (fine-tuning; host: the memory DeepSpeed takes there)"
    yield f"  {'memory':>6}  {'trained':<7}  {'peak':>5}  {'host':>4}  overrides"
    for proposal in proposals:
        trained = "QLoRA" if proposal.quantization != "none" else "LoRA" if proposal.lora else "full"
        sizes = f"{proposal.peak_bytes / GB:5.1f}  {proposal.host_bytes / GB:4.0f}"
        yield f"  {proposal.memory_gb:>3} GB  {trained:<7}  {sizes}  {' '.join(proposal.overrides())}"
    yield "  (experiment=gpu_8gb, gpu_16gb, gpu_24gb, gpu_40gb, gpu_80gb and gpu_141gb: the largest model)"


if __name__ == "__main__":
    main()
