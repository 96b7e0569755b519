"""The ways others form batches, each as `plan(case, epoch) -> batches in the order they are dealt to the ranks`.

A peer's own function does the work; of packages too heavy to import (they pull GPU libraries) the function alone is
compiled from the installed file. What a peer leaves open (packing trainers shuffle the packs) is a plain shuffle.
"""

import ast
import bisect
import collections
import copy
import heapq
import importlib.util
import itertools
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Batches = list[np.ndarray]


@dataclass(frozen=True)
class Case:
    """What is planned: lengths (N,), under a budget, on so many ranks, balanced by compute (N,)."""

    lengths: np.ndarray
    budget: float
    ranks: int
    compute: np.ndarray
    seed: int = 0


@dataclass(frozen=True)
class Peer:
    name: str
    packed: bool
    plan: Callable[[Case, int], Batches]


def take_functions(
    package: str, file: str, names: tuple[str, ...], given: Mapping[str, object]
) -> dict[str, typing.Any]:
    """Functions and classes of a file of an installed package, compiled without importing the package."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{package} is not installed")
    path = Path(spec.submodule_search_locations[0]) / file
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names]
    if missing := set(names) - {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}:
        raise ImportError(f"{path} has no {', '.join(sorted(missing))}")
    exec(compile(tree, str(path), "exec"), namespace := dict(given))
    return namespace


def fixed_size(case: Case) -> int:
    """Samples of a batch of fixed size that costs the budget on average (a fixed size cannot keep a budget)."""
    return max(1, int(case.budget / case.lengths.mean()))


def shuffled(bins: list[list[int]], case: Case, epoch: int) -> Batches:
    order = np.random.default_rng([case.seed, epoch]).permutation(len(bins))
    return [np.asarray(bins[at], np.int64) for at in order]


def cut(order: np.ndarray, size: int) -> Batches:
    return [order[at : at + size] for at in range(0, len(order), size)]


def plan_shuffled(case: Case, epoch: int) -> Batches:
    return cut(np.random.default_rng([case.seed, epoch]).permutation(len(case.lengths)), fixed_size(case))


def plan_length_grouped(case: Case, epoch: int) -> Batches:
    import torch
    from transformers.trainer_pt_utils import get_length_grouped_indices

    size = fixed_size(case)
    generator = torch.Generator().manual_seed(case.seed * 1000 + epoch)
    indices = get_length_grouped_indices(case.lengths.tolist(), size * case.ranks, generator=generator)
    return cut(np.array(indices), size)


def plan_sorted_greedy(case: Case, epoch: int) -> Batches:
    """The known duration sampler: sorted, filled greedily, the same batches each epoch, dealt round robin."""
    batches, batch = [], []
    for index in np.argsort(case.lengths, kind="stable").tolist():
        if batch and (len(batch) + 1) * case.lengths[index] > case.budget:
            batches.append(np.array(batch))
            batch = []
        batch.append(index)
    return [*batches, np.array(batch)]


def plan_binpacking(case: Case, epoch: int) -> Batches:
    """ms-swift: its groups of 1000 samples in the order of the data set, each through `binpacking`."""
    swift = take_functions("swift", "dataset/packing.py", ("calculate_matched_group",), {})
    bins, waiting = [], []
    pairs = list(enumerate(case.lengths.tolist()))
    for at in range(0, len(pairs), 1000):
        packed, waiting = swift["calculate_matched_group"](
            [*waiting, *pairs[at : at + 1000]], case.budget, is_finished=at + 1000 >= len(pairs)
        )
        bins += [[index for index, _ in group] for group in packed]
    return shuffled(bins, case, epoch)


def plan_trl(case: Case, epoch: int) -> Batches:
    """TRL: its `bfd` strategy over the whole table (one chunk); the table holds indices in the place of tokens."""
    import pyarrow as pa
    import pyarrow.compute as pc

    given = {
        "pyarrow": pa,
        "pa": pa,
        "pc": pc,
        "np": np,
        "defaultdict": collections.defaultdict,
        "deque": collections.deque,
    }
    names = ("_SegmentTree", "_check_if_columns_can_be_packed", "_pack_bfd")
    trl = take_functions("trl", "data_utils.py", names, given | {"Literal": typing.Literal})
    # One element a sample would do, but the function reads the length off the list: the tokens must be there.
    scale = max(1, int(case.lengths.sum() // 400_000_000) + 1)
    sizes = np.ceil(case.lengths / scale).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    owners = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    table = pa.table({"owner": pa.ListArray.from_arrays(offsets.astype(np.int32), owners)})
    packed = trl["_pack_bfd"](table, int(case.budget // scale))
    column, lengths = packed["owner"].chunks[0], packed["seq_lengths"].chunks[0]
    starts = np.concatenate([[0], np.cumsum(lengths.values.to_numpy())])[:-1]
    samples = column.values.to_numpy()[starts].astype(np.int64)
    bins = np.split(samples, lengths.offsets.to_numpy()[1:-1])
    return shuffled([part.tolist() for part in bins], case, epoch)


def plan_knapsack(case: Case, epoch: int) -> Batches:
    """LLaMA-Factory: its greedy knapsack over blocks of 1000 samples, as its preprocessing maps them."""
    names = ("search_for_fit", "greedy_knapsack")
    given = {"bisect": bisect}
    factory = take_functions("llamafactory", "data/processor/processor_utils.py", names, given)
    bins = []
    for block in np.split(np.arange(len(case.lengths)), range(1000, len(case.lengths), 1000)):
        indices = collections.defaultdict(list)
        for index in block.tolist():
            indices[case.lengths[index]].append(index)
        for knapsack in factory["greedy_knapsack"](case.lengths[block].tolist(), case.budget):
            bins.append([indices[length].pop() for length in knapsack])
    return shuffled(bins, case, epoch)


def verl_partition() -> Callable[..., list[list[int]]]:
    given = {"copy": copy, "heapq": heapq, "chain": itertools.chain}
    names = ("karmarkar_karp", "get_seqlen_balanced_partitions")
    return take_functions("verl", "utils/seqlen_balancing.py", names, given)["get_seqlen_balanced_partitions"]


def plan_karmarkar_karp(case: Case, epoch: int) -> Batches:
    """verl: each step's samples, drawn at random, dealt to the ranks by Karmarkar-Karp (equal counts, no budget)."""
    partition, batches = verl_partition(), []
    order = np.random.default_rng([case.seed, epoch]).permutation(len(case.lengths))
    for block in cut(order, fixed_size(case) * case.ranks):
        if len(block) == fixed_size(case) * case.ranks:
            parts = partition(case.compute[block].tolist(), k_partitions=case.ranks, equal_size=True)
            batches += [block[part] for part in parts]
    return batches


