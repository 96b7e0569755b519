"""What samples cost before anything is decoded: seconds, frames and tokens, from annotations and video headers."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from transformers import ProcessorMixin

from vtg.annotations.sample import Sample, resolve_video
from vtg.annotations.sample_table import SampleTable
from vtg.annotations.table_cache import video_stamps
from vtg.config.video_settings import VideoConfig
from vtg.data.encoding import conversation_text, frame_options
from vtg.errors import SampleError
from vtg.models.families import family_of
from vtg.progress_bar import ProgressBar
from vtg.tasks.all_tasks import Tasks
from vtg.tasks.answer import MAX_MOMENTS
from vtg.tasks.span_task import SpanTask
from vtg.video.clip_cost import clip_cost, stills_cost
from vtg.video.container import probe
from vtg.video.files import video_files
from vtg.video.files.address import PICTURE_ENDINGS
from vtg.video.video_index import PROBES, VideoIndex

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

T = TypeVar("T")

# Videos or queries looked at together.
CHUNK = 8192

# Words whose tokens are remembered.
MAX_WORDS = 1 << 18

# Tokens by which neighbouring texts may be cut otherwise alone than together.
MARGIN = 4


@dataclass(frozen=True)
class VideoFacts:
    """Facts of V videos, 0 where they are not known.

    Attributes:
        height, width: (V,) int32, upright pixels.
        fps: (V,) float64, frames a second.
    """

    height: np.ndarray
    width: np.ndarray
    fps: np.ndarray


@dataclass(frozen=True)
class SampleCosts:
    """What each of N samples costs.

    Attributes:
        seconds: (N,) float64, length of the clip.
        frames: (N,) int64, decoded.
        vision_tokens: (N,) int64.
        shared_tokens: (N,) int64, what several rows of one clip have in common: its vision tokens and their stamps.
        tokens: (N,) int64, all of them: never less than `vtg.data.encoding.encode` gives, and rarely a twentieth more.
    """

    seconds: np.ndarray
    frames: np.ndarray
    vision_tokens: np.ndarray
    shared_tokens: np.ndarray
    tokens: np.ndarray


def video_facts(
    videos: "pa.Array", *, video_dir: str | None, index: VideoIndex | None = None, progress: bool = False
) -> VideoFacts:
    """Facts of the videos of these names: from an index, else from their headers.

    Those that cannot be read stay unknown (training will name them), and so do objects in a store that are in no index:
    opening each would take too long.
    """
    facts = VideoFacts(*(np.zeros(len(videos), kind) for kind in (np.int32, np.int32, np.float64)))
    unknown = np.arange(len(videos))
    if index is not None:
        at = index.positions(videos, video_stamps(videos, video_dir))
        found, unknown = np.flatnonzero(at >= 0), np.flatnonzero(at < 0)
        frames, duration_s = index.numbers("frames")[at[found]], index.numbers("duration_s")[at[found]]
        by_count = np.divide(frames, duration_s, out=np.zeros(len(found)), where=duration_s > 0)
        facts.height[found], facts.width[found] = (index.numbers(name)[at[found]] for name in ("height", "width"))
        facts.fps[found] = np.where(by_count > 0, by_count, index.numbers("fps")[at[found]])
        if len(unknown):
            log.info("%d of %d videos are not in the index, or are others by now", len(unknown), len(videos))
    names = ((at, resolve_video(videos[at].as_py(), video_dir)) for at in unknown.tolist())
    remote = _probe(names, len(unknown), facts, progress=progress)
    if remote:
        log.warning(
            "%d videos lie in a store and are in no index: each counts as the costliest of its length; python -m "
            "vtg.inspect --index ROWS.jsonl looks them up once",
            remote,
        )
    return facts


def _probe(names: Iterable[tuple[int, str]], count: int, facts: VideoFacts, *, progress: bool) -> int:
    """Fills in the facts of these files, (place in `facts`, path); returns how many were left out as remote."""

    def look(at: int, path: str) -> bool:
        if video_files.is_remote(path):
            return False
        try:
            info = probe(path)
        except SampleError:
            return True
        facts.height[at], facts.width[at] = info.height, info.width
        facts.fps[at] = info.frames / info.duration_s if info.frames else info.fps
        return True

    bar = ProgressBar(count, title="reading video headers", unit="file", shown=progress and count >= 100)
    remote = 0
    with bar, ThreadPoolExecutor(PROBES) as pool:
        for chunk in batched(names, CHUNK):
            for looked in pool.map(look, *zip(*chunk, strict=True)):
                remote += not looked
                bar.update()
    return remote


def sample_costs(
    samples: Sequence[Sample],
    facts: VideoFacts | None,
    *,
    task: SpanTask,
    processor: ProcessorMixin,
    video: VideoConfig,
) -> SampleCosts:
    """The costs of samples with their answers, as training reads them.

    Args:
        facts: of the distinct videos of the samples (`SampleTable.videos`); one that is unknown, or all of them without
            facts, is taken to cost as much as any of its length can.
    """
    table = SampleTable.of(samples)
    seconds = table.numbers("duration_s")
    frames, vision, patches = _clip_costs(table, seconds, facts, processor=processor, video=video)
    digits = _digits(seconds)
    stamps = np.array([0, *(_stamp_tokens(processor, number) for number in range(1, int(digits.max()) + 1))])[digits]
    shared = vision + patches * stamps
    text = _text_tokens(table, seconds, task=task, processor=processor)
    table.release()
    return SampleCosts(seconds, frames, vision, shared, shared + text)


def _clip_costs(
    table: SampleTable, seconds: np.ndarray, facts: VideoFacts | None, *, processor: ProcessorMixin, video: VideoConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N,) int64 each: frames, vision tokens, temporal patches. Clips of one length and shape are counted once."""
    options = frame_options(processor)
    side = math.isqrt(video.max_pixels)
    names, video_of = table.videos()
    are_stills = _are_pictures(names)
    known = [np.zeros(len(names))] * 3 if facts is None else [facts.height, facts.width, facts.fps]
    each = np.stack([*known, are_stills], axis=1).astype(np.float64)
    shapes, of_video = np.unique(each, axis=0, return_inverse=True)
    shape_of = of_video.reshape(-1)[video_of]
    order = np.lexsort((shape_of, seconds))
    new = (np.diff(seconds[order], prepend=-1.0) != 0) | (np.diff(shape_of[order], prepend=-1) != 0)
    firsts = order[new]
    costs = np.empty((len(firsts), 3), np.int64)
    for at, (duration_s, shape) in enumerate(zip(seconds[firsts].tolist(), shape_of[firsts].tolist(), strict=True)):
        height, width, fps, are_pictures = shapes[shape].tolist()
        # Unknown: as many pixels as a frame may have, so that no batch is fuller than was planned.
        size = {"height": int(height) or side, "width": int(width) or side}
        if are_pictures:
            cost = stills_cost(round(duration_s), config=video, **size, **options)
            costs[at] = cost.frames, cost.tokens, cost.frames
            continue
        cost = clip_cost(duration_s, config=video, rate=fps or 30.0, **size, **options)
        costs[at] = cost.frames, cost.tokens, -(-(cost.frames + cost.pad) // options["temporal_patch"])
    which = np.empty(len(table), np.int64)
    which[order] = np.cumsum(new) - 1
    return tuple(costs[which].T.copy())  # type: ignore[return-value]


def _are_pictures(names: "pa.Array") -> np.ndarray:
    """(V,) bool: which names are of still pictures."""
    import pyarrow.compute as pc

    pattern = rf"(?i)\.({'|'.join(ending.removeprefix('.') for ending in PICTURE_ENDINGS)})$"
    found = pc.match_substring_regex(names, pattern)  # pyright: ignore[reportAttributeAccessIssue]
    return found.to_numpy(zero_copy_only=False)


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`, the last of what is left."""
    left = iter(items)
    while chunk := list(islice(left, size)):
        yield chunk


def _digits(seconds: np.ndarray) -> np.ndarray:
    """(N,) int64: digits before the point that no time in a clip exceeds, however it is rounded."""
    # 0.5: 9.96 s is written as 10.0.
    return np.log10(np.maximum(seconds + 0.5, 1.0)).astype(np.int64) + 1


def _stamp_tokens(processor: ProcessorMixin, digits: int) -> int:
    """Tokens around one temporal patch where times have so many digits before the point."""
    stamps = family_of(processor).stamps
    if stamps is None:
        return 0
    return len(processor.tokenizer(stamps.longest(digits), add_special_tokens=False)["input_ids"])  # type: ignore[attr-defined]


def _text_tokens(table: SampleTable, seconds: np.ndarray, *, task: SpanTask, processor: ProcessorMixin) -> np.ndarray:
    """(N,) tokens of the conversations without what stands for the clip, for the longest prompt they may get.

    Qwen's tokenizers take digits one by one, so numbers cost by their digits alone: an answer costs what one of as many
    moments at the end of a clip of as many digits does.
    """
    tokenizer = processor.tokenizer  # type: ignore[attr-defined]

    def lengths(texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]

    example = task.conversation("x", duration_s=1.0, spans=[(0.0, 1.0)])
    texts = [part["text"] for message in example for part in message["content"] if part["type"] == "text"]
    whole, *parts = lengths([conversation_text(processor, example), *texts])
    frame = whole - sum(parts)
    prompt, others = max(lengths(task.pool)), np.flatnonzero(table.of_other_tasks())
    digits, moments = _digits(seconds), np.minimum(table.moments(), MAX_MOMENTS)
    moments[others] = 1  # in place of what is counted below
    kinds, which = np.unique(digits * (MAX_MOMENTS + 1) + moments, return_inverse=True)
    numbers = []
    for kind in kinds.tolist():
        longest_s, count = 0.95 * 10.0 ** (kind // (MAX_MOMENTS + 1)), kind % (MAX_MOMENTS + 1)
        answer = task.encode([(0.999 * longest_s, longest_s)] * count, duration_s=longest_s)
        numbers.append(sum(lengths([answer, f"{longest_s:.1f}"])))
    tokens = frame + prompt + MARGIN + np.array(numbers)[which] + query_tokens(table.queries(), len(table), lengths)
    tokens[others] = frame + MARGIN + _other_text_tokens(table, others, Tasks(task), lengths)
    return tokens


def _other_text_tokens(
    table: SampleTable, others: np.ndarray, tasks: Tasks, lengths: Callable[[Sequence[str]], list[int]]
) -> np.ndarray:
    """(n,) int64 tokens of the longest prompt and the answer of samples `others`, (n,), of other tasks than spans."""
    tokens = np.zeros(len(others), np.int64)
    for at, index in enumerate(others.tolist()):
        sample = table[index]
        with suppress(SampleError):  # such as a subtitle file that is not there: its row will be skipped, and says so
            *prompts, answer = lengths([*tasks.prompts(sample), tasks.answer(sample)])
            tokens[at] = max(prompts) + answer
    return tokens


def query_tokens(queries: Iterable[str], count: int, lengths: Callable[[Sequence[str]], list[int]]) -> np.ndarray:
    """(count,) int64 tokens of each query as it stands in a prompt, or a few more.

    Qwen's tokenizers begin a new piece at every blank before a word: words are counted, each of them once.

    Args:
        lengths: tokens of each of these texts.
    """
    tokens, at = np.zeros(count, np.int64), 0
    starts: dict[str, int] = {}
    others: dict[str, int] = {}
    for chunk in batched(queries, CHUNK):
        split = [query.replace("<|", "< |").split() for query in chunk]
        for known, blank, met in (
            (starts, "", {words[0] for words in split if words}),
            (others, " ", {word for words in split for word in words[1:]}),
        ):
            if len(known) > MAX_WORDS:
                known.clear()
            new = [word for word in met if word not in known]
            if new:
                known |= zip(new, lengths([blank + word for word in new]), strict=True)
        for words in split:
            if words:
                tokens[at] = starts[words[0]] + sum([others[word] for word in words[1:]])
            at += 1
    return tokens
