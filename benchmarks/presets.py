"""How near are presets to the official scripts? `python benchmarks/presets.py ../shared/data [--vidi FOLDER]`.

A line for every file, preset and metric with an official number: theirs, ours, and the difference. Where the script
ends in an exception, what it said stands in place of a number, and what the preset does instead. `--vidi`: a checkout
of github.com/bytedance/vidi, whose answers on VUE-TR lie beside the table of their scores.
"""

import argparse
import csv
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vtg.evaluation.presets.table import PUBLISHED
from vtg.evaluation.published_scores import asked, scores_by


class Line(NamedTuple):
    """One number of one file; `official` may be what the script said in its place."""

    file: str
    preset: str
    metric: str
    official: float | str
    ours: float | str | None

    @property
    def difference(self) -> float | None:
        """None where there are not two numbers."""
        if not isinstance(self.official, float) or not isinstance(self.ours, float):
            return None
        return None if math.isnan(self.official) else abs(self.official - self.ours)


def printed(preset: str, predictions: Path, annotations: Path | None) -> dict[str, Any]:
    """What the preset prints. Raises ValueError where it refuses the file."""
    read = asked(str(predictions), annotations=None if annotations is None else str(annotations), field=None)
    return scores_by(PUBLISHED[preset], read.cases).printed


def numbers(official: Mapping[str, Any], ours: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, float, Any]]:
    """(metric, official number, ours) of nested groups; `brief` repeats what is in others, and is left out."""
    for name, value in official.items():
        other = ours.get(name)
        if isinstance(value, Mapping):
            if name != "brief" or len(official) == 1:
                yield from numbers(value, other if isinstance(other, Mapping) else {}, f"{path}{name} ")
        elif isinstance(value, int | float):
            yield f"{path}{name}", float(value), float(other) if isinstance(other, int | float) else other


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def retrieval_lines(data: Path) -> Iterator[Line]:
    """The three scripts of QVHighlights' form on submissions, good and broken."""
    for file in sorted((data / "predictions" / "official" / "synthetic").glob("*.json")):
        preset, kind, what = file.stem.split("__")
        name = f"{kind}__{what}.jsonl"
        truth = data / "annotations" / f"lighthouse__{kind}_release.jsonl"
        if kind == "broken":
            truth = data / "predictions" / "synthetic" / "broken__gt_first200.jsonl"
        official = _read(file)
        try:
            ours = printed(preset, data / "predictions" / "synthetic" / name, truth)
        except ValueError as refused:
            yield Line(name, preset, "-", _exception(official), f"refused: {refused}")
            continue
        if not official["ok"]:
            score = next(value for key, value in ours["brief"].items() if key.startswith("MR-full-mAP"))
            yield Line(name, preset, "MR-full-mAP", _exception(official), score)
            continue
        for metric, theirs, own in numbers(official["metrics"], ours):
            yield Line(name, preset, metric, theirs, own)


def _exception(official: Mapping[str, Any]) -> str:
    return "ends: " + " ".join(str(official.get("exception", official.get("error", "an exception"))).split())[:60]


def other_lines(data: Path) -> Iterator[Line]:
    """Time-R1's, TimeChat's and people's answers."""
    predictions, annotations = data / "predictions", data / "annotations"
    names = {"mIoU": "mIoU", "avg": "avg", "0.3": "R1@0.3", "0.5": "R1@0.5", "0.7": "R1@0.7"}
    human, base = predictions / "hiddenmr__human_charades.json", annotations / "timer1__train_2k5.json"
    of_base = _read(predictions / "official" / "timer1_eval__train_2k5_pred.json")["scores"]
    for file, official in ((base, of_base), (human, _read(human)["official_time_r1_scores"])):
        ours = printed("time_r1", file, None)
        for metric, theirs in official.items():
            yield Line(file.name, "time_r1", metric, float(theirs), float(ours[names[metric]]))
    # The three numbers that the manifest tells of TimeChat's moments.
    moments = predictions / "timechat__tvg_example_pred_file.json"
    ours = printed("timechat", moments, annotations / "timeit__charades_test_coco.json")
    for threshold, theirs in ((0.3, 9.0), (0.5, 3.4), (0.7, 1.4)):
        yield Line(moments.name, "timechat", f"IOU {threshold}", theirs, float(ours[f"IOU {threshold}"]))
    captions = predictions / "timechat__dvc_example_pred_file.json"
    ours = printed("timechat", captions, annotations / "timeit__youcook2_val_coco.json")
    official = _read(predictions / "official" / "timechat_eval__dvc_localization.json")
    for metric, theirs, own in numbers(official["scores"], ours):
        yield Line(captions.name, "timechat", metric, theirs, own)


def vidi_lines(folder: Path) -> Iterator[Line]:
    """VUE-TR's published answers against its published table."""
    for preset, part, truth, table in (
        ("vue_tr", "VUE_TR", "VUE-TR_ground_truth.json", "results_table.csv"),
        ("vue_tr_v2", "VUE_TR_V2", "VUE-TRv2_ground_truth.json", "results/results_table.csv"),
    ):
        with (folder / part / table).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        for model in dict.fromkeys(row["method"] for row in rows):
            answers = folder / part / f"results_{model}.json"
            ours = printed(preset, answers, folder / part / truth)
            groups = {"overall": ours} | {
                name: group for value in ours.values() if isinstance(value, dict) for name, group in value.items()
            }
            for row in (row for row in rows if row["method"] == model):
                for column, metric in (("precision", "Precision"), ("recall", "Recall"), ("iou", "IoU")):
                    theirs, own = float(row[column].rstrip("%")), groups[row["attribute"]][metric]
                    yield Line(f"{part}/{answers.name}", preset, f"{metric} {row['attribute']}", theirs, own)


def main() -> None:
    """Prints the table, and how many numbers it compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder with predictions/ and annotations/")
    parser.add_argument("--vidi", type=Path, metavar="FOLDER", help="a checkout of github.com/bytedance/vidi")
    args = parser.parse_args()
    lines = [*retrieval_lines(args.data), *other_lines(args.data), *(vidi_lines(args.vidi) if args.vidi else ())]
    print("| file | preset | metric | official | ours | difference |\n|---|---|---|---|---|---|")
    for line in lines:
        difference = "-" if line.difference is None else f"{line.difference:.3g}"
        shown = (f"{value:.10g}" if isinstance(value, float) else str(value) for value in (line.official, line.ours))
        print(f"| {line.file} | {line.preset} | {line.metric} | {' | '.join(shown)} | {difference} |")
    compared = [line.difference for line in lines if line.difference is not None]
    print(f"\n{len(compared):,} numbers of {len({line.file for line in lines})} files compared; ", end="")
    print(f"largest difference {max(compared):.3g}; {len(lines) - len(compared)} without an official number")


if __name__ == "__main__":
    main()
