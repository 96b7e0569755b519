"""A model's answers to samples, by greedy generation, as rows of predictions.jsonl."""

from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import torch

from vtg.data.encoding import Features, turn_end_id, vision_token_ids
from vtg.data.grounding_dataset import GroundingDataset
from vtg.data.padding import collate
from vtg.data.pixels import vision_inputs
from vtg.data.skip_report import Skipped, SkipReport
from vtg.decoding.constrained import Constraint, GrammarProcessor
from vtg.decoding.shared_prefix import accept_encoded_videos, encode_video, plain_model
from vtg.evaluation.metrics import grounding_metrics, row_spans
from vtg.evaluation.partial_answers import AnswerLog
from vtg.evaluation.question_plan import ClipQuestions, plan_questions, share
from vtg.evaluation.question_reader import Question, QuestionReader
from vtg.progress_bar import ProgressBar

# Where clips are short, so many times `batch_size` questions are answered at once at most.
MOST_SHORT = 16


@torch.no_grad()
def predict(
    model: Any,
    dataset: GroundingDataset,
    *,
    batch_size: int,
    max_new_tokens: int,
    reader: QuestionReader | None = None,
    rank: int = 0,
    world_size: int = 1,
    shuffled_videos: bool = False,
    progress: str | None = None,
    partial_answers: AnswerLog | None = None,
    report: SkipReport | None = None,
) -> tuple[dict[int, dict[str, Any]], list[Skipped]]:
    """Answers to the share of the samples that process `rank` of `world_size` has, by index, and the samples of it
    whose video cannot be read.

    Args:
        model: a Qwen-VL model, unwrapped; it is put into evaluation mode and back.
        batch_size: questions about the longest clips that are answered at once; of others, as many as take no more.
        reader: reads the prompts, with workers while the model answers; None: this process reads them.
        shuffled_videos: the control: each sample is asked about another video, so that only its text and the
            distribution of answers can help. Scored against its own moments.
        progress: the progress bar's title; None for no bar.
        partial_answers: what was answered before, which is not asked again; each new batch is added.
        report: is given what each batch skips; may raise TooManyBadRows then.

    Returns:
        rows (the annotation's keys, and `prediction` [[start, end], …] in seconds, `text`, `status`), and the skipped.
    """
    was_training = model.training
    model.eval()
    rows, skipped = (dict(partial_answers.rows), list(partial_answers.skipped)) if partial_answers else ({}, [])
    plan = plan_questions(dataset.samples, dataset.provider.config, shuffled_videos=shuffled_videos)
    mine = share(plan, world_size)[rank]
    left = _without(mine, dataset, rows, skipped)
    total, asked = (sum(len(one.asked) for one in part) for part in (mine, left))
    reader = reader or QuestionReader([dataset])
    constraint = Constraint.of(dataset.task, dataset.processor)
    shown = progress is not None
    with ProgressBar(total, title=progress or "", unit="sample", initial=total - asked, shown=shown) as bar:
        for batch in _batches(reader.read(dataset, left), batch_size, new_tokens=max_new_tokens):
            readable = {index: prompt for index, prompt in batch if not isinstance(prompt, Skipped)}
            unreadable = [entry for _, entry in batch if isinstance(entry, Skipped)]
            prompts = list(readable.values())
            # A batch of unreadable videos alone: generate() cannot collate nothing.
            durations_s = [dataset.samples[index].duration_s for index in readable]
            own = {"max_new_tokens": max_new_tokens, "constraint": constraint, "durations_s": durations_s}
            texts = generate(model, dataset.processor, prompts, **own) if prompts else []
            answered = {index: _row(dataset, index, text) for index, text in zip(readable, texts, strict=True)}
            rows |= answered
            skipped += unreadable
            if partial_answers is not None:
                partial_answers.add(answered, unreadable)
            if report is not None:
                report.add(unreadable)
            bar.update(len(batch))
    model.train(was_training)
    return rows, skipped


def _without(
    questions: Sequence[ClipQuestions], dataset: GroundingDataset, rows: Container[int], skipped: Sequence[Skipped]
) -> list[ClipQuestions]:
    """The questions that were not asked before."""
    given_up = {entry.key for entry in skipped}

    def is_left(index: int) -> bool:
        if index in rows:
            return False
        sample = dataset.samples[index]
        return (sample.place, sample.qid) not in given_up

    if not rows and not given_up:
        return list(questions)
    left = (replace(one, asked=tuple(filter(is_left, one.asked))) for one in questions)
    return [one for one in left if one.asked]


def _batches(read: Iterator[list[Question]], size: int, *, new_tokens: int) -> Iterator[list[Question]]:
    """Questions that are answered at once: `size`, or more where they take no more room than `size` of the longest.

    Room is rows of the longest of them with its answer, as padding makes all.
    """
    batch: list[Question] = []
    room = longest = 0
    for question in chain.from_iterable(read):
        tokens = 0 if isinstance(question[1], Skipped) else len(question[1]["input_ids"]) + new_tokens
        room, longest = max(room, size * tokens), max(longest, tokens)
        count = len(batch) + 1
        if count > size and (count > MOST_SHORT * size or count * longest > room):
            yield batch
            batch, longest = [], tokens
        batch.append(question)
    if batch:
        yield batch


def generate(
    model: Any,
    processor: Any,
    features: Sequence[Features],
    *,
    max_new_tokens: int,
    constraint: Constraint | None = None,
    durations_s: Sequence[float] = (),
) -> list[str]:
    """Greedy completions of encoded prompts, decoded without special tokens.

    `constraint`: what they are kept to; it needs `durations_s` of the clip of each.
    """
    tokenizer = processor.tokenizer
    batch = collate(_encoded(model, features), pad_token_id=tokenizer.pad_token_id, padding_side="left")
    del batch["labels"]
    inputs = {key: value.to(model.device) for key, value in batch.items()}
    kept = None
    if constraint is not None:
        start = inputs["input_ids"].shape[1]
        kept = [GrammarProcessor(constraint, durations_s, start=start, room=max_new_tokens)]
    out = model.generate(
        **inputs,
        logits_processor=kept,
        # All set, so that no generation_config.json of a checkpoint makes answers random.
        do_sample=False,
        num_beams=1,
        temperature=None,
        top_p=None,
        top_k=None,
        max_new_tokens=max_new_tokens,
        # A generated <|video_pad|> would be taken for a place of vision features.
        suppress_tokens=vision_token_ids(processor),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=turn_end_id(processor),
        use_cache=True,
        synced_gpus=False,  # ranks answer for different numbers of samples, each with a whole model
    )
    return tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def _encoded(model: Any, features: Sequence[Features]) -> list[Features]:
    """The prompts with what the vision tower makes of their clips in place of pixels: once, where several share one."""
    plain = plain_model(model)
    accept_encoded_videos(plain)
    encoded: dict[int, torch.Tensor] = {}
    for prompt in features:
        pixels = prompt["pixel_values_videos"]
        if id(pixels) not in encoded:
            inputs = {name: prompt[name].to(model.device) for name in vision_inputs(prompt)}
            inputs["pixel_values_videos"] = inputs["pixel_values_videos"].to(model.dtype)
            encoded[id(pixels)] = encode_video(plain, inputs)
    return [prompt | {"pixel_values_videos": encoded[id(prompt["pixel_values_videos"])]} for prompt in features]


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
