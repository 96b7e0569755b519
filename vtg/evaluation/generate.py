"""A model's answers to samples, by greedy generation, as rows of predictions.jsonl."""

from collections.abc import Sequence
from typing import Any

import torch
from tqdm import tqdm

from vtg.data.collate import collate
from vtg.data.dataset import GroundingDataset, Skipped
from vtg.data.inputs import Features
from vtg.errors import SampleError
from vtg.evaluation.metrics import grounding_metrics, row_spans
from vtg.video.clip import Clip

VISION_TOKENS = ("<|video_pad|>", "<|image_pad|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>")
"""Tokens that stand for pixels: a model must not write them."""


@torch.no_grad()
def predict(
    model: Any,
    dataset: GroundingDataset,
    *,
    batch_size: int,
    max_new_tokens: int,
    rank: int = 0,
    world_size: int = 1,
    shuffled_videos: bool = False,
    progress: str | None = None,
) -> tuple[dict[int, dict[str, Any]], list[Skipped]]:
    """Answers to every `world_size`-th sample from `rank` on, by index, and the samples whose video cannot be read.

    Args:
        model: a Qwen-VL model, unwrapped; it is put into evaluation mode and back.
        shuffled_videos: the control: each sample is asked about another video, so that only its text and the
            distribution of answers can help. Scored against its own moments.
        progress: the progress bar's title; None for no bar.

    Returns:
        rows (the annotation's keys, and `prediction` [[start, end], …] in seconds, `text`, `status`), and the skipped.
    """
    was_training = model.training
    model.eval()
    rows: dict[int, dict[str, Any]] = {}
    skipped: list[Skipped] = []
    mine = range(rank, len(dataset), world_size)
    bar = tqdm(total=len(mine), desc=progress, unit="sample", disable=progress is None, leave=False)
    for start in range(0, len(mine), batch_size):
        chosen, features = [], []
        for index in mine[start : start + batch_size]:
            sample = dataset.samples[index]
            try:
                clip = _other_clip(dataset, index) if shuffled_videos else None
                features.append(dataset.features(sample, clip))
                chosen.append(index)
            except SampleError as error:
                skipped.append(Skipped(sample.place, str(error), sample.qid, sample.video))
        if chosen:
            texts = generate(model, dataset.processor, features, max_new_tokens=max_new_tokens)
            rows |= {index: _row(dataset, index, text) for index, text in zip(chosen, texts, strict=True)}
        bar.update(len(mine[start : start + batch_size]))
    bar.close()
    model.train(was_training)
    return rows, skipped


def generate(model: Any, processor: Any, features: Sequence[Features], *, max_new_tokens: int) -> list[str]:
    """Greedy completions of encoded prompts, decoded without special tokens."""
    tokenizer = processor.tokenizer
    batch = collate(features, pad_token_id=tokenizer.pad_token_id, padding_side="left")
    del batch["labels"]
    inputs = {key: value.to(model.device) for key, value in batch.items()}
    inputs["pixel_values_videos"] = inputs["pixel_values_videos"].to(model.dtype)
    out = model.generate(
        **inputs,
        do_sample=False,
        num_beams=1,
        temperature=None,
        top_p=None,
        top_k=None,
        max_new_tokens=max_new_tokens,
        suppress_tokens=vision_token_ids(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
        use_cache=True,
        synced_gpus=False,  # ranks answer for different numbers of samples, each with a whole model
    )
    return tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def vision_token_ids(tokenizer: Any) -> list[int]:
    """The ids of `VISION_TOKENS`."""
    return [tokenizer.convert_tokens_to_ids(token) for token in VISION_TOKENS]


def score(rows: Sequence[dict[str, Any]]) -> dict[str, float | int]:
    """The metrics of prediction rows; see `vtg.evaluation.metrics.grounding_metrics`."""
    return grounding_metrics(
        [row["prediction"] for row in rows],
        [row_spans(row["timestamp"]) for row in rows],
        statuses=[row["status"] for row in rows],
    )


def _row(dataset: GroundingDataset, index: int, text: str) -> dict[str, Any]:
    sample = dataset.samples[index]
    answer = dataset.task.parse(text, duration_s=sample.duration_s)
    spans = [list(span) for span in answer.spans]
    return {**sample.row(), "prediction": spans, "text": text, "status": str(answer.status)}


def _other_clip(dataset: GroundingDataset, index: int) -> Clip:
    """The clip of the nearest later sample of another video."""
    own = dataset.samples[index].video
    for step in range(1, len(dataset)):
        other = dataset.samples[(index + step) % len(dataset)]
        if other.video != own:
            return dataset.clip(other)
    raise SampleError("the shuffled-video control needs at least two videos")
