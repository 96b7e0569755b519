"""A checkpoint's answers to one video and query, or to the rows of an annotation file.

python -m vtg.predict checkpoint=outputs/sft_tiny_demo video=a.mp4 query="a person sits down"
python -m vtg.predict checkpoint=outputs/sft_tiny_demo data.annotation_file=test.jsonl data.video_dir=videos
"""

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtg.config.data_settings import DataConfig
from vtg.config.programs import PredictConfig
from vtg.entry import hydra_program, loading
from vtg.errors import ConfigError, RunError, SampleError
from vtg.evaluation.input_record import input_record, write_input
from vtg.models.checkpoint import has_weights, save_settings
from vtg.models.checkpoint_settings import CheckpointSettings, checkpoint_settings
from vtg.models.hub import find_model
from vtg.storage.json_files import json_text, write_json, write_jsonl
from vtg.tasks.answer import NO_MOMENT, Status
from vtg.tasks.span_task import SpanTask
from vtg.video.video_window import VideoWindow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vtg.annotations.sample import Sample
    from vtg.data.skip_report import SkipReport
    from vtg.evaluation.grounder import Grounder

log = logging.getLogger("vtg.predict")  # __name__ is __main__ under python -m

# Answers to single videos are appended here; predictions.jsonl and its metrics belong to one annotation file.
ANSWERS = "answers.jsonl"

# Made from predictions.jsonl: older ones are removed, or they would score rows that are no longer there.
SCORES = ("metrics.json", "predictions.png")

AnswerRow = dict[str, Any]


def main() -> None:
    """Composes conf/predict.yaml and answers; see `python -m vtg.predict --help`."""
    hydra_program("predict", schema=PredictConfig, job=_predict, text_keys=("video", "query"))


def _predict(config: PredictConfig) -> None:
    _check_output_dir(Path(config.output_dir))
    checkpoint = checkpoint_settings(config.checkpoint, overrides=config.settings, fallback=config.fallback)
    # The answer form is checked before torch is imported.
    task = SpanTask(checkpoint.settings.task)
    room = config.max_new_tokens or task.room
    task.check_room(room, key="max_new_tokens")
    find_model(config.checkpoint, key="checkpoint")
    with loading("torch and transformers"):
        from vtg.evaluation.grounder import Grounder
        from vtg.logs import start_logging

    start_logging()
    _log_settings(checkpoint)
    out = Path(config.output_dir)
    out.mkdir(parents=True, exist_ok=True)
    grounder = Grounder(checkpoint.settings)
    if config.video_file is not None:
        _answer_one(config, grounder, out, room=room)
    else:
        save_settings(checkpoint.settings, out)
        record = {"checkpoint": config.checkpoint, "max_new_tokens": room}
        write_input(out, input_record(checkpoint.settings.video, checkpoint.settings.task, **record))
        _answer_rows(config, grounder, out, room=room)


def _check_output_dir(out: Path) -> None:
    """Raises ConfigError where answers would take the place of a run's own files, or of a model's."""
    if (out / "config.yaml").is_file() or has_weights(out):
        raise ConfigError(
            f"output_dir = {str(out)!r}: holds a run or a model, whose own files would be overwritten; name another "
            f"folder, for example output_dir={out / 'predictions'}"
        )


def _log_settings(checkpoint: CheckpointSettings) -> None:
    video, task = checkpoint.settings.video, checkpoint.settings.task
    frames = (video.sampling, video.fps, video.min_frames, video.max_frames, video.max_pixels)
    log.info(
        "settings: %s (%s at %g fps, %d to %d frames, at most %d pixels each; answers in %s)",
        *(checkpoint.source, *frames, task.answer),
    )
    # Nothing fails where frames or answer form differ from training: only the scores are lower.
    for line in checkpoint.differences:
        log.warning("%s: answers may be worse than the checkpoint can give", line)


def _answer_one(config: PredictConfig, grounder: "Grounder", out: Path, *, room: int) -> None:
    assert config.video_file is not None and config.query is not None
    try:
        window = VideoWindow(config.video_file, start_s=config.video_start, end_s=config.video_end)
        [row] = grounder.ask([config.query], window, max_new_tokens=room)
    except SampleError as error:
        raise RunError(str(error)) from error
    row |= {"checkpoint": config.checkpoint}
    # One short line, appended: two programs that answer into one folder lose no line of each other.
    with (out / ANSWERS).open("a", encoding="utf-8") as file:
        file.write(json_text(row) + "\n")
    print(json_text(row) if config.json else _answer_text(row, out))


def _answer_text(row: AnswerRow, out: Path) -> str:
    from vtg.evaluation.moment_bars import answer_lane, moment_bars

    spans = ", ".join(f"{start:.2f} to {end:.2f} s" for start, end in row["prediction"])
    spans = spans or (NO_MOMENT if row["status"] == Status.NONE else "no answer")
    # Pictures have no time to draw.
    bars = moment_bars([answer_lane("answer", row)], duration_s=row["duration"]) if row["duration"] > 0 else []
    return "\n".join(
        [
            f"{row['video']} ({row['duration']:.2f} s): {row['sentence']}",
            *bars,
            f"  answer: {spans}",
            f"  status: {row['status']}",
            f"  text:   {row['text']!r}",
            str(out / ANSWERS),
        ]
    )


