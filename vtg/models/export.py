"""A checkpoint as one plain Hugging Face model: its adapter merged, saved whole, and compared with what it was."""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText, ProcessorMixin

from vtg.config.schema import ModelConfig, TaskConfig
from vtg.data.inputs import Features, encode, patch_factor
from vtg.errors import ConfigError, RunError
from vtg.models.checkpoint import Settings, adapter_base, read_settings, resolve_checkpoint, save_settings
from vtg.models.loading import Model, load_model, load_processor, tokens_per_second
from vtg.output import write_text
from vtg.tasks.span import SpanTask
from vtg.video.clip import Clip

log = logging.getLogger(__name__)

TOLERANCES = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.1}
"""How far logits may be from the checkpoint's, as a share of the largest: what rounded weights do is well below."""

LOST = 0.5
"""The share of what an adapter changes that may be lost in the rounding of merged weights."""

QUERY = "a person sits down"


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
    base = adapter_base(where) if (Path(where) / "adapter_config.json").is_file() else None
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
        model.to(saved_as).save_pretrained(folder)  # type: ignore[call-arg]
        processor.save_pretrained(folder)
        settings = read_settings(where)
        if settings is not None:
            save_settings(replace(settings, model=replace(settings.model, path=str(out))), folder)
        write_text(
            folder / "README.md", model_card(out.resolve().name, settings=settings, source=checkpoint, base=base)
        )
        del model
        found = None
        if before is not None:
            found = _compare(folder, probe, before, plain, saved_as)
            log.info(
                "logits differ from the checkpoint's by up to %.3g (largest logit %.3g)", found.difference, found.scale
            )
            if found.fault:
                raise RunError(f"the exported model is not kept: {found.fault}")
    return Exported(out, where, base, saved_as, parameters, found)


def model_card(name: str, *, settings: Settings | None, source: str, base: str | None) -> str:
    """The README.md of an exported model: where it comes from, and how transformers and vtg answer with it."""
    merged = f" The LoRA adapter is merged into `{base}`; nothing but transformers is needed." if base else ""
    task = settings.task if settings else TaskConfig()
    fps = (settings.video.fps if settings else 0) or 2.0
    question = SpanTask(task).conversation(QUERY, duration_s=30.0)[-1]["content"][-1]["text"]
    return f"""---
library_name: transformers
pipeline_tag: video-text-to-text
tags: [video-temporal-grounding]
---

# {name}

Answers *when*: given a video and a sentence, the start and end of the moment the sentence describes. Exported by
`python -m vtg.export` from `{source}`.{merged}

```python
# pip install transformers accelerate torchvision av
from transformers import AutoModelForImageTextToText, AutoProcessor

folder = "{name}"  # this folder
model = AutoModelForImageTextToText.from_pretrained(folder, dtype="auto", device_map="auto")
processor = AutoProcessor.from_pretrained(folder)
question = {question!r}
content = [{{"type": "video", "video": "video.mp4"}}, {{"type": "text", "text": question}}]
inputs = processor.apply_chat_template(
    [{{"role": "user", "content": content}}],
    add_generation_prompt=True,
    tokenize=True,
    return_dict=True,
    return_tensors="pt",
    processor_kwargs={{"fps": {fps}}},
).to(model.device)
tokens = model.generate(**inputs, max_new_tokens={1024 if task.think else 48}, do_sample=False)
print(processor.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```
{_card_of_settings(name, settings) if settings else ""}"""


def _card_of_settings(name: str, settings: Settings) -> str:
    video = settings.video
    return f"""
It was trained on {video.min_frames} to {video.max_frames} frames of at most {video.max_pixels} pixels each, sampled by
`{video.sampling}` at {video.fps:g} a second; the form of its answers is `{settings.task.answer}`. vtg reads this from
`vtg.json`, shows the model the frames and times it was trained on, and gives its answer in seconds of the video:

```sh
python -m vtg.predict checkpoint={name} video=video.mp4 query="{QUERY}"
```
"""


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A folder beside `out`, which takes its name when the block ends well and is removed when it does not."""
    out = out.resolve()
    folder = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    folder.mkdir(parents=True)
    try:
        yield folder
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


def _compare(
    folder: Path, probe: Features, before: torch.Tensor, plain: torch.Tensor | None, dtype: torch.dtype
) -> Check:
    """Loads what was saved as transformers does; its weights, rounded as they are, compute in float32."""
    saved = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    saved.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))  # type: ignore[arg-type]
    after = _logits(saved, probe)
    return Check(
        difference=float((after - before).abs().max()),
        scale=float(before.abs().max()),
        adapter=None if plain is None else float((before - plain).abs().max()),
        dtype=dtype,
    )


def _own_dtype(where: str) -> torch.dtype:
    """The dtype a model was saved in, by its config or else by its weights, which are not read."""
    return AutoModelForImageTextToText.from_pretrained(where, dtype="auto", device_map="meta").dtype


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
