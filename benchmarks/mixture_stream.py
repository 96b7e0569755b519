"""Writes which samples a mixture draws, epoch by epoch, as `vtg.get_dataloader` gives them to each rank.

    python -m torch.distributed.run --standalone --nproc_per_node=2 benchmarks/mixture_stream.py OUT EPOCHS [settings]

OUT holds a list of the epochs, each a list of qids: of one rank in order, of several what each saw, rank by rank.
`--state FILE`: goes on where another was, as FILE says. `--stop-after N`: writes FILE behind N batches, and then dies
as if it were killed.
"""

import argparse
import json
import os
from pathlib import Path

import torch.distributed as dist

import vtg


def main() -> None:
    parser = argparse.ArgumentParser(prog="mixture_stream.py", description=str(__doc__).split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("epochs", type=int)
    parser.add_argument("--state", type=Path)
    parser.add_argument("--stop-after", type=int, default=0)
    options, settings = parser.parse_known_args()
    dist.init_process_group("gloo")
    loader = vtg.get_dataloader(*settings, num_workers=0)
    if options.state and not options.stop_after:
        loader.load_state_dict(json.loads(options.state.read_text(encoding="utf-8")))
    epochs: list[list[str]] = []
    batches = 0
    while loader.epoch < options.epochs:
        seen: list[str] = []
        for batch in loader:
            seen += [row.qid for row in loader.rows] if len(batch["input_ids"]) else []
            batches += 1
            if batches == options.stop_after:
                options.state.write_text(json.dumps(loader.state_dict()), encoding="utf-8")
                options.out.write_text(json.dumps([*epochs, seen]), encoding="utf-8")
                os._exit(0)
        of_ranks: list[list[str]] = [[] for _ in range(dist.get_world_size())]
        dist.all_gather_object(of_ranks, seen)
        epochs.append([qid for rank in of_ranks for qid in rank])
    if dist.get_rank() == 0:
        options.out.write_text(json.dumps(epochs), encoding="utf-8")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