def plan_dynamic(case: Case, epoch: int) -> Batches:
    """verl: 64 batches' worth of samples to a rank by Karmarkar-Karp, then each rank's into the fewest that fit.

    The loop of `rearrange_micro_batches` (which needs tensors and a process group) over verl's own partition: more
    micro-batches, the same number on every rank, until the budget holds.
    """
    partition, batches = verl_partition(), []
    order = np.random.default_rng([case.seed, epoch]).permutation(len(case.lengths))
    for block in cut(order, fixed_size(case) * case.ranks * 64):
        block = block[: len(block) // case.ranks * case.ranks]
        if not len(block):
            continue
        parts = partition(case.compute[block].tolist(), k_partitions=case.ranks, equal_size=True)
        shares = [block[part] for part in parts]
        count = max(int(np.ceil(case.lengths[share].sum() / case.budget)) for share in shares)
        while True:
            micro = [partition(case.compute[share].tolist(), k_partitions=count, equal_size=False) for share in shares]
            found = [[share[part] for part in rank] for share, rank in zip(shares, micro, strict=True)]
            if all(case.lengths[part].sum() <= case.budget for rank in found for part in rank):
                break
            count += 1
        found = [sorted(rank, key=lambda part: -case.compute[part].sum()) for rank in found]
        batches += [rank[step] for step in range(count) for rank in found]
    return batches


PEERS = (
    Peer("fixed size, shuffled", False, plan_shuffled),
    Peer("transformers LengthGroupedSampler", False, plan_length_grouped),
    Peer("sorted greedy durations", False, plan_sorted_greedy),
    Peer("fixed size, shuffled", True, plan_shuffled),
    Peer("verl Karmarkar-Karp", True, plan_karmarkar_karp),
    Peer("verl dynamic batches", True, plan_dynamic),
    Peer("ms-swift binpacking", True, plan_binpacking),
    Peer("TRL bfd", True, plan_trl),
    Peer("LLaMA-Factory knapsack", True, plan_knapsack),
)
