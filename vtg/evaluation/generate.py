"""A model's answers to samples, by greedy generation, as rows of predictions.jsonl."""

import math
from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from vtg.data.encoding import Features
from vtg.data.grounding_dataset import GroundingDataset
from vtg.data.skip_report import Skipped, SkipReport
from vtg.data.tower_cache import TowerCache
from vtg.decoding.adapter_merging import merged_for_decoding
from vtg.decoding.constrained import Constraint
from vtg.decoding.prompt_sequence import Prompt
from vtg.evaluation.answering import answering_engine, clip_prompts, decoded
from vtg.evaluation.partial_answers import AnswerLog
from vtg.evaluation.question_plan import ClipQuestions, plan_questions, share
from vtg.evaluation.question_reader import QuestionReader
from vtg.progress_bar import ProgressBar, counted


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
    rows, skipped = (dict(partial_answers.rows), dict(partial_answers.skipped)) if partial_answers else ({}, {})
    plan = plan_questions(dataset.samples, dataset.provider.config, shuffled_videos=shuffled_videos)
    mine = share(plan, world_size)[rank]
    left = _without(mine, rows.keys() | skipped.keys())
    total, asked = (sum(len(one.asked) for one in part) for part in (mine, left))
    reader = reader or QuestionReader([dataset])
    processor, asked_of_engine = dataset.processor, list[int]()
    constraint = Constraint.of(dataset.task, processor)
    bar = ProgressBar(total, title=progress or "", unit="sample", initial=total - asked, shown=progress is not None)

    def keep(answered: dict[int, dict[str, Any]], unreadable: dict[int, Skipped]) -> None:
        rows.update(answered)
        skipped.update(unreadable)
        if partial_answers is not None:
            partial_answers.add(answered, unreadable)
        if report is not None:
            report.add(list(unreadable.values()))
        bar.update(len(answered) + len(unreadable))

    def prompts() -> Iterator[Prompt]:
        for clip in reader.read(dataset, left):
            if unreadable := {index: entry for index, entry in clip if isinstance(entry, Skipped)}:
                keep({}, unreadable)
            readable = {index: prompt for index, prompt in clip if not isinstance(prompt, Skipped)}
            asked_of_engine.extend(readable)
            durations_s = [dataset.samples[index].duration_s for index in readable]
            yield from clip_prompts(model, list(readable.values()), durations_s, towers=dataset.towers)

    own: dict[str, Any] = {"max_new_tokens": max_new_tokens, "at_once": batch_size, "constraint": constraint}
    with bar, merged_for_decoding(model):
        for completion in answering_engine(model, processor, **own).decode(prompts()):
            index = asked_of_engine[completion.request]
            keep({index: _row(dataset, index, decoded(processor, completion.tokens))}, {})
    model.train(was_training)
    return rows, list(skipped.values())


def _without(questions: Sequence[ClipQuestions], asked: Container[int]) -> list[ClipQuestions]:
    """The questions that were not asked before."""
    left = (replace(one, asked=tuple(index for index in one.asked if index not in asked)) for one in questions)
    return [one for one in left if one.asked]


@torch.no_grad()
def generate(
    model: Any,
    processor: Any,
    features: Sequence[Features],
    *,
    max_new_tokens: int,
    batch_size: int = 8,
    constraint: Constraint | None = None,
    durations_s: Sequence[float] = (),
    towers: TowerCache | None = None,
    progress: str | None = None,
) -> list[str]:
    """Greedy completions of encoded prompts, decoded without special tokens.

    Args:
        model: in evaluation mode.
        batch_size: as `predict` takes it.
        constraint: what they are kept to; it needs `durations_s` of the clip of each.
        towers: keeps what the vision tower makes of clips that it sees.
        progress: the progress bar's title; None for no bar.
    """
    own: dict[str, Any] = {"max_new_tokens": max_new_tokens, "at_once": batch_size, "constraint": constraint}
    prompts = clip_prompts(model, features, durations_s or [math.nan] * len(features), towers=towers)
    bar = ProgressBar(len(features), title=progress or "", unit="query", shown=progress is not None)
    completions = counted(answering_engine(model, processor, **own).decode(prompts), bar)
    found = {one.request: one.tokens for one in completions}
    return [decoded(processor, found[at]) for at in range(len(features))]


def _row(dataset: GroundingDataset, index: int, text: str) -> dict[str, Any]:
    sample = dataset.samples[index]
    answer = dataset.tasks.read(text, sample)
    return {**sample.row(), "prediction": answer.value, "text": text, "status": str(answer.status)}