def _answer_rows(config: PredictConfig, grounder: "Grounder", out: Path, *, room: int) -> None:
    from vtg.data.answer_length import check_answer_length
    from vtg.data.lost_worker import worker_lost
    from vtg.data.skip_report import SkipReport
    from vtg.evaluation.generate import predict
    from vtg.evaluation.partial_answers import PartialAnswers, stamps
    from vtg.evaluation.question_reader import QuestionReader
    from vtg.models.checkpoint import resolve_checkpoint

    report = SkipReport(out / "skipped.jsonl", max_bad_share=config.data.max_bad_share)
    rows_file = _rows_file(config.data, config.split)
    samples = _samples(rows_file, config.data, report, takes_sets=grounder.task.takes_sets)
    check_answer_length(samples, task=grounder.task, processor=grounder.processor, most=room, key="max_new_tokens")
    # Partial answers of an earlier call are used again only where all of this is as it was.
    asked = {
        "checkpoint": stamps(resolve_checkpoint(config.checkpoint), "*.safetensors"),
        "settings": asdict(grounder.settings),
        "rows": stamps(rows_file),
        "video_dir": config.data.video_dir,
        "asked": [config.split, config.data.max_samples, config.batch_size, room],
    }
    partial = PartialAnswers(out / "predictions.jsonl.part", asked)
    report.add(partial.skipped)
    dataset = grounder.dataset(samples[: config.data.max_samples or None], video_dir=config.data.video_dir)
    try:
        answers, _ = predict(
            grounder.model,
            dataset,
            batch_size=config.batch_size,
            max_new_tokens=room,
            reader=QuestionReader([dataset], num_workers=config.num_workers),
            progress="answering",
            partial_answers=partial,
            report=report,
        )
    except RuntimeError as error:
        # Clips of many frames fill memory, and the system then kills a worker: the way out is this command's own.
        worker = worker_lost(str(error))
        if worker is None:
            raise
        raise RunError(f"{worker}: lower num_workers or settings.video.total_pixels") from error
    if not answers:
        partial.remove()
        raise RunError(f"not one of {len(dataset)} rows could be answered; {out / 'skipped.jsonl'} says why")
    for name in SCORES:
        (out / name).unlink(missing_ok=True)
    rows = [answers[index] for index in sorted(answers)]
    write_jsonl(out / "predictions.jsonl", rows)
    partial.remove()  # only now: a kill before this line loses no answer
    _show(rows, out, title=config.checkpoint, as_json=config.json, skipped=len(report.skipped))


def _samples(rows_file: str, data: DataConfig, report: "SkipReport", *, takes_sets: bool) -> "Sequence[Sample]":
    """The rows to answer. Rows without a timestamp or duration are questions alone, answered but not scored."""
    # Imported late: --help and refused settings must not wait for what reads rows.
    from vtg.annotations.formats import format_of
    from vtg.annotations.sample import Sample
    from vtg.annotations.unannotated_rows import has_open_rows, read_open_rows
    from vtg.data.skip_report import Skipped
    from vtg.data.splits import read_split

    if not format_of(rows_file).may_be_unannotated or not has_open_rows(rows_file, takes_sets=takes_sets):
        return read_split(
            rows_file, video_dir=data.video_dir, report=report, takes_sets=takes_sets, cache_dir=data.cache_dir
        )
    rows = list(read_open_rows(rows_file, video_dir=data.video_dir, takes_sets=takes_sets))
    samples = [row for row in rows if isinstance(row, Sample)]
    lost = [
        Skipped(f"{row.path}:{row.line}", f"{row.field}: {row.message}") for row in rows if not isinstance(row, Sample)
    ]
    if not samples:
        raise ConfigError(f"{rows_file}: no usable row among {len(rows)} ({lost[0].place}: {lost[0].reason})")
    report.expect(len(rows))
    report.add(lost)
    if unknown := sum(not sample.is_labelled for sample in samples):
        log.info("%d of %d rows have no timestamp: they are answered, and not scored", unknown, len(samples))
    return samples


def _show(rows: list[AnswerRow], out: Path, *, title: str, as_json: bool, skipped: int) -> None:
    """Scores and draws the annotated rows, and prints the scores and the files."""
    from vtg.evaluation.moment_bars import sample_bars
    from vtg.evaluation.score_table import score_table
    from vtg.evaluation.span_picture import draw_predictions
    from vtg.evaluation.task_scores import score, span_rows
    from vtg.tasks.all_tasks import SPAN, task_name
    from vtg.tasks.task import flat_metrics

    annotated = [row for row in rows if "timestamp" in row or task_name(row) != SPAN]
    files = {"predictions": "predictions.jsonl"}
    metrics = score(annotated) if annotated else None
    if metrics is not None:
        write_json(out / "metrics.json", metrics)
        files["metrics"] = "metrics.json"
        if spans := span_rows(annotated):
            draw_predictions(spans, out / "predictions.png", title=title)
            files["picture"] = "predictions.png"
    if skipped:
        files["skipped"] = "skipped.jsonl"
    paths = {name: str(out / file) for name, file in files.items()}
    if as_json:
        counts = {"rows": len(rows), "scored": len(annotated), "skipped": skipped}
        print(json.dumps({"metrics": metrics, **counts, "files": paths}))
        return
    lines = [score_table({"predictions": flat_metrics(metrics)})] if metrics is not None else []
    if spans := [row for row in span_rows(rows) if "timestamp" in row]:
        lines += ["", *sample_bars(spans)]
    if len(annotated) < len(rows):
        lines.append(f"{len(rows) - len(annotated)} of {len(rows)} rows have no timestamp and are not scored")
    if skipped:
        lines.append(f"{skipped} rows were skipped")
    print("\n".join([*lines, "", *paths.values()]))


def _rows_file(data: DataConfig, split: str) -> str:
    """The annotation file of the chosen split. Makes the demo data set if it is absent."""
    from vtg.demo.synthetic_data import ensure_synthetic

    ensure_synthetic(data)
    test_file = data.test_file or data.annotation_file
    path = {"test": test_file, "val": data.val_file, "train": data.annotation_file}[split]
    assert path is not None
    log.info("answering the rows of %s", path)
    return path


if __name__ == "__main__":
    main()
