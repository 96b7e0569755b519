"""The diagnosis of a training before it starts: rows, clips, score ceilings, memory, and findings with remedies."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from vtg.annotations.sample import Sample, resolve_video
from vtg.annotations.target import moment_counts
from vtg.config.data_settings import DataConfig
from vtg.config.programs import DoctorConfig
from vtg.config.rules import check_token_budget
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.data.answer_length import answer_room
from vtg.data.encoding import patch_factor, token_cost
from vtg.doctor.ceiling import Scores, ceilings
from vtg.doctor.row_findings import DiagnosisFinding, named
from vtg.doctor.source_rows import SourceRows, between_sources, read_sources
from vtg.doctor.times_read import ClipReading, read_clip
from vtg.errors import ConfigError, SampleError
from vtg.memory.estimate import MemoryEstimate
from vtg.memory.parameters import count, empty_model
from vtg.memory.workload import ClipSize, Workload
from vtg.models.checkpoint import Settings, read_settings, resolve_checkpoint
from vtg.models.checkpoint_settings import differences
from vtg.models.families import family_of
from vtg.models.families.token_cost import TokenCost
from vtg.models.loading import load_processor, tokens_per_second
from vtg.progress_bar import ProgressBar, counted
from vtg.tasks.span_task import SpanTask
from vtg.tasks.time_vocabulary import add_time_tokens
from vtg.video.video_window import VideoWindow

# A ceiling below this is worth a warning: a perfect model would lose ten points to the settings alone.
LOW_MIOU = 90.0

# A span may end this much after its file before it is called wrong: containers and annotations round durations
# differently.
LATE_S = 0.5


@dataclass
class Diagnosis:
    """All results. `opened`: every clip whose file was opened, by sample index; `clips`: those also decoded; `moments`:
    how many rows have none, one and several; `sources`: of a mixture, source → its rows, share and tokens.
    """

    model: dict[str, Any]
    rows: dict[str, int]
    opened: dict[int, ClipReading] = field(default_factory=dict)
    clips: list[ClipReading] = field(default_factory=list)
    distinct_clips: int = 0
    ceilings: dict[str, Scores] = field(default_factory=dict)
    memory: MemoryEstimate | None = None
    findings: list[DiagnosisFinding] = field(default_factory=list)
    moments: dict[str, int] = field(default_factory=dict)
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def is_fine(self) -> bool:
        return all(finding.severity != "error" for finding in self.findings)

    def tokens(self) -> dict[str, Any] | None:
        """The cost of the opened clips: least, median and most tokens of a conversation, and of its vision part."""
        return costs_of(list(self.opened.values()))

    def document(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "report": "vtg.doctor",
            "ok": self.is_fine,
            "model": self.model,
            "rows": self.rows,
            "moments": self.moments,
            "sources": self.sources,
            "clips": [clip.document() for clip in self.clips],
            "max_error_s": max((clip.max_error_s for clip in self.opened.values()), default=None),
            "tokens": self.tokens(),
            "memory": self.memory.document() if self.memory else None,
            "ceiling": self.ceilings,
            "findings": [asdict(finding) for finding in self.findings],
        }


def diagnose(config: DoctorConfig) -> Diagnosis:
    """Checks the model, the data and the settings of a training, in that order.

    Raises:
        ConfigError: for a model that cannot be found, and for an annotation file without a usable row.
    """
    task = SpanTask(config.task)
    processor = load_processor(config.model.path)
    add_time_tokens(processor.tokenizer, config.task, path=config.model.path)  # type: ignore[attr-defined]
    model = empty_model(config.model.path, Workload(config).weights_dtype(gpu=config.device == "gpu"))
    per_second = tokens_per_second(model)
    sources = read_sources(config.data, takes_sets=task.takes_sets)
    samples = [sample for source in sources for sample in source.samples]
    splits = {
        split: [sample for source in sources for sample in source.splits.get(split, [])]
        for split in ("train", "val", "test")
        if any(split in source.splits for source in sources)
    }
    facts = {"path": config.model.path, "family": family_of(processor).name, "patch_factor": patch_factor(processor)}
    diagnosis = Diagnosis(model=facts, rows={name: len(rows) for name, rows in splits.items()})
    diagnosis.moments = moment_counts(sample.target for sample in samples)
    # Findings are printed in this order: first those of settings and rows, then what opening the clips shows.
    diagnosis.findings += _settings_findings(config, token_cost(processor))
    diagnosis.findings += [finding for source in sources for finding in source.of_rows]
    try:
        most = config.evaluation.max_new_tokens
        asked = [splits.get(name, []) for name in ("val", "test")]
        config.evaluation.max_new_tokens = max(
            answer_room(samples, task=task, processor=processor, most=most) for samples in asked
        )
    except ConfigError as error:
        diagnosis.findings.append(DiagnosisFinding("error", "tokens", str(error)))
    diagnosis.findings += [finding for source in sources for finding in source.of_splits]
    diagnosis.findings += between_sources(sources)
    chosen, first = [], 0
    for source in sources:  # of each as many, or those of a small one might not be among them
        each = max(1, config.probed_clips // len(sources))
        chosen += [first + at for at in _spread_clips(source.samples, limit=each)]
        first += len(source.samples)
    diagnosis.distinct_clips = len({sample.window(sample.video) for sample in samples})
    # Every chosen clip is opened, for its times and tokens; decoding is slow, so only `config.samples` of them are.
    decoded = {chosen[at * len(chosen) // config.samples] for at in range(config.samples)} if chosen else set()
    failed: list[str] = []
    for at in counted(chosen, ProgressBar(len(chosen), title="opening clips", unit="clip")):
        path = resolve_video(samples[at].video, config.data.video_dir)
        try:
            diagnosis.opened[at] = read_clip(
                samples[at],
                path,
                video=config.video,
                task=task,
                processor=processor,
                tokens_per_second=per_second,
                decodes=at in decoded,
            )
        except SampleError as error:
            failed.append(f"{samples[at].place}: {error}")
    diagnosis.clips = [diagnosis.opened[at] for at in sorted(decoded & diagnosis.opened.keys())]
    if config.data.sources:
        diagnosis.sources = _source_facts(sources, diagnosis.opened)
    diagnosis.findings += _unreadable_findings(failed, len(chosen), config.data)
    diagnosis.findings += _reading_findings(diagnosis.opened.values(), limit=config.model.max_length)
    diagnosis.ceilings = ceilings(samples, task=task, frame_times_s=_frame_times_of_samples(samples, diagnosis.opened))
    diagnosis.findings += [
        *_ceiling_findings(diagnosis.ceilings, config.task, config.video),
        *_overlong_span_findings(samples, diagnosis.opened),
    ]
    if diagnosis.opened:
        diagnosis.memory = _memory(model, config, token_cost(processor), diagnosis.opened.values())
        diagnosis.findings += _memory_findings(diagnosis.memory, on_gpu=config.device == "gpu")
    return diagnosis


def costs_of(readings: Sequence[ClipReading]) -> dict[str, Any] | None:
    """Least, median and most tokens of the conversations about these clips, and of their vision part."""
    if not readings:
        return None
    return {"clips": len(readings)} | {
        name: {"min": values[0], "median": values[len(values) // 2], "max": values[-1]}
        for name in ("tokens", "vision_tokens")
        for values in [sorted(getattr(reading, name) for reading in readings)]
    }


def _source_facts(sources: Sequence[SourceRows], opened: dict[int, ClipReading]) -> dict[str, dict[str, Any]]:
    facts, first = {}, 0
    for source in sources:
        own = [reading for at, reading in opened.items() if first <= at < first + len(source.samples)]
        rows = {split: len(samples) for split, samples in source.splits.items()}
        facts[str(source.name)] = {"rows": rows, "share": source.share, "tokens": costs_of(own)}
        first += len(source.samples)
    return facts


def _spread_clips(samples: Sequence[Sample], *, limit: int) -> list[int]:
    """Indices of the first sample of up to `limit` distinct clips, spread evenly over all."""
    firsts: dict[VideoWindow, int] = {}
    for at, sample in enumerate(samples):
        firsts.setdefault(sample.window(sample.video), at)
    clips = list(firsts.values())
    return [clips[at * len(clips) // limit] for at in range(limit)] if len(clips) > limit else clips


def _frame_times_of_samples(samples: Sequence[Sample], opened: dict[int, ClipReading]) -> dict[int, Any]:
    """The sampled frame times of every sample whose clip was opened, whichever row it was opened for."""
    by_clip = {samples[at].window(samples[at].video): reading.frame_times_s for at, reading in opened.items()}
    keys = {at: sample.window(sample.video) for at, sample in enumerate(samples)}
    return {at: by_clip[key] for at, key in keys.items() if key in by_clip}


def _memory(model: Any, config: DoctorConfig, cost: TokenCost, readings: Iterable[ClipReading]) -> MemoryEstimate:
    """The estimate for the fullest batch of clips such as those opened."""
    clips = [ClipSize(clip.tokens, clip.vision_tokens, clip.end_s - clip.start_s) for clip in readings]
    workload = Workload(config, cost)
    setup = workload.training_setup(gpu=config.device == "gpu", ranks=config.gpus)
    added = len(SpanTask(config.task).tokens())
    counts = count(model, config.parts, config.lora, quantization=config.model.quantization, time_tokens=added)
    return workload.estimate(counts, clips, setup)


def _settings_findings(config: DoctorConfig, cost: TokenCost) -> Iterable[DiagnosisFinding]:
    factor = cost.factor
    if factor != config.model.patch_factor:
        text = f"model.patch_factor = {config.model.patch_factor}, but {config.model.path} has {factor}"
        yield DiagnosisFinding("error", "model", f"{text}; set model.patch_factor={factor}")
    try:
        check_token_budget(config.video, config.model, cost)
    except ConfigError as error:
        yield DiagnosisFinding("error", "tokens", f"training refuses these settings: {error}")
    saved = read_settings(resolve_checkpoint(config.model.path))
    if saved is not None:
        lines = differences(saved, Settings(config.model, config.video, config.task))
        if lines:
            text = f"{config.model.path} was trained with other settings ({'; '.join(lines)})"
            yield DiagnosisFinding(
                "warning", "settings", f"{text}; use the same, or train long enough to change its habits"
            )


def _unreadable_findings(failed: list[str], tried: int, data: DataConfig) -> Iterable[DiagnosisFinding]:
    if failed:
        severity = "error" if len(failed) > data.max_bad_share * tried else "warning"
        text = f"{len(failed)} of {tried} videos cannot be used ({named(failed)})"
        yield DiagnosisFinding(
            severity, "videos", f"{text}; fetch them again, or drop their rows (vtg.validate --probe)"
        )


def _reading_findings(readings: Iterable[ClipReading], *, limit: int) -> Iterable[DiagnosisFinding]:
    readings = list(readings)
    wrong = [f"{clip.path}: {clip.max_error_s:.3f} s" for clip in readings if not clip.is_right]
    if wrong:
        text = f"{len(wrong)} of {len(readings)} clips are read at wrong times ({named(wrong)})"
        yield DiagnosisFinding(
            "error", "times", f"{text}; the installed transformers tells times in a way vtg does not know"
        )
    longest = max(readings, key=lambda clip: clip.tokens, default=None)
    if longest is not None and longest.tokens > limit:
        over = sum(clip.tokens > limit for clip in readings)
        # Text stays as long as it is: the share of its vision tokens that fits beside it, in pixels of all its frames.
        share = (limit - longest.tokens + longest.vision_tokens) / longest.vision_tokens
        pixels = int(max(share, 0) * len(longest.frame_times_s) * longest.height * longest.width)
        text = f"{over} of {len(readings)} clips take over model.max_length = {limit} tokens, up to {longest.tokens}"
        remedy = f"set video.total_pixels to at most {pixels}" if pixels > 0 else "lower video.max_frames"
        yield DiagnosisFinding("error", "tokens", f"{text}: they would be skipped; {remedy}, or raise model.max_length")


def _ceiling_findings(scores: dict[str, Scores], task: TaskConfig, video: VideoConfig) -> Iterable[DiagnosisFinding]:
    # The setting that sets the step of an answer form: all forms but these two count bins.
    steps = {"seconds": "decimals", "relative": "decimals"}
    key = steps.get(task.answer, "num_bins")
    remedies = {
        "answer": f"raise task.{key} (now {getattr(task, key)})",
        "frames": f"raise video.fps (now {video.fps:g}) or, for long clips, video.max_frames (now {video.max_frames})",
    }
    for name, remedy in remedies.items():
        if name in scores and scores[name]["mIoU"] < LOW_MIOU:
            limits = f"R1@0.7 {scores[name]['R1@0.7']:.1f}, mIoU {scores[name]['mIoU']:.1f}"
            cause = f"answers in {task.answer}" if name == "answer" else "the sampled frames"
            yield DiagnosisFinding("warning", "ceiling", f"{cause} limit even a perfect model to {limits}; {remedy}")


def _overlong_span_findings(samples: Sequence[Sample], opened: dict[int, ClipReading]) -> Iterable[DiagnosisFinding]:
    readings = {samples[at].window(samples[at].video): reading for at, reading in opened.items()}
    late = [
        f"{sample.place}: {sample.spans[-1][1]:.1f} s of {reading.file_s - reading.start_s:.1f} s"
        for sample in samples
        if (reading := readings.get(sample.window(sample.video)))
        and max((end for _, end in sample.spans), default=0.0) > reading.file_s - reading.start_s + LATE_S
    ]
    if late:
        yield DiagnosisFinding(
            "warning", "spans", f"{len(late)} rows outlast their video ({named(late)}); correct them"
        )


def _memory_findings(memory: MemoryEstimate, *, on_gpu: bool) -> Iterable[DiagnosisFinding]:
    # Without a GPU here its size is unknown: the report shows the estimate, and nothing is judged.
    if on_gpu and torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        if memory.peak_bytes > total:
            text = f"about {memory.peak_bytes / 1e9:.0f} GB are needed, the GPU has {total / 1e9:.0f} GB"
            remedy = "python -m vtg.doctor look=memory proposes settings that fit"
            yield DiagnosisFinding("warning", "memory", f"{text}; {remedy}")
