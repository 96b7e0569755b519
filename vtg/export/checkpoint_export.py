"""Saves a checkpoint as one plain Hugging Face model, its adapter merged, and compares what was saved with it.

Compared are the logits of the saved weights with the checkpoint's and, where vtg trained it, the answers of
transformers alone and of vtg to one small video file (`vtg.export.plain_answers`).
"""

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForImageTextToText, PreTrainedModel, ProcessorMixin

from vtg.config.model_settings import ModelConfig
from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import Features, encode, frame_options, patch_factor
from vtg.data.padding import collate
from vtg.errors import ConfigError, RunError
from vtg.export.manifest import write_manifest
from vtg.export.model_card import QUERY, model_card
from vtg.export.plain_answers import AnswerComparison, compare_answers
from vtg.export.run_section import training_run
from vtg.export.standalone import FRAMES_FILE, frames_module, set_greedy_generation, set_processor_sampling
from vtg.models.checkpoint import (
    ADAPTER_FILE,
    Settings,
    adapter_base,
    is_adapter,
    read_settings,
    resolve_checkpoint,
    save_settings,
)
from vtg.models.families import family_of
from vtg.models.loading import Model, load_model, load_processor, tokens_per_second
from vtg.storage.atomic import atomic_folder, follow_umask, write_text
from vtg.storage.json_files import write_json
from vtg.tasks.span_task import SpanTask
from vtg.video.clip import Clip

log = logging.getLogger(__name__)

# How far logits may be from the checkpoint's, as a share of the largest: rounding of the weights stays well below.
TOLERANCES = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.1}

# Rounding merged weights may lose this share of what the adapter changes: a barely trained one can vanish in bf16.
MAX_LOST_SHARE = 0.5


@dataclass(frozen=True)
class LogitComparison:
    """Largest differences of logits on one probe: export against checkpoint, and checkpoint against its base model.

    `difference`: the former; `adapter`: the latter, None without an adapter; `scale`: the largest logit.
    """

    difference: float
    scale: float
    adapter: float | None
    dtype: torch.dtype

    @property
    def fault(self) -> str | None:
        """What is wrong, None if nothing is."""
        allowed = TOLERANCES[self.dtype] * self.scale
        name = _name(self.dtype)
        if not self.difference <= allowed:  # so that NaN is a fault too
            return (
                f"its logits differ from the checkpoint's by up to {self.difference:.3g}; {name} explains {allowed:.3g}"
            )
        if self.adapter is not None and self.difference > MAX_LOST_SHARE * self.adapter:
            return (
                f"its logits differ from the checkpoint's by up to {self.difference:.3g}, and the adapter changes them "
                f"by no more than {self.adapter:.3g}: {name} rounds it away; give --dtype float32"
            )
        return None


@dataclass(frozen=True)
class ExportedModel:
    """An export that was kept: its folder, the checkpoint, the base its adapter was merged into, dtype and checks."""

    folder: Path
    checkpoint: str
    base: str | None
    dtype: torch.dtype
    parameters: int
    check: LogitComparison | None
    answers: AnswerComparison | None


