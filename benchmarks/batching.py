"""How well and how fast are batches planned? `python benchmarks/batching.py [--durations FILE…] [--ranks 8] [--json]`.

Padded plans take the durations in seconds; packed ones tokens made of them (2 fps, 70 tokens a pair of frames, a text),
balanced by tokens + tokens² / 24576. The budget is max(4 x mean, longest). Without files: a million samples of each of
three seeded shapes. A peer that keeps no budget shows so in `max_batch_cost`; an incomplete last step is left out.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from batching_peers import PEERS, Batches, Case

from vtg.batching import Plan, plan_epoch, statistics

SHOWN = {
    "efficiency": ".4f", "padding": ".4f", "idle": ".4f", "straggler": ".5f", "bins_over_bound": ".5f",
    "over_budget": ".3f", "steps": "d", "plan_seconds": ".2f", "mates_kept": ".5f", "mate_overlap": ".1f",
    "order_correlation": "+.4f",
}  # fmt: skip


@dataclass(frozen=True)
class PlanMeasures:
    """Measures of a plan. Mates: share of the pairs in a batch that are in a batch again in the next epoch."""

    budget: float
    efficiency: float
    padding: float
    idle: float
    straggler: float
    bins_over_bound: float
    max_batch_cost: float
    over_budget: float
    steps: int
    samples: int
    plan_seconds: float
    peak_mb: float
    mates_kept: float
    mate_overlap: float
    order_correlation: float


def seeded(samples: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    many = rng.random(samples) < 0.7
    heavy = np.where(many, rng.normal(30, 7, samples).clip(5), rng.lognormal(5.6, 0.7, samples).clip(20, 2000))
    return {
        "log-normal": rng.lognormal(4, 0.6, samples).clip(2, 1800),
        "uniform": rng.uniform(5, 240, samples),
        "bimodal, heavy tail": heavy,
    }


def to_tokens(durations: np.ndarray) -> np.ndarray:
    frames = np.clip(np.floor(durations) * 2, 4, 768).astype(np.int64)
    return (frames // 2 * 70 + np.random.default_rng(0).integers(40, 160, len(durations))).astype(float)


def make_case(durations: np.ndarray, ranks: int, packed: bool) -> Case:
    lengths = to_tokens(durations) if packed else durations
    compute = lengths + lengths**2 / 24576 if packed else lengths
    return Case(lengths, float(max(4 * lengths.mean(), lengths.max())), ranks, compute)


def plan_vtg(case: Case, epoch: int, packed: bool) -> Plan:
    same = {"ranks": case.ranks, "budget": case.budget, "padded": not packed}
    return plan_epoch(case.lengths, **same, seed=case.seed, epoch=epoch, compute=case.compute)


def as_plan(batches: Batches, ranks: int) -> Plan:
    batches = batches[: len(batches) // ranks * ranks]
    return Plan(np.concatenate(batches), np.cumsum([0, *map(len, batches)]), ranks)


def kept_mates(first: Plan, second: Plan, count: int) -> tuple[float, float]:
    """Share of batch-mates kept, and over what random batches of these sizes would keep."""
    owners = []
    for plan in (first, second):
        owner, real = np.full(count, -1), plan.samples >= 0
        owner[plan.samples[real]] = np.repeat(np.arange(len(plan.offsets) - 1), np.diff(plan.offsets))[real]
        owners.append(owner)
    both = (owners[0] >= 0) & (owners[1] >= 0)
    before, after = owners[0][both], owners[1][both]
    before_pairs, after_pairs, kept = (
        (found * (found - 1.0) / 2).sum()
        for found in (np.unique(ids, return_counts=True)[1] for ids in (before, after, before * count + after))
    )
    if not before_pairs or not after_pairs:
        return 0.0, 0.0
    chance = after_pairs / (both.sum() * (both.sum() - 1.0) / 2)
    return float(kept / before_pairs), float(kept / before_pairs / chance)


def order_correlation(plan: Plan, lengths: np.ndarray) -> float:
    """Spearman's of the length of a sample and its step."""
    real = plan.samples >= 0
    step = np.repeat(np.arange(plan.steps), np.diff(plan.offsets[:: plan.ranks]))[real]
    ranks = []
    for values in (lengths[plan.samples[real]], step):
        ordered = np.sort(values)
        ranks.append(np.searchsorted(ordered, values) + np.searchsorted(ordered, values, "right"))
    return float(np.corrcoef(*ranks)[0, 1]) if all(np.ptp(part) for part in ranks) else 0.0


