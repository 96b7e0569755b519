"""A checkpoint's answers to one video and query, or to the rows of an annotation file.

python -m vtg.predict checkpoint=outputs/sft_tiny_demo video=a.mp4 query="a person sits down"
python -m vtg.predict checkpoint=outputs/sft_tiny_demo data.annotation_file=test.jsonl data.video_dir=videos
"""

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtg.config.file_rules import make_output_dir
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
    out = Path(config.output_dir)
    make_output_dir(out)
    with loading("torch and transformers"):
        from vtg.evaluation.grounder import Grounder
        from vtg.logs import start_logging

    start_logging()
    _log_settings(checkpoint)
    grounder = Grounder(checkpoint.settings)
    if config.video_file is not None:
        _answer_one(config, grounder, out, room=room)
    else:
        save_settings(checkpoint.settings, out)
        _answer_rows(config, grounder, out)


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


def _answer_rows(config: PredictConfig, grounder: "Grounder", out: Path) -> None:
    from vtg.data.answer_length import answer_room
    from vtg.data.asked_rows import asked_rows
    from vtg.data.lost_worker import worker_lost
    from vtg.data.skip_report import SkipReport
    from vtg.demo.synthetic_data import ensure_synthetic
    from vtg.evaluation.generate import predict
    from vtg.evaluation.partial_answers import PartialAnswers, stamps
    from vtg.evaluation.question_reader import QuestionReader
    from vtg.models.checkpoint import resolve_checkpoint

    report = SkipReport(out / "skipped.jsonl", max_bad_share=config.data.max_bad_share)
    ensure_synthetic(config.data)
    rows = asked_rows(config.data, config.split, report, takes_sets=grounder.task.takes_sets)
    asking = {"task": grounder.task, "processor": grounder.processor}
    room = answer_room(rows.samples, **asking, most=config.max_new_tokens, key="max_new_tokens")
    record = {"checkpoint": config.checkpoint, "max_new_tokens": room}
    write_input(out, input_record(grounder.settings.video, grounder.settings.task, **record))
    # Partial answers of an earlier call are used again only where all of this is as it was.
    asked = {
        "checkpoint": stamps(resolve_checkpoint(config.checkpoint), "*.safetensors"),
        "settings": asdict(grounder.settings),
        "rows": [stamps(file) for file in rows.files],
        "video_dir": [config.data.video_dir, *(source.video_dir for source in config.data.sources.values())],
        "asked": [config.split, config.data.max_samples, len(rows.samples), config.batch_size, room],
    }
    partial = PartialAnswers(out / "predictions.jsonl.part", asked)
    report.add(list(partial.skipped.values()))
    dataset = grounder.dataset(rows.samples, video_dir=rows.video_dir)
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
    answered = [answers[index] for index in sorted(answers)]
    write_jsonl(out / "predictions.jsonl", answered)
    partial.remove()  # only now: a kill before this line loses no answer
    _show(answered, out, title=config.checkpoint, as_json=config.json, skipped=len(report.skipped))


def _show(rows: list[AnswerRow], out: Path, *, title: str, as_json: bool, skipped: int) -> None:
    """Scores and draws the annotated rows, and prints the scores and the files."""
    from vtg.evaluation.moment_bars import sample_bars
    from vtg.evaluation.score_table import score_table
    from vtg.evaluation.source_scores import by_source, source_lines
    from vtg.evaluation.span_picture import draw_predictions
    from vtg.evaluation.task_scores import score, span_rows
    from vtg.tasks.all_tasks import SPAN, task_name
    from vtg.tasks.task import flat_metrics

    annotated = [row for row in rows if "timestamp" in row or task_name(row) != SPAN]
    files = {"predictions": "predictions.jsonl"}
    metrics = score(annotated) if annotated else None
    of_sources = by_source(annotated)
    sources = {"sources": {name: score(own) for name, own in of_sources.items()}} if of_sources else {}
    if metrics is not None:
        write_json(out / "metrics.json", metrics | sources)
        files["metrics"] = "metrics.json"
        if spans := span_rows(annotated):
            draw_predictions(spans, out / "predictions.png", title=title)
            files["picture"] = "predictions.png"
    if skipped:
        files["skipped"] = "skipped.jsonl"
    paths = {name: str(out / file) for name, file in files.items()}
    if as_json:
        counts = {"rows": len(rows), "scored": len(annotated), "skipped": skipped}
        print(json.dumps({"metrics": metrics, **sources, **counts, "files": paths}))
        return
    lines = [score_table({"predictions": flat_metrics(metrics)})] if metrics is not None else []
    if of_sources:
        lines += ["", *source_lines(of_sources)]
    if spans := [row for row in span_rows(rows) if "timestamp" in row]:
        lines += ["", *sample_bars(spans)]
    if len(annotated) < len(rows):
        lines.append(f"{len(rows) - len(annotated)} of {len(rows)} rows have no timestamp and are not scored")
    if skipped:
        lines.append(f"{skipped} rows were skipped")
    print("\n".join([*lines, "", *paths.values()]))


if __name__ == "__main__":
    main()