def export_model(
    checkpoint: str,
    out: Path,
    *,
    dtype: str = "auto",
    check: bool = True,
    adapter_only: bool = False,
    base_name: str | None = None,
) -> ExportedModel:
    """Exports `checkpoint` (any path of `resolve_checkpoint`) into the folder `out`, which appears only when complete.

    Args:
        dtype: of the saved weights; auto: that of the model itself, or of the base of an adapter; of an adapter alone
            its own.
        adapter_only: the adapter is saved as it is, not merged.
        base_name: what the adapter's base is called where the export will be used, such as its hub name.

    Raises:
        ConfigError: for a checkpoint that is not there, an `out` that holds something, or a whole model where an
            adapter is asked for.
        RunError: for an adapter that does not fit its base; and if the saved model does not answer as the checkpoint
            does: nothing of it is kept then.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"-o {out}: there is something already; name a new or an empty folder")
    where = resolve_checkpoint(checkpoint)
    base = adapter_base(where) if is_adapter(where) else None
    if base is None and (adapter_only or base_name is not None):
        option = "--adapter-only" if adapter_only else f"--base {base_name}"
        raise ConfigError(f"{option}: {checkpoint} is a whole model, without an adapter; leave the option out")
    processor, settings = load_processor(checkpoint), read_settings(where)
    log.info("loading %s%s", where, f" on {base}" if base else "")
    model = _load(checkpoint, processor, settings)
    probe = _probe(processor, tokens_per_second(model))
    before = _logits(model, probe) if check else None
    plain = None
    if isinstance(model, PeftModel):
        if check:
            with model.disable_adapter():
                plain = _logits(model, probe)
        if not adapter_only:
            log.info("merging the adapter")
            model = model.merge_and_unload(safe_merge=True)  # type: ignore[operator]
        else:
            base_name = base_name or model.peft_config["default"].base_model_name_or_path
    saved_as = getattr(torch, dtype) if dtype != "auto" else _own_dtype(where, base, adapter_only=adapter_only)
    parameters = sum(one.numel() for one in model.parameters() if one.requires_grad or not adapter_only)
    with atomic_folder(out.resolve()) as folder:
        log.info("saving %s parameters in %s", f"{parameters:,}", _name(saved_as))
        if settings is not None:
            set_greedy_generation(model.generation_config, processor)
            set_processor_sampling(processor, settings.video)
            write_text(folder / FRAMES_FILE, frames_module(settings.video, processor))
            # Merged, `path` is itself: vtg must not look for the base of the adapter.
            own = (
                replace(settings.model, path=base_name or settings.model.path)
                if adapter_only
                else replace(settings.model, path=".", quantization="none")
            )
            save_settings(replace(settings, model=own), folder)
        model.to(saved_as).save_pretrained(folder)  # type: ignore[call-arg]
        if adapter_only:
            model.generation_config.save_pretrained(folder)
            # Only now: PEFT would look the new name up on the hub while it saves.
            document = json.loads((folder / ADAPTER_FILE).read_text(encoding="utf-8"))
            write_json(folder / ADAPTER_FILE, document | {"base_model_name_or_path": base_name})
        processor.save_pretrained(folder)
        name, family = out.resolve().name, family_of(processor)
        told = {
            "settings": settings,
            "family": family,
            "source": checkpoint,
            "base": base_name or base or (settings.model.path if settings else None),
            "adapter": None if base is None else "alone" if adapter_only else "merged",
        }
        write_text(folder / "README.md", model_card(name, **told, run=training_run(where)))
        write_manifest(folder)
        del model  # the saved one is loaded next: two of them may not fit
        logits = answers = None
        if before is not None:
            saved = _load_adapter(folder, where, processor, settings) if adapter_only else _load_saved(folder)
            logits = _compare(saved, probe, before, plain, saved_as)
            answers = _check_saved(saved, folder, settings, logits)
        follow_umask(folder)  # safetensors makes files that only their owner can read
    return ExportedModel(out, where, base, saved_as, parameters, logits, answers)


def _check_saved(
    saved: Model, folder: Path, settings: Settings | None, logits: LogitComparison
) -> AnswerComparison | None:
    """The answers of what was saved, where vtg trained it. Raises RunError where they, or its logits, differ."""
    log.info("logits differ from the checkpoint's by up to %.3g (largest logit %.3g)", logits.difference, logits.scale)
    if logits.fault:
        raise RunError(f"the exported model is not kept: {logits.fault}")
    if settings is None:
        return None
    answers = compare_answers(saved, folder, settings)
    log.info("%s", answers)
    if answers.fault:
        raise RunError(f"the exported model is not kept: {answers.fault}")
    return answers


def _load(checkpoint: str, processor: ProcessorMixin, settings: Settings | None) -> Model:
    """The checkpoint in float32: merged and rounded once, where a merge in bf16 would round every product."""
    # SDPA is there on every machine.
    config = ModelConfig(path=checkpoint, patch_factor=patch_factor(processor), dtype="float32", attention="sdpa")
    if settings is not None and is_adapter(resolve_checkpoint(checkpoint)):
        # The adapter learned to answer on the rounded weights: on the original ones it would answer otherwise.
        config.quantization = settings.model.quantization
    return load_model(config, processor, dequantize=True)[0]


def _load_adapter(folder: Path, where: str, processor: ProcessorMixin, settings: Settings | None) -> Model:
    """The saved adapter, on the base of the checkpoint that it was saved from."""
    model: Any = _load(where, processor, settings)
    model.load_adapter(str(folder), "saved")
    model.set_adapter("saved")
    model.delete_adapter("default")
    return model


def _probe(processor: ProcessorMixin, temporal_rate: float) -> Features:
    """A question about a second of noise, as a model reads it."""
    # Noise in every pixel, so that no part of the vision tower is left out of the comparison.
    options, times_s = frame_options(processor), np.arange(4) / 4
    side = options["side"] or 2 * options["factor"]
    frames = np.random.default_rng(0).integers(0, 256, (4, 3, side, side), dtype=np.uint8)
    clip = Clip(frames, times_s, duration_s=1.0, path="noise", start_s=0.0, end_s=1.0)
    messages = SpanTask(TaskConfig()).conversation(QUERY, duration_s=1.0)
    return encode(processor, messages, clip, tokens_per_second=temporal_rate)


@torch.no_grad()
def _logits(model: Model, probe: Features) -> torch.Tensor:
    """(L, vocabulary) float32, on the CPU."""
    model.eval()
    inputs = {name: value.to(model.device) for name, value in collate([probe], pad_token_id=0).items()}
    del inputs["labels"]
    return model(**inputs).logits[0].float().cpu()


def _load_saved(folder: Path) -> PreTrainedModel:
    """What was saved, as transformers loads it."""
    # In float32, so that only the rounding of the weights is compared and not that of a low-precision forward pass.
    saved = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa", trust_remote_code=False
    )
    return saved.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))  # type: ignore[arg-type]


def _compare(
    saved: Model, probe: Features, before: torch.Tensor, plain: torch.Tensor | None, dtype: torch.dtype
) -> LogitComparison:
    after = _logits(saved, probe)
    return LogitComparison(
        difference=float((after - before).abs().max()),
        scale=float(before.abs().max()),
        adapter=None if plain is None else float((before - plain).abs().max()),
        dtype=dtype,
    )


def _own_dtype(where: str, base: str | None, *, adapter_only: bool) -> torch.dtype:
    """The dtype a model, the base of an adapter, or an adapter alone was saved in."""
    if adapter_only:
        with safe_open(Path(where) / "adapter_model.safetensors", framework="pt") as tensors:
            return tensors.get_tensor(next(iter(tensors.keys()))).dtype
    # On the meta device nothing is read; transformers itself decides what 'auto' is.
    return AutoModelForImageTextToText.from_pretrained(
        resolve_checkpoint(base) if base else where, dtype="auto", device_map="meta", trust_remote_code=False
    ).dtype


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