def measure(case: Case, packed: bool, plans: list[Plan], seconds: float, peak_mb: float) -> PlanMeasures:
    found = statistics(plans[0], case.lengths, budget=case.budget, padded=not packed, compute=case.compute)
    kept, overlap = kept_mates(plans[0], plans[1], len(case.lengths))
    return PlanMeasures(
        budget=case.budget,
        efficiency=found.efficiency,
        padding=found.padding,
        idle=found.idle,
        straggler=found.straggler,
        bins_over_bound=found.bound_ratio,
        max_batch_cost=found.max_batch_cost,
        over_budget=found.max_batch_cost / case.budget,
        steps=found.steps,
        samples=found.samples,
        plan_seconds=seconds,
        peak_mb=peak_mb,
        mates_kept=kept,
        mate_overlap=overlap,
        order_correlation=order_correlation(plans[0], case.lengths),
    )


def run_one(make: Callable[[int], Plan], case: Case, packed: bool, answer: Connection) -> None:
    """In a child process: plans two epochs and sends the row, or why there is none."""
    try:
        make(0)  # imports, first touches
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        first = make(0)
        seconds = time.perf_counter() - started
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        plans = [first, make(1)]
        answer.send(asdict(measure(case, packed, plans, seconds, max(peak_mb, before / 1024))))
    except ImportError as error:
        answer.send({"note": f"not importable: {error}"})


def run_limited(make: Callable[[int], Plan], case: Case, packed: bool, limit: float) -> dict[str, object]:
    context = multiprocessing.get_context("fork")
    answer, child_end = context.Pipe(duplex=False)
    child = context.Process(target=run_one, args=(make, case, packed, child_end))
    child.start()
    child_end.close()
    if not answer.poll(limit):
        child.kill()
        child.join()
        return {"note": f"stopped after {limit:g} s"}
    found: dict[str, object]
    try:
        found = answer.recv()
    except EOFError:
        found = {"note": "the planner failed, see its error above"}
    child.join()
    return found


def compare(name: str, durations: np.ndarray, ranks: int, limit: float, peers: bool) -> list[dict[str, object]]:
    rows = []
    for packed in (False, True):
        case = make_case(durations, ranks, packed)
        ways: dict[str, Callable[[int], Plan]] = {"vtg": lambda epoch: plan_vtg(case, epoch, packed)}  # noqa: B023
        for peer in PEERS if peers else ():
            if peer.packed == packed:
                ways[peer.name] = lambda epoch, plan=peer.plan: as_plan(plan(case, epoch), ranks)  # noqa: B023
        for planner, make in ways.items():
            row: dict[str, object] = {"planner": planner, "file": name, "ranks": ranks, "packed": packed}
            rows.append(row | run_limited(make, case, packed, limit * 10 if planner == "vtg" else limit))
            print(f"{name}: {planner} done", file=sys.stderr)
    return rows


def print_table(rows: list[dict[str, object]]) -> None:
    for name, ranks, packed in dict.fromkeys((row["file"], row["ranks"], row["packed"]) for row in rows):
        print(f"\n{name}, {ranks} ranks, {'packed tokens' if packed else 'padded seconds'}\n")
        print("| planner | " + " | ".join(SHOWN) + " |\n|" + "---|" * (len(SHOWN) + 1))
        for row in rows:
            if (row["file"], row["ranks"], row["packed"]) == (name, ranks, packed):
                cells = [row["note"]] if "note" in row else [format(row[key], how) for key, how in SHOWN.items()]
                print(f"| {row['planner']} | " + " | ".join(map(str, cells)) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--durations", nargs="+", type=Path, default=[], help="files of one number (seconds) a line")
    parser.add_argument("--ranks", nargs="+", type=int, default=[8])
    parser.add_argument("--samples", type=int, default=1_000_000, help="of the seeded shapes, without files")
    parser.add_argument("--peer-limit", type=float, default=60, help="seconds a peer has for its plans of a list")
    parser.add_argument("--no-peers", action="store_true", help="this planner alone")
    parser.add_argument("--json", action="store_true", help="one JSON object in the place of the tables")
    options = parser.parse_args()
    lists = {path.stem: np.loadtxt(path, ndmin=1) for path in options.durations} or seeded(options.samples)
    rows = []
    for name, durations in lists.items():
        for ranks in options.ranks:
            rows += compare(name, durations, ranks, options.peer_limit, not options.no_peers)
    if options.json:
        print(json.dumps({"benchmark": "batching", "results": rows}))
    else:
        print_table(rows)


if __name__ == "__main__":
    main()
