"""A checkpoint as one plain Hugging Face model: its adapter merged, saved whole, and compared with what it was.

Two things are compared: the logits of the saved weights with the checkpoint's, and, where vtg trained it, the answer
of transformers alone to a small video file with vtg's (`vtg.export.plain_answers`).
"""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText, PreTrainedModel, ProcessorMixin

from vtg.config.model_settings import ModelConfig
from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import Features, encode, family, patch_factor
from vtg.errors import ConfigError, RunError
from vtg.export.model_card import QUERY, model_card
from vtg.export.plain_answers import Answers, compare_answers
from vtg.export.standalone import FRAMES_FILE, answer_alike, frames_module, set_processor
from vtg.models.checkpoint import adapter_base, is_adapter, read_settings, resolve_checkpoint, save_settings
from vtg.models.loading import Model, load_model, load_processor, tokens_per_second
from vtg.output import follow_umask, temporary_name, write_text
from vtg.tasks.span_task import SpanTask
from vtg.video.clip import Clip

log = logging.getLogger(__name__)

TOLERANCES = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.1}
"""How far logits may be from the checkpoint's, as a share of the largest: what rounded weights do is well below."""

LOST = 0.5
"""The share of what an adapter changes that may be lost in the rounding of merged weights."""


@dataclass(frozen=True)
class Check:
    """Largest differences of logits on a probe: of the export from the checkpoint, and of the adapter from its base.

    `scale` is the largest logit; `adapter` is None where there was none to merge.
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
        if not self.difference <= allowed:
            return (
                f"its logits differ from the checkpoint's by up to {self.difference:.3g}; {name} explains {allowed:.3g}"
            )
        if self.adapter is not None and self.difference > LOST * self.adapter:
            return (
                f"its logits differ from the checkpoint's by up to {self.difference:.3g}, and the adapter changes them "
                f"by no more than {self.adapter:.3g}: {name} rounds it away; give --dtype float32"
            )
        return None


@dataclass(frozen=True)
class Exported:
    """What was written: the folder, the weights that were read, the base an adapter was merged into, the dtype."""

    folder: Path
    checkpoint: str
    base: str | None
    dtype: torch.dtype
    parameters: int
    check: Check | None
    answers: Answers | None


def export_model(checkpoint: str, out: Path, *, dtype: str = "auto", check: bool = True) -> Exported:
    """Writes what `checkpoint` means (see `resolve_checkpoint`) into the folder `out`, which appears when it is whole.

    Merging is done in float32 and rounded once. `dtype`: of the saved weights; auto: that of the model itself, or of
    the base of an adapter.

    Raises:
        ConfigError: for a checkpoint that is not there, or an `out` that holds something.
        RunError: for an adapter that does not fit its base; and if the saved model does not answer as the checkpoint
            does, of which nothing is left then.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"-o {out}: there is something already; name a new or an empty folder")
    where = resolve_checkpoint(checkpoint)
    base = adapter_base(where) if is_adapter(where) else None
    processor = load_processor(checkpoint)
    config = ModelConfig(path=checkpoint, patch_factor=patch_factor(processor), dtype="float32", attention="sdpa")
    log.info("loading %s%s", where, f" on {base}" if base else "")
    model, processor = load_model(config, processor)
    probe = _probe(processor, tokens_per_second(model))
    before = _logits(model, probe) if check else None
    plain = None
    if isinstance(model, PeftModel):
        if check:
            with model.disable_adapter():
                plain = _logits(model, probe)
        log.info("merging the adapter")
        model = model.merge_and_unload(safe_merge=True)  # type: ignore[operator]
    saved_as = _own_dtype(resolve_checkpoint(base) if base else where) if dtype == "auto" else getattr(torch, dtype)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    with _beside(out) as folder:
        log.info("saving %s parameters in %s", f"{parameters:,}", _name(saved_as))
        settings = read_settings(where)
        if settings is not None:
            answer_alike(model.generation_config, processor)
            set_processor(processor, settings.video)
            write_text(folder / FRAMES_FILE, frames_module(settings.video, processor))
            save_settings(replace(settings, model=replace(settings.model, path=str(out))), folder)
        model.to(saved_as).save_pretrained(folder)  # type: ignore[call-arg]
        processor.save_pretrained(folder)
        card = model_card(out.resolve().name, settings=settings, family=family(processor), source=checkpoint, base=base)
        write_text(folder / "README.md", card)
        del model
        found = answers = None
        if before is not None:
            saved = _load_plainly(folder)
            found = _compare(saved, probe, before, plain, saved_as)
            log.info(
                "logits differ from the checkpoint's by up to %.3g (largest logit %.3g)", found.difference, found.scale
            )
            if found.fault:
                raise RunError(f"the exported model is not kept: {found.fault}")
            if settings is not None:
                answers = compare_answers(saved, folder, settings)
                log.info("%s", answers)
                if answers.fault:
                    raise RunError(f"the exported model is not kept: {answers.fault}")
    return Exported(out, where, base, saved_as, parameters, found, answers)


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A folder beside `out`, which takes its name when the block ends well and is removed when it does not."""
    out = out.resolve()
    folder = temporary_name(out)
    folder.mkdir(parents=True)
    try:
        yield folder
        follow_umask(folder)
        folder.replace(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _probe(processor: ProcessorMixin, temporal_rate: float) -> Features:
    """A question about a second of noise, as a model reads it."""
    side, times_s = 2 * patch_factor(processor), np.arange(4) / 4
    frames = np.random.default_rng(0).integers(0, 256, (4, 3, side, side), dtype=np.uint8)
    clip = Clip(frames, times_s, duration_s=1.0, path="noise", start_s=0.0, end_s=1.0)
    messages = SpanTask(TaskConfig()).conversation(QUERY, duration_s=1.0)
    return encode(processor, messages, clip, tokens_per_second=temporal_rate)


@torch.no_grad()
def _logits(model: Model, probe: Features) -> torch.Tensor:
    """(L, vocabulary) float32, on the CPU."""
    model.eval()
    inputs = {name: value.to(model.device) for name, value in probe.items() if name != "labels"}
    for name in ("input_ids", "attention_mask", "mm_token_type_ids"):
        inputs[name] = inputs[name][None]
    inputs["position_ids"] = inputs["position_ids"][:, None]
    return model(**inputs).logits[0].float().cpu()


def _load_plainly(folder: Path) -> PreTrainedModel:
    """What was saved, as transformers loads it; its weights, rounded as they are, compute in float32."""
    saved = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa", trust_remote_code=False
    )
    return saved.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))  # type: ignore[arg-type]


def _compare(
    saved: PreTrainedModel, probe: Features, before: torch.Tensor, plain: torch.Tensor | None, dtype: torch.dtype
) -> Check:
    after = _logits(saved, probe)
    return Check(
        difference=float((after - before).abs().max()),
        scale=float(before.abs().max()),
        adapter=None if plain is None else float((before - plain).abs().max()),
        dtype=dtype,
    )


def _own_dtype(where: str) -> torch.dtype:
    """The dtype a model was saved in, by its config or else by its weights, which are not read."""
    return AutoModelForImageTextToText.from_pretrained(
        where, dtype="auto", device_map="meta", trust_remote_code=False
    ).dtype


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
