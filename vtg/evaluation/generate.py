"""A model's answers to samples, by greedy generation, as rows of predictions.jsonl."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby, islice
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from vtg.data.collate import collate
from vtg.data.dataset import GroundingDataset, Skipped, SkipReport
from vtg.data.inputs import Features, vision_token_ids
from vtg.errors import SampleError
from vtg.evaluation.metrics import grounding_metrics, row_spans
from vtg.evaluation.so_far import AnswersSoFar
from vtg.video.clip import Clip

Question = tuple[int, Features | Skipped]


@torch.no_grad()
def predict(
    model: Any,
    dataset: GroundingDataset,
    *,
    batch_size: int,
    max_new_tokens: int,
    num_workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    shuffled_videos: bool = False,
    progress: str | None = None,
    so_far: AnswersSoFar | None = None,
    report: SkipReport | None = None,
) -> tuple[dict[int, dict[str, Any]], list[Skipped]]:
    """Answers to every `world_size`-th sample from `rank` on, by index, and the samples whose video cannot be read.

    Args:
        model: a Qwen-VL model, unwrapped; it is put into evaluation mode and back.
        num_workers: processes that read the clips of later batches while the model answers; 0 for none.
        shuffled_videos: the control: each sample is asked about another video, so that only its text and the
            distribution of answers can help. Scored against its own moments.
        progress: the progress bar's title; None for no bar.
        so_far: what this rank has answered before, which is not asked again; batches are added as they are answered.
        report: hears of every batch what is skipped; may raise TooManyBadRows then.

    Returns:
        rows (the annotation's keys, and `prediction` [[start, end], …] in seconds, `text`, `status`), and the skipped.
    """
    was_training = model.training
    model.eval()
    rows, skipped = (dict(so_far.rows), list(so_far.skipped)) if so_far else ({}, [])
    mine = range(rank, len(dataset), world_size)
    done = len(rows) + len(skipped)
    questions = _questions(Questions(dataset, shuffled_videos=shuffled_videos), mine[done:], batch_size, num_workers)
    hidden = progress is None
    with tqdm(total=len(mine), initial=done, desc=progress, unit="sample", disable=hidden, leave=False) as bar:
        for batch in _batches(questions, batch_size):
            found = {index: features for index, features in batch if not isinstance(features, Skipped)}
            bad = [one for _, one in batch if isinstance(one, Skipped)]
            features = list(found.values())
            texts = generate(model, dataset.processor, features, max_new_tokens=max_new_tokens) if found else []
            answered = {index: _row(dataset, index, text) for index, text in zip(found, texts, strict=True)}
            rows |= answered
            skipped += bad
            if so_far is not None:
                so_far.add(answered, bad)
            if report is not None:
                report.add(bad)
            bar.update(len(batch))
    model.train(was_training)
    return rows, skipped


class Questions(Dataset[Question]):
    """The encoded prompts of a data set, by the index of the sample; or why there is none."""

    def __init__(self, dataset: GroundingDataset, *, shuffled_videos: bool) -> None:
        self.dataset, self.shuffled_videos = dataset, shuffled_videos

    def __getitem__(self, index: int) -> Question:
        sample = self.dataset.samples[index]
        try:
            clip = _other_clip(self.dataset, index) if self.shuffled_videos else None
            return index, self.dataset.features(sample, clip)
        except SampleError as error:
            return index, Skipped(sample.place, str(error), sample.qid, sample.video)


def _questions(questions: Questions, indices: Iterable[int], most: int, num_workers: int) -> Iterator[Question]:
    """In their order; those of a clip come from one worker, at most `most` at once."""
    samples = questions.dataset.samples
    of_a_clip = (list(group) for _, group in groupby(indices, key=lambda index: samples[index].video))
    together = [group[at : at + most] for group in of_a_clip for at in range(0, len(group), most)]
    loader = DataLoader(
        questions,
        batch_sampler=together,
        collate_fn=list,
        num_workers=min(num_workers, len(together)),
        generator=torch.Generator(),  # nothing is drawn of what training goes on with
    )
    return chain.from_iterable(loader)


def _batches(questions: Iterator[Question], size: int) -> Iterator[list[Question]]:
    while batch := list(islice(questions, size)):
        yield batch


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
