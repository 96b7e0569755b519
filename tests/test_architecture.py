"""The house rules that a reader relies on, held over the syntax trees."""

import ast
import subprocess
import sys
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import vtg.config.clip_settings
import vtg.config.encoder_settings
import vtg.config.latent_settings
import vtg.config.latents_schema
import vtg.config.programs
import vtg.config.schema
import vtg.config.score_settings
from vtg.config.latents_schema import LatentsConfig
from vtg.config.programs import DoctorConfig, PredictConfig
from vtg.config.schema import RLConfig, SFTConfig
from vtg.config.score_settings import BudgetConfig, ScoreConfig
from vtg.config.setting import is_named

PROJECT = Path(__file__).parents[1]
PACKAGE = PROJECT / "vtg"

# fmt: off
BELOW: dict[str, tuple[str, ...]] = {
    "vtg.ranks": (),
    "vtg.errors": (),
    "vtg.console": (),
    "vtg.storage": (),
    "vtg.progress_bar": ("vtg.ranks",),
    "vtg.logs": ("vtg.ranks",),
    "vtg.threads": (),
    "vtg.private_names": ("vtg.errors",),
    "vtg.versions": (),
    "vtg.video.files.address": (),
    "vtg.video.video_window": ("vtg.errors",),
    "vtg.models.families": ("vtg.errors",),
    "vtg.config.inherits": ("vtg.errors", "vtg.console", "vtg.storage"),
    "vtg.config": ("vtg.errors", "vtg.console", "vtg.video.files.address", "vtg.models.families"),
    "vtg.entry": ("vtg.ranks", "vtg.errors", "vtg.console", "vtg.config"),
    "vtg.annotations.raw_rows": (),
    "vtg.annotations.subtitles": ("vtg.errors",),
    "vtg.annotations.row_target": (),
    "vtg.annotations.point": (),
    "vtg.annotations.point_targets": ("vtg.annotations.row_target", "vtg.annotations.point"),
    "vtg.annotations.text_targets": ("vtg.annotations.row_target",),
    "vtg.annotations.target": (
        "vtg.annotations.row_target", "vtg.annotations.text_targets", "vtg.annotations.point_targets",
    ),
    "vtg.annotations.row_checks": (
        "vtg.video.files.address", "vtg.annotations.raw_rows", "vtg.annotations.row_target",
        "vtg.annotations.point_targets", "vtg.annotations.target",
    ),
    "vtg.annotations.row_decoder": ("vtg.video.files.address", "vtg.annotations.row_checks"),
    "vtg.annotations.sample": (
        "vtg.video.files.address", "vtg.video.video_window", "vtg.annotations.raw_rows", "vtg.annotations.row_checks",
        "vtg.annotations.row_decoder", "vtg.annotations.target",
    ),
    "vtg.video": (
        "vtg.errors", "vtg.storage", "vtg.threads", "vtg.video.files.address", "vtg.video.video_window", "vtg.config",
    ),
    "vtg.annotations.unannotated_rows": (
        "vtg.errors", "vtg.annotations.raw_rows", "vtg.annotations.row_checks", "vtg.annotations.target",
        "vtg.annotations.sample", "vtg.video",
    ),
    "vtg.annotations.sources": ("vtg.annotations.raw_rows", "vtg.annotations.row_checks"),
    "vtg.annotations.conversion": (
        "vtg.errors", "vtg.storage", "vtg.progress_bar", "vtg.annotations.row_checks", "vtg.annotations.row_decoder",
        "vtg.annotations.sample", "vtg.annotations.sources",
    ),
    "vtg.annotations.formats": (
        "vtg.errors", "vtg.storage", "vtg.progress_bar", "vtg.annotations.raw_rows", "vtg.annotations.row_checks",
        "vtg.annotations.target", "vtg.annotations.sample", "vtg.video", "vtg.annotations.sources",
        "vtg.annotations.conversion", "vtg.video.files.address",
    ),
    "vtg.annotations.arrow_rows": (),
    "vtg.annotations.sample_table": (
        "vtg.annotations.target", "vtg.annotations.sample", "vtg.annotations.arrow_rows",
    ),
    "vtg.annotations.table_cache": (
        "vtg.errors", "vtg.storage", "vtg.video.files.address", "vtg.annotations.sample", "vtg.video",
        "vtg.annotations.formats", "vtg.annotations.sample_table",
    ),
    "vtg.annotations.joined_tables": (
        "vtg.annotations.sample", "vtg.annotations.sample_table", "vtg.annotations.table_cache",
    ),
    "vtg.tasks": (
        "vtg.errors", "vtg.config", "vtg.annotations.point", "vtg.annotations.point_targets", "vtg.annotations.target",
        "vtg.annotations.sample", "vtg.annotations.subtitles", "vtg.annotations.row_target",
        "vtg.annotations.text_targets",
    ),
    "vtg.data.still_encoding": ("vtg.errors", "vtg.models.families"),
    "vtg.data.seen_clip": ("vtg.video",),
    "vtg.data.encoding": (
        "vtg.errors", "vtg.video", "vtg.models.families", "vtg.data.still_encoding", "vtg.data.seen_clip",
    ),
    "vtg.data.question_encoding": ("vtg.errors", "vtg.video", "vtg.models.families", "vtg.data.encoding"),
    "vtg.data.picture_encoding": ("vtg.errors", "vtg.models.families", "vtg.data.encoding"),
    "vtg.data.lost_worker": (),
    "vtg.data.pixels": ("vtg.models.families", "vtg.data.encoding"),
    "vtg.data.padding": ("vtg.data.encoding", "vtg.data.pixels"),
    "vtg.data.recurrent_order": (),
    "vtg.data.branch_chunks": (),
    "vtg.data.layout": ("vtg.data.recurrent_order", "vtg.data.branch_chunks"),
    "vtg.data.whole_mask": (),
    "vtg.data.packing": (
        "vtg.errors", "vtg.data.encoding", "vtg.data.pixels", "vtg.data.layout", "vtg.data.whole_mask",
        "vtg.data.seen_clip",
    ),
    "vtg.data.tensor_folder": ("vtg.errors", "vtg.storage"),
    "vtg.data.tower_cache": (
        "vtg.video", "vtg.video.files.address", "vtg.video.video_window", "vtg.data.seen_clip",
        "vtg.data.tensor_folder",
    ),
    "vtg.data.answer_length": (
        "vtg.errors", "vtg.annotations.sample", "vtg.annotations.sample_table", "vtg.tasks",
    ),
    "vtg.batching.cost": (
        "vtg.errors", "vtg.progress_bar", "vtg.config", "vtg.annotations.sample", "vtg.video",
        "vtg.annotations.sample_table", "vtg.annotations.table_cache", "vtg.tasks", "vtg.models.families",
        "vtg.data.encoding",
    ),
    "vtg.batching": (),
    "vtg.data": (
        "vtg.errors", "vtg.storage", "vtg.config", "vtg.annotations.sample", "vtg.video",
        "vtg.annotations.target", "vtg.annotations.sample_table", "vtg.annotations.table_cache",
        "vtg.annotations.joined_tables", "vtg.annotations.formats", "vtg.annotations.unannotated_rows", "vtg.tasks",
        "vtg.data.encoding", "vtg.data.padding", "vtg.data.packing", "vtg.batching",
    ),
    "vtg.models": (
        "vtg.errors", "vtg.console", "vtg.storage", "vtg.config", "vtg.video", "vtg.tasks", "vtg.models.families",
        "vtg.data.encoding", "vtg.data.layout",
    ),
    "vtg.memory": ("vtg.errors", "vtg.config", "vtg.models.families", "vtg.models"),
    "vtg.decoding": (
        "vtg.config", "vtg.video", "vtg.models.families", "vtg.data.encoding", "vtg.data.pixels", "vtg.data.padding",
        "vtg.data.layout", "vtg.data.packing", "vtg.data.seen_clip", "vtg.data.tower_cache", "vtg.models", "vtg.tasks",
    ),
    "vtg.training.processes": ("vtg.errors", "vtg.data.lost_worker"),
    "vtg.training.progress": ("vtg.storage", "vtg.progress_bar"),
    "vtg.evaluation.presets": (),
    "vtg.evaluation.set_metrics": ("vtg.tasks", "vtg.evaluation.presets"),
    "vtg.evaluation.metrics": ("vtg.tasks", "vtg.evaluation.set_metrics"),
    "vtg.serving.refusals": ("vtg.errors",),
    "vtg.serving.request_guard": ("vtg.serving.refusals",),
    "vtg.serving.web_server": ("vtg.errors", "vtg.serving.request_guard", "vtg.serving.refusals"),
    "vtg.report": (
        "vtg.errors", "vtg.console", "vtg.storage", "vtg.config", "vtg.video.video_window", "vtg.annotations.sample",
        "vtg.video", "vtg.tasks", "vtg.evaluation.metrics", "vtg.serving.request_guard", "vtg.serving.web_server",
    ),
    "vtg.export": (
        "vtg.errors", "vtg.console", "vtg.storage", "vtg.logs", "vtg.video.video_window", "vtg.config", "vtg.video",
        "vtg.tasks", "vtg.models.families", "vtg.data.encoding", "vtg.data.padding", "vtg.models", "vtg.report",
    ),
    "vtg.download": (
        "vtg.errors", "vtg.console", "vtg.storage", "vtg.progress_bar", "vtg.annotations.sample",
        "vtg.annotations.formats",
    ),
    "vtg.inspect": (
        "vtg.errors", "vtg.console", "vtg.storage", "vtg.progress_bar", "vtg.video.files.address",
        "vtg.video.video_window", "vtg.config", "vtg.entry", "vtg.annotations.target", "vtg.annotations.sample",
        "vtg.video", "vtg.annotations.formats", "vtg.annotations.table_cache", "vtg.report", "vtg.download",
    ),
    "vtg.evaluation.prediction_rows": ("vtg.annotations.raw_rows", "vtg.tasks", "vtg.evaluation.metrics"),
    "vtg.evaluation.task_answers": (
        "vtg.config", "vtg.annotations.target", "vtg.annotations.sample", "vtg.tasks",
        "vtg.evaluation.prediction_rows",
    ),
    "vtg.evaluation.joining": (
        "vtg.annotations.sample", "vtg.annotations.conversion", "vtg.annotations.formats", "vtg.tasks",
        "vtg.evaluation.metrics", "vtg.evaluation.prediction_rows", "vtg.evaluation.task_answers",
    ),
    "vtg.evaluation.findings": ("vtg.evaluation.presets",),
    "vtg.evaluation.answer_tables": ("vtg.evaluation.prediction_rows",),
    "vtg.evaluation.published_predictions": (
        "vtg.annotations.sources", "vtg.tasks", "vtg.evaluation.prediction_rows", "vtg.evaluation.answer_tables",
        "vtg.evaluation.presets",
    ),
    "vtg.evaluation.cases": (
        "vtg.annotations.sources", "vtg.annotations.conversion", "vtg.annotations.formats", "vtg.evaluation.presets",
        "vtg.evaluation.joining", "vtg.evaluation.published_predictions",
    ),
    "vtg.evaluation.prediction_form": (
        "vtg.annotations.sources", "vtg.annotations.formats", "vtg.evaluation.answer_tables",
        "vtg.evaluation.published_predictions",
    ),
    "vtg.evaluation.intervals": ("vtg.evaluation.metrics",),
    "vtg.evaluation.controls": ("vtg.evaluation.presets",),
    "vtg.latents": (
        "vtg.errors", "vtg.console", "vtg.storage", "vtg.progress_bar", "vtg.logs", "vtg.config", "vtg.entry",
        "vtg.video.files.address", "vtg.video.video_window", "vtg.annotations.sample", "vtg.video",
        "vtg.annotations.formats", "vtg.annotations.sample_table", "vtg.models.families", "vtg.data.encoding",
        "vtg.data.tensor_folder", "vtg.models", "vtg.inspect", "vtg.evaluation.presets", "vtg.evaluation.metrics",
        "vtg.evaluation.intervals",
        "vtg.evaluation.controls",
    ),
    "vtg.evaluation.task_scores": ("vtg.tasks", "vtg.evaluation.metrics"),
    "vtg.evaluation.source_scores": ("vtg.console", "vtg.annotations.joined_tables", "vtg.evaluation.task_scores"),
    "vtg.evaluation.task_report": (
        "vtg.console", "vtg.tasks", "vtg.evaluation.metrics", "vtg.evaluation.intervals", "vtg.evaluation.task_scores",
    ),
    "vtg.evaluation.ranked_metrics": ("vtg.evaluation.presets",),
    "vtg.evaluation.breakdown": ("vtg.evaluation.presets", "vtg.evaluation.controls"),
    "vtg.evaluation.score_context": (
        "vtg.console", "vtg.evaluation.presets", "vtg.evaluation.intervals", "vtg.evaluation.set_metrics",
        "vtg.evaluation.ranked_metrics", "vtg.evaluation.controls", "vtg.evaluation.breakdown",
    ),
    "vtg.evaluation.published_scores": (
        "vtg.tasks", "vtg.evaluation.metrics", "vtg.evaluation.presets", "vtg.evaluation.published_predictions",
        "vtg.evaluation.cases", "vtg.evaluation.ranked_metrics", "vtg.evaluation.score_context",
    ),
    "vtg.evaluation.input_record": ("vtg.storage", "vtg.config", "vtg.tasks"),
    "vtg.evaluation.question_plan": ("vtg.config", "vtg.annotations.sample", "vtg.annotations.sample_table"),
    "vtg.evaluation.span_picture": ("vtg.storage", "vtg.tasks", "vtg.evaluation.metrics", "vtg.report"),
    "vtg.evaluation.moment_bars": ("vtg.tasks", "vtg.evaluation.metrics", "vtg.report"),
    "vtg.evaluation": (
        "vtg.errors", "vtg.storage", "vtg.progress_bar", "vtg.logs", "vtg.video.files.address",
        "vtg.video.video_window", "vtg.config", "vtg.entry", "vtg.annotations.sample", "vtg.video", "vtg.tasks",
        "vtg.data.encoding", "vtg.data.padding", "vtg.data", "vtg.models", "vtg.decoding", "vtg.evaluation.metrics",
        "vtg.report",
    ),
    "vtg.annotate": (
        "vtg.errors", "vtg.console", "vtg.storage", "vtg.progress_bar", "vtg.logs", "vtg.config", "vtg.entry",
        "vtg.annotations.target", "vtg.annotations.sample", "vtg.annotations.formats", "vtg.video.video_window",
        "vtg.video", "vtg.tasks", "vtg.data.encoding", "vtg.data", "vtg.models", "vtg.inspect", "vtg.decoding",
        "vtg.evaluation",
    ),
    "vtg.serving": (
        "vtg.errors", "vtg.logs", "vtg.config", "vtg.video.video_window", "vtg.video", "vtg.tasks",
        "vtg.data.encoding", "vtg.data", "vtg.decoding", "vtg.evaluation",
    ),
    "vtg.serve": (
        "vtg.errors", "vtg.console", "vtg.logs", "vtg.entry", "vtg.video.video_window", "vtg.evaluation",
        "vtg.serving",
    ),
    "vtg.demo": (
        "vtg.errors", "vtg.storage", "vtg.progress_bar", "vtg.threads", "vtg.config", "vtg.annotations.target",
        "vtg.video", "vtg.tasks", "vtg.data.encoding", "vtg.data.padding", "vtg.models",
    ),
    "vtg.scoring": (
        "vtg.errors", "vtg.console", "vtg.storage", "vtg.logs", "vtg.config", "vtg.annotations.sample", "vtg.data",
        "vtg.models", "vtg.tasks", "vtg.report", "vtg.evaluation.score_context", "vtg.evaluation.published_scores",
        "vtg.evaluation.input_record", "vtg.evaluation",
    ),
    "vtg.harness": (
        "vtg.errors", "vtg.progress_bar", "vtg.config", "vtg.entry", "vtg.video.video_window",
        "vtg.data.encoding", "vtg.data.question_encoding", "vtg.models", "vtg.decoding", "vtg.evaluation",
        "vtg.scoring",
    ),
    "vtg.doctor": (
        "vtg.errors", "vtg.console", "vtg.progress_bar", "vtg.logs", "vtg.video.files.address",
        "vtg.video.video_window", "vtg.config", "vtg.entry", "vtg.annotations.raw_rows", "vtg.annotations.row_checks",
        "vtg.annotations.row_decoder", "vtg.batching",
        "vtg.annotations.target", "vtg.annotations.row_target", "vtg.annotations.subtitles", "vtg.annotations.sample",
        "vtg.video", "vtg.annotations.formats", "vtg.tasks", "vtg.models.families", "vtg.data.encoding",
        "vtg.data.answer_length", "vtg.models", "vtg.memory",
        "vtg.evaluation.metrics", "vtg.report", "vtg.demo",
    ),
    "vtg.app.rows": (
        "vtg.errors", "vtg.storage", "vtg.video.files.address", "vtg.video.video_window", "vtg.annotations.raw_rows",
        "vtg.annotations.row_checks", "vtg.annotations.sample", "vtg.video", "vtg.annotations.formats", "vtg.tasks",
        "vtg.evaluation.prediction_rows", "vtg.doctor",
    ),
    "vtg.app": (
        "vtg.errors", "vtg.console", "vtg.storage", "vtg.logs", "vtg.video.files.address", "vtg.video.video_window",
        "vtg.config", "vtg.entry", "vtg.annotations.target", "vtg.annotations.sample", "vtg.video",
        "vtg.annotations.formats", "vtg.annotations.table_cache", "vtg.tasks", "vtg.models.families",
        "vtg.data.encoding", "vtg.data", "vtg.models", "vtg.evaluation.metrics", "vtg.evaluation", "vtg.report",
        "vtg.demo", "vtg.doctor", "vtg.memory", "vtg.serving",
    ),
    "vtg.recipes": (
        "vtg.errors", "vtg.console", "vtg.config", "vtg.entry", "vtg.annotations.sample", "vtg.annotations.formats",
        "vtg.annotations.table_cache",
    ),
    "vtg.evaluate": (
        "vtg.errors", "vtg.console", "vtg.storage", "vtg.config", "vtg.tasks", "vtg.evaluation.metrics",
        "vtg.evaluation.prediction_rows", "vtg.evaluation.joining", "vtg.evaluation.presets",
        "vtg.evaluation.ranked_metrics", "vtg.evaluation.score_context", "vtg.evaluation.published_scores",
        "vtg.evaluation.input_record", "vtg.evaluation.findings", "vtg.evaluation.task_answers",
        "vtg.evaluation.task_report", "vtg.evaluation.prediction_form",
    ),
    "vtg.training.batch_log": (),
    "vtg.training.answer_lengths": (
        "vtg.config", "vtg.annotations.sample_table", "vtg.tasks", "vtg.data.answer_length", "vtg.data", "vtg.models",
    ),
    "vtg.training.best_weights": ("vtg.annotations.sample_table", "vtg.data"),
    "vtg.training.checkpoint_saving": ("vtg.errors", "vtg.storage"),
    "vtg.training.guard": ("vtg.errors", "vtg.config", "vtg.data"),
    "vtg.training.stopping": (),
    "vtg.training.part_rates": (),
    "vtg.training.zero": ("vtg.ranks", "vtg.errors", "vtg.config", "vtg.training.part_rates"),
    "vtg.training.mixture_record": (
        "vtg.ranks", "vtg.console", "vtg.errors", "vtg.storage", "vtg.batching",
    ),
    "vtg.training.run_trainer": (
        "vtg.private_names", "vtg.data", "vtg.models", "vtg.training.progress", "vtg.training.best_weights",
        "vtg.training.checkpoint_saving", "vtg.training.guard", "vtg.training.part_rates", "vtg.training.stopping",
        "vtg.training.zero",
    ),
    "vtg.training.trainer_parts": (
        "vtg.config", "vtg.data", "vtg.models", "vtg.training.guard", "vtg.training.part_rates",
        "vtg.training.run_trainer",
    ),
    "vtg.training.grounding_trainer": (
        "vtg.ranks", "vtg.tasks", "vtg.data", "vtg.models", "vtg.training.mixture_record", "vtg.evaluation",
        "vtg.training.best_weights", "vtg.training.guard", "vtg.training.run_trainer", "vtg.training.trainer_parts",
    ),
    "vtg.training.model_check": ("vtg.errors", "vtg.config", "vtg.memory", "vtg.tasks", "vtg.models"),
    "vtg.training.hf_arguments": ("vtg.errors", "vtg.config", "vtg.training.zero"),
    "vtg.training.row_identity": (
        "vtg.errors", "vtg.storage", "vtg.config", "vtg.annotations.sample", "vtg.annotations.sample_table",
        "vtg.data",
    ),
    "vtg.training.run_lock": ("vtg.errors", "vtg.storage"),
    "vtg.training.run_record": ("vtg.errors", "vtg.storage", "vtg.models"),
    "vtg.training.run_dir": (
        "vtg.ranks", "vtg.errors", "vtg.storage", "vtg.threads", "vtg.versions", "vtg.config", "vtg.models",
        "vtg.training.processes", "vtg.training.checkpoint_saving", "vtg.training.run_lock",
        "vtg.training.run_record",
    ),
    "vtg.training.course": (
        "vtg.ranks", "vtg.config", "vtg.data", "vtg.models", "vtg.training.processes", "vtg.training.best_weights",
        "vtg.training.checkpoint_saving", "vtg.training.run_record", "vtg.training.run_dir",
        "vtg.training.run_trainer",
    ),
    "vtg.training.run_results": (
        "vtg.ranks", "vtg.storage", "vtg.tasks", "vtg.evaluation.metrics", "vtg.evaluation.span_picture",
        "vtg.evaluation", "vtg.training.mixture_record", "vtg.training.run_record",
    ),
    "vtg.training.run": (
        "vtg.ranks", "vtg.storage", "vtg.config", "vtg.annotations.sample", "vtg.annotations.sample_table",
        "vtg.tasks", "vtg.data", "vtg.models", "vtg.decoding", "vtg.training.processes", "vtg.report",
        "vtg.evaluation", "vtg.demo", "vtg.training.answer_lengths", "vtg.training.course",
        "vtg.training.grounding_trainer",
        "vtg.training.hf_arguments", "vtg.training.row_identity", "vtg.training.run_record", "vtg.training.run_dir",
        "vtg.training.run_results",
    ),
    "vtg.training.rl": (
        "vtg.ranks", "vtg.errors", "vtg.storage", "vtg.logs", "vtg.config", "vtg.annotations.target",
        "vtg.annotations.sample", "vtg.video", "vtg.annotations.sample_table", "vtg.annotations.joined_tables",
        "vtg.tasks", "vtg.models.families",
        "vtg.data.encoding", "vtg.batching.cost", "vtg.batching", "vtg.data", "vtg.models", "vtg.memory",
        "vtg.decoding",
        "vtg.training.progress", "vtg.training.batch_log", "vtg.training.guard", "vtg.training.trainer_parts",
        "vtg.training.mixture_record", "vtg.training.grounding_trainer", "vtg.training.model_check",
        "vtg.training.hf_arguments", "vtg.training.run_record", "vtg.training.run",
    ),
    "vtg.training.sft": (
        "vtg.ranks", "vtg.errors", "vtg.storage", "vtg.logs", "vtg.config", "vtg.annotations.sample", "vtg.video",
        "vtg.annotations.sample_table", "vtg.tasks", "vtg.data.encoding", "vtg.data.packing", "vtg.batching.cost",
        "vtg.batching", "vtg.data", "vtg.models", "vtg.decoding", "vtg.memory", "vtg.training.batch_log",
        "vtg.training.guard", "vtg.training.mixture_record",
        "vtg.training.zero", "vtg.training.trainer_parts", "vtg.training.grounding_trainer", "vtg.training.model_check",
        "vtg.training.hf_arguments", "vtg.training.run",
        "vtg.training.guard", "vtg.entry", "vtg.demo",
    ),
    "vtg.training.latents": (
        "vtg.ranks", "vtg.errors", "vtg.console", "vtg.storage", "vtg.progress_bar", "vtg.logs", "vtg.config",
        "vtg.video.video_window", "vtg.annotations.sample", "vtg.video", "vtg.data", "vtg.latents", "vtg.report",
        "vtg.demo", "vtg.training.guard", "vtg.training.part_rates", "vtg.training.hf_arguments",
        "vtg.training.row_identity", "vtg.training.run_record", "vtg.training.run_dir", "vtg.training.run_trainer",
        "vtg.training.course",
    ),
}
# fmt: on
"""Room → the rooms it may import from, itself aside. Listed bottom first: a room may name only rooms above
its own line. Modules directly in vtg/ that are not listed are commands, and may import anything but each other."""

