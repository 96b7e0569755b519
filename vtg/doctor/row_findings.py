"""What is wrong with the rows of a training as a whole: their faults counted, and what its splits share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vtg.annotations.sample import Sample, resolve_video
from vtg.config.data_settings import DataConfig
from vtg.doctor.audit import Report, audit_file
from vtg.tasks.all_tasks import SPAN
from vtg.tasks.span_task import NO_MOMENT_ASKED

# Examples named in a finding: it stays one line in a terminal, however many rows share the fault.
NAMED = 3


@dataclass(frozen=True)
class DiagnosisFinding:
    """What is wrong, and the remedy. Errors spoil a training or keep it from starting; warnings may be intended."""

    severity: str
    topic: str
    message: str

    def __post_init__(self) -> None:
        assert self.severity in ("error", "warning"), self.severity

    def __str__(self) -> str:
        return f"{self.severity}: {self.topic}: {self.message}"


def row_findings(files: dict[str, str], data: DataConfig) -> Iterable[DiagnosisFinding]:
    """What `vtg.validate` says of each file, in a line."""
    for path in dict.fromkeys(files.values()):
        report = Report(max_problems=1)
        audit_file(path, report)
        check = f"python -m vtg.validate {path} lists them"
        for severity, counts in (("error", report.errors), ("warning", report.warnings)):
            if counts:
                first = next(problem for problem in report.problems if problem.severity == severity)
                kinds = ", ".join(f"{count} {kind}" for kind, count in counts.most_common(NAMED))
                # Training skips bad rows up to max_bad_share, so only more of them is an error here.
                stops = severity == "error" and counts.total() > data.max_bad_share * report.rows
                text = f"{path}: {kinds} among {report.rows} rows (first: {first}); {check}"
                yield DiagnosisFinding("error" if stops else "warning", "rows", text)


def unasked_findings(
    splits: dict[str, list[Sample]], files: dict[str, str], data: DataConfig
) -> Iterable[DiagnosisFinding]:
    """Of files with rows without a moment, for a task that asks for one."""
    for path in dict.fromkeys(files.values()):
        rows = rows_of(splits, files, path)
        absent = [sample for sample in rows if sample.target.task == SPAN and not sample.spans]
        if absent:
            stops = len(absent) > data.max_bad_share * len(rows)
            text = f"{absent[0].place}: {NO_MOMENT_ASKED} ({len(absent)} of {len(rows)} rows have no moment)"
            yield DiagnosisFinding("error" if stops else "warning", "rows", text)


def shared_findings(
    splits: dict[str, list[Sample]], files: dict[str, str], video_dir: str | None
) -> Iterable[DiagnosisFinding]:
    """Rows or videos of training that are validated or tested on."""
    videos = {name: _videos(rows, video_dir) for name, rows in splits.items()}
    for name in ("val", "test"):
        if name not in files:
            continue
        if files[name] == files["train"]:
            text = "are the training rows: they measure the fit, not what is learned"
            yield DiagnosisFinding(
                "warning", "splits", f"the {name} rows {text}; hold rows out (data.val_share=0.1, or a file)"
            )
        elif shared := sorted(map(str, videos[name] & videos["train"])):
            text = f"{len(shared)} of the {len(videos[name])} {name} videos are training videos too ({named(shared)})"
            yield DiagnosisFinding("error", "splits", f"{text}; remove them from {files[name]} or {files['train']}")


def shared_between(
    source: str, train: Iterable[Sample], other: str, splits: dict[str, list[Sample]]
) -> Iterable[DiagnosisFinding]:
    """Videos that one source of a mixture trains on and another is validated or tested on, named by whole paths."""
    trained = _videos(train, None)
    for name in ("val", "test"):
        asked = _videos(splits.get(name, []), None)
        if shared := sorted(map(str, asked & trained)):
            text = f"{len(shared)} of the {len(asked)} {name} videos of {other} are training videos of {source}"
            yield DiagnosisFinding("error", "splits", f"{text} ({named(shared)}); remove them from one of the two")


def _videos(samples: Iterable[Sample], video_dir: str | None) -> set[Path]:
    return {Path(resolve_video(sample.video, video_dir)) for sample in samples}


def rows_of(splits: dict[str, list[Sample]], files: dict[str, str], path: str) -> list[Sample]:
    """The samples of the file at `path`, which may serve several splits."""
    return next(splits[name] for name in splits if files[name] == path)


def named(examples: Sequence[str]) -> str:
    """The first examples, and how many more there are."""
    more = f" and {len(examples) - NAMED} more" if len(examples) > NAMED else ""
    return "; ".join(examples[:NAMED]) + more
