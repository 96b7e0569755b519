"""A checkpoint on a published benchmark, at the budgets of input that numbers on it are published at.

python -m vtg.score checkpoint=outputs/RUN benchmark=charades_timelens 'budgets=[2fps_14k,4fps_128k]'
"""

import json
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vtg.config.budgets import read_budgets
from vtg.config.file_rules import make_output_dir
from vtg.config.score_rules import rows_path
from vtg.config.score_settings import ScoreConfig
from vtg.entry import chosen, config_folders, hydra_program, loading
from vtg.errors import ConfigError
from vtg.evaluation.presets.table import PUBLISHED
from vtg.models.checkpoint import has_weights
from vtg.models.checkpoint_settings import checkpoint_settings
from vtg.models.hub import find_model
from vtg.progress_bar import ProgressBar
from vtg.storage.json_files import write_json
from vtg.tasks.span_task import SpanTask

if TYPE_CHECKING:
    from vtg.scoring.questions import Questions

log = logging.getLogger("vtg.score")  # __name__ is __main__ under python -m


def main() -> None:
    """Composes conf/score.yaml and scores; see `python -m vtg.score --help`."""
    hydra_program("score", schema=ScoreConfig, job=_score)


def _score(config: ScoreConfig) -> None:
    benchmark = config.benchmark
    budgets = read_budgets(benchmark.budgets if config.budgets is None else config.budgets, config_folders())
    if benchmark.prompt is not None:
        config.fallback.task = replace(config.fallback.task, template=benchmark.prompt)
    checkpoint = checkpoint_settings(config.checkpoint, overrides=config.settings, fallback=config.fallback)
    # The answer form is checked before torch is imported.
    task = SpanTask(checkpoint.settings.task)
    task.check_room(benchmark.max_new_tokens or task.room, key="benchmark.max_new_tokens")
    find_model(config.checkpoint, key="checkpoint")
    out = _output_dir(config)
    with loading("torch and transformers"):
        from vtg.logs import start_logging
        from vtg.report import write_report
        from vtg.scoring.budget_settings import settings_at
        from vtg.scoring.questions import Questions
        from vtg.scoring.score_document import document, score_text

    start_logging()
    log.info("settings: %s", checkpoint.source)
    if benchmark.demo is not None:
        from vtg.demo.demo_dataset import ensure_demo

        assert benchmark.video_dir is not None
        ensure_demo(benchmark.video_dir, benchmark.demo)
    rows_file = rows_path(benchmark)
    asked = [
        Questions(name, settings, benchmark, folder=out / name, rows_file=rows_file)
        for name, settings in settings_at(budgets, checkpoint.settings).items()
    ]
    _ask(config, asked)
    # The answers of a model that vtg did not train are read as the benchmark's own script reads them.
    reads_text = checkpoint.is_plain and benchmark.preset in PUBLISHED and PUBLISHED[benchmark.preset].parse is not None
    found = {one.name: one.scores(reads_text=reads_text) for one in asked}
    parser = f"the parser of {benchmark.preset}" if reads_text else "the checkpoint's answer form"
    scored = document(benchmark, found, checkpoint=config.checkpoint, parser=parser)
    write_json(out / "scores.json", scored)
    page = write_report(out)
    print(json.dumps(scored) if config.json else f"{score_text(scored)}\n\n{out / 'scores.json'}\n{page}")


def _output_dir(config: ScoreConfig) -> Path:
    """Raises ConfigError where answers would take the place of a run's or a model's own files, or cannot be written."""
    name = re.sub(r"[^\w.]+", "_", config.checkpoint.removeprefix("outputs/")).strip("_.") or "checkpoint"
    out = Path(config.output_dir or f"outputs/score/{name}/{chosen('benchmark')}")
    if (out / "config.yaml").is_file() or has_weights(out):
        raise ConfigError(
            f"output_dir = {str(out)!r}: holds a run or a model, whose own files would be overwritten; name another "
            f"folder, for example output_dir={out / 'scores'}"
        )
    make_output_dir(out)
    return out


def _ask(config: ScoreConfig, asked: list["Questions"]) -> None:
    """Asks what is not answered yet, and saves each batch."""
    from vtg.scoring.answer_processes import Asking, Batch, answer

    by_name = {one.name: one for one in asked}
    benchmark = config.benchmark
    total, done = sum(len(one.samples) for one in asked), sum(one.answered for one in asked)
    with ProgressBar(total, title="answering", unit="question", initial=done) as bar:

        def keep(batch: Batch) -> None:
            by_name[batch.round].keep(batch)
            bar.note({"budget": batch.round})
            bar.update(len(batch.rows) + len(batch.skipped))

        asking = Asking(benchmark.video_dir, config.batch_size, asked[0].room, config.num_workers)
        answer([one.round() for one in asked], asking, keep, processes=config.processes)


if __name__ == "__main__":
    main()