COMMANDS_WITHOUT_TORCH = (
    "validate",
    "convert",
    "inspect",
    "evaluate",
    "report",
    "export",
    "entry",
    "config.load",
    "sft",
    "rl",
    "future",
)
PRIMARY: dict[str, type] = {
    "sft": SFTConfig,
    "doctor": DoctorConfig,
    "predict": PredictConfig,
    "rl": RLConfig,
    "score": ScoreConfig,
    "latents": LatentsConfig,
}
"""The schema of a primary config. All groups are parts of RLConfig, but for those of latents."""

OF_LATENTS = {entry.name for entry in fields(LatentsConfig)} - {entry.name for entry in fields(RLConfig)}

FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "misc", "base"}


def module_name(path: Path) -> str:
    parts = path.relative_to(PROJECT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8"), str(path)) for name, path in SOURCES.items()}


def imports_of(tree: ast.Module) -> set[str]:
    """Every module a tree imports, at its top and inside of functions."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a name comes from"
            assert node.module is not None
            modules = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {module if module in SOURCES else node.module for module in modules}
    return found


def lies_in(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def room_of(module: str) -> str | None:
    return max((room for room in BELOW if lies_in(module, room)), key=len, default=None)


def test_imports_point_one_way():
    wrong = []
    for module, tree in TREES.items():
        room = room_of(module)
        for imported in sorted(name for name in imports_of(tree) if lies_in(name, "vtg")):
            if imported == "vtg":
                allowed = True  # its version
            elif room is None:
                allowed = room_of(imported) is not None
            else:
                allowed = lies_in(imported, room) or any(lies_in(imported, below) for below in BELOW[room])
            if not allowed:
                wrong.append(f"{module} imports {imported}")
    assert not wrong, "\n".join(wrong)


def test_the_order_itself_has_no_circle():
    rooms = list(BELOW)
    for at, room in enumerate(rooms):
        for below in BELOW[room]:
            assert any(lies_in(earlier, below) for earlier in rooms[:at]), (
                f"{room} may import {below}, which stands above it"
            )
            assert not any(lies_in(later, below) for later in rooms[at:]), f"{room}: {below} holds rooms above it"


def test_every_module_has_a_room_or_is_a_command():
    for module in SOURCES:
        is_command = module.count(".") == 1 and SOURCES[module].name != "__init__.py"
        is_package = SOURCES[module].name == "__init__.py"
        assert room_of(module) or is_command or is_package, f"{module}: give it a line in BELOW"


def test_commands_start_without_torch_and_without_hugging_face():
    names = ", ".join(f"vtg.{name}" for name in COMMANDS_WITHOUT_TORCH)
    code = f"import sys, {names}; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {
        "torch",
        "torchvision",
        "transformers",
        "peft",
        "accelerate",
        "matplotlib",
        "decord",
        "torchcodec",
    }


def test_commands_that_do_not_train_import_nothing_of_training():
    for command in ("vtg.predict", "vtg.evaluate", "vtg.export", "vtg.doctor", "vtg.report", "vtg.inspect"):
        for module in (name for name in TREES if lies_in(name, command)):
            assert not [name for name in imports_of(TREES[module]) if lies_in(name, "vtg.training")], module


@pytest.mark.parametrize("name", ["sft", "rl"])
def test_training_starts_without_what_it_may_never_use(name):
    """Pictures are drawn at the end; each of these takes up to seconds to import."""
    code = f"import sys, vtg.training.{name}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    unused = {"matplotlib", "tensorboard", "deepspeed", "vllm", "bitsandbytes", "wandb", "decord", "torchcodec"}
    unused |= {"trl"} if name == "sft" else set()
    assert not unused & set(done.stdout.split())


def test_no_config_and_no_file_can_run_code():
    wrong = []
    for module, tree in TREES.items():
        imported = {name.partition(".")[0] for name in imports_of(tree)}
        wrong += [f"{module} imports {name}" for name in imported & {"pickle", "cloudpickle", "dill", "marshal"}]
        for node in ast.walk(tree):
            name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            name = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else name
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and name in ("eval", "exec", "compile"):
                wrong.append(f"{module}:{node.lineno} calls {name}")
            if name in ("instantiate", "unsafe_load"):
                wrong.append(f"{module}:{node.lineno} calls {name}")
            never = ("trust_remote_code", "shell")
            if isinstance(node, ast.keyword) and node.arg in never and ast.unparse(node.value) != "False":
                wrong.append(f"{module}:{node.value.lineno} sets {node.arg}")
            if isinstance(node, ast.keyword) and node.arg == "weights_only" and ast.unparse(node.value) != "True":
                wrong.append(f"{module}:{node.value.lineno} sets weights_only")
    assert not wrong, "\n".join(wrong)
    assert not [path for path in config_files() if "_target_" in path.read_text()]


def test_whatever_is_loaded_from_a_model_folder_or_a_hub_runs_no_code_of_its_own():
    wrong = []
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner, loads = ast.unparse(node.func.value), node.func.attr in ("from_pretrained", "from_config")
                said = {keyword.arg for keyword in node.keywords}
                if loads and owner.startswith("Auto") and "trust_remote_code" not in said:
                    wrong.append(f"{module}:{node.lineno} {owner}.{node.func.attr} without trust_remote_code=False")
    assert not wrong, "\n".join(wrong)


def test_no_broad_except():
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                caught = ast.unparse(node.type) if node.type else ""
                assert caught not in ("", "Exception", "BaseException"), f"{module}:{node.lineno}: name the error"


def test_names_say_what_is_inside():
    for module in SOURCES:
        assert not FORBIDDEN_NAMES & set(module.split(".")), module


def config_files() -> list[Path]:
    return sorted((PROJECT / "conf").rglob("*.yaml"))


def schema_fields() -> dict[str, list[str]]:
    """Every dataclass of the settings, and its fields."""
    modules = (
        *(vtg.config.schema, vtg.config.programs, vtg.config.score_settings),
        *(vtg.config.encoder_settings, vtg.config.clip_settings, vtg.config.latent_settings),
        vtg.config.latents_schema,
    )
    named = {name: value for module in modules for name, value in vars(module).items()}
    classes = [value for value in named.values() if isinstance(value, type) and is_dataclass(value)]
    return {cls.__name__: [entry.name for entry in fields(cls)] for cls in classes}


def read_attributes() -> set[str]:
    """Every NAME in a `.NAME` that is read somewhere in vtg/."""
    nodes = (node for tree in TREES.values() for node in ast.walk(tree))
    return {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)}


@pytest.mark.parametrize("owner", schema_fields())
def test_every_setting_is_read(owner):
    read = read_attributes()
    unread = [name for name in schema_fields()[owner] if name not in read]
    assert not unread, f"{owner}: no module reads {', '.join(unread)}; an option must do something"


def schema_at(path: list[str], root: type = RLConfig) -> type | None:
    """The dataclass that `path` (group names) leads to from `root`; None where it leads to no dataclass."""
    owner: type | None = root
    for name in path:
        assert owner is not None
        types = {entry.name: entry.type for entry in fields(owner)}
        options = [types[name], *getattr(types[name], "__args__", ())]
        owner = next((option for option in options if is_dataclass(option)), None)  # type: ignore[assignment]
    return owner


def unknown_keys(values: dict, path: list[str], root: type) -> list[str]:
    owner = schema_at(path, root)
    if owner is None:
        return []
    names = {entry.name for entry in fields(owner)}
    unknown = [".".join([*path, str(key)]) for key in values if key not in names]
    named = {entry.name for entry in fields(owner) if is_named(entry)}
    for key, value in values.items():
        if key in named:  # groups under names of the user's
            of_name = {name: one for each in value.values() for name, one in each.items()}
            unknown += unknown_keys(of_name, [*path, key], root)
            continue
        if key in names and isinstance(value, dict):
            unknown += unknown_keys(value, [*path, key], root)
    return unknown


@pytest.mark.parametrize("path", config_files(), ids=lambda path: str(path.relative_to(PROJECT / "conf")))
def test_every_key_of_a_shipped_config_is_a_setting(path):
    values = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(values, dict)
    values = {key: value for key, value in values.items() if key not in ("defaults", "hydra")}
    is_global = "# @package _global_" in path.read_text()
    group = path.relative_to(PROJECT / "conf").parts[:-1]
    root = PRIMARY.get(path.stem, RLConfig) if not group else RLConfig
    if group == ("budget",):  # several are taken at once, so it is no group of a schema
        assert values.keys() == {entry.name for entry in fields(BudgetConfig)}
        return
    root = ScoreConfig if group == ("benchmark",) else root
    if (group and group[0] in OF_LATENTS) or "override /encoder: " in path.read_text():
        root = LatentsConfig
    assert not unknown_keys(values, [] if is_global else list(group), root)


def test_the_schema_has_a_value_for_every_key_in_the_shipped_configs():
    """A key that no shipped file sets would be found by reading the source alone."""
    set_somewhere: dict[str, set[str]] = {}
    for path in config_files():
        group = path.relative_to(PROJECT / "conf").parts[:-1]
        values = OmegaConf.to_container(OmegaConf.load(path))
        if len(group) == 1 and isinstance(values, dict):
            set_somewhere.setdefault(group[0], set()).update(map(str, values))
    groups = {entry.name: schema_at([entry.name]) for entry in fields(RLConfig)}
    for group, owner in groups.items():
        if owner is not None:
            missing = {entry.name for entry in fields(owner)} - set_somewhere[group]
            assert not missing, f"conf/{group}/: no file sets {', '.join(sorted(missing))}"


def test_test_files_mirror_the_package_and_have_names_of_their_own():
    names = [path.name for path in (PROJECT / "tests").rglob("test_*.py")]
    assert all(one != other for one, other in pairwise(sorted(names)))
