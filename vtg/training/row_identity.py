"""Whether a resumed run has the rows it began with, and whether its test rows are apart from those it learns from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vtg.annotations.sample import Sample
from vtg.annotations.sample_table import SampleTable
from vtg.config.data_settings import DataConfig
from vtg.data.splits import Splits
from vtg.errors import ConfigError
from vtg.storage.json_files import read_jsonl


def row_digest(samples: Sequence[Sample], *, with_ids: bool = False) -> dict[str, Any]:
    """Count and digest of the samples; `with_ids`: also of their qids, by which answers are told apart."""
    return {"count": len(samples), "digest": SampleTable.of(samples).digest(with_ids=with_ids)}


def check_rows(splits: Splits, before: dict[str, dict[str, Any]], data: DataConfig, *, run: Path) -> dict[str, Any]:
    """Count and digest of the rows that are trained and validated on, for run.json.

    Args:
        before: those that were recorded when the run began; empty for a run that begins, or recorded none.

    Raises:
        ConfigError: the rows are others: says which file, and how many rows it has and had.
    """
    # A checkpoint counts batches of a plan over these rows: with others it would skip the wrong ones without a word.
    now = {"train": row_digest(splits.train), "val": row_digest(splits.val)}
    for split, digest in splits.digests.items():
        if split in now:  # of a mixture: its samples name their videos by path, which may be another by now
            now[split]["digest"] = digest
    names = {"train": ("annotation_file", "train"), "val": ("val_file", "validate")}
    for split, (key, verb) in names.items():
        was, is_now = before.get(split), now[split]
        if was is None or was == is_now:
            continue
        path = getattr(data, key)
        where = f"data.{key} = {path!r}" if path else f"data.annotation_file = {data.annotation_file!r}"
        where = f"data.sources ({', '.join(data.sources)})" if data.sources else where
        counts = (
            f"{is_now['count']} rows to {verb} on, and the run in {run} began with {was['count']}"
            if is_now["count"] != was["count"]
            else f"{is_now['count']} rows to {verb} on that are others than those the run in {run} began with"
        )
        raise ConfigError(
            f"{where}: holds {counts}; put the file back as it was to resume, or choose another run_name or output_dir"
        )
    return now


def answers_match(answers: Path, samples: Sequence[Sample], *, skipped: int) -> bool:
    """Whether a file of answers is about these samples, of which `skipped` could not be read.

    For runs that began before run.json recorded the test rows.
    """
    asked: dict[Any, Any] = {(sample.qid, sample.video, sample.query): sample.spans for sample in samples}
    rows = read_jsonl(answers)
    for row in rows:
        spans = row.get("timestamp") or []
        pairs = tuple(map(tuple, spans if not spans or isinstance(spans[0], list) else [spans]))
        if asked.get((row.get("qid"), row.get("video"), row.get("sentence"))) != pairs:
            return False
    return len(samples) - skipped <= len(rows) <= len(samples)


def row_notes(splits: Splits, *, chooses: bool) -> list[str]:
    """Notes for a reader of the test scores, on test rows that are also training or validation rows.

    Args:
        chooses: the best weights are chosen by the validation rows.
    """
    test = set(SampleTable.of(splits.test).keys())
    if not test:
        return []  # without a look at training rows, of which there may be millions
    # By clip, query and target, not by qid: two files may number the same rows differently.
    of_train = len(test.intersection(SampleTable.of(splits.train).keys()))
    of_val = len(test.intersection(SampleTable.of(splits.val).keys())) if chooses else 0
    total, notes = len(test), []
    if of_train:
        notes.append(f"{of_train} of the {total} test rows are training rows: they show the fit, not what was learned")
    if of_val:
        notes.append(
            f"{of_val} of the {total} test rows are validation rows, by which the tuned weights were chosen: their "
            "score is a little too good; give data.test_file rows of its own"
        )
    return notes
