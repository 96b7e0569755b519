"""How benchmarks are published: one pure reader a form, in a file of its own, and the tables of their names.

They lie here, below `vtg.annotations.formats`, because every command reads published files as it reads vtg's own: a
reader knows rows and nothing of training. docs/converting.md lists the forms and shows how to add one.
"""

from vtg.annotations.sources import (
    captions,
    charades_actions,
    charades_sta,
    own_rows,
    qvhighlights,
    tacos,
    time_r1,
    timelens,
)
from vtg.annotations.sources.source_row import Source

VIDEOX = "https://github.com/microsoft/VideoX/tree/1744b2159c3d11694f94dab4fcde8660c685e79a/2D-TAN"
MOMENT_DETR = "https://github.com/jayleicn/moment_detr"
TIMELENS = "https://github.com/TencentARC/TimeLens/blob/5d90c06/timelens/dataset/timelens_data.py"
TIMELENS2 = "https://github.com/MCG-NJU/TimeLens2/blob/a5ce450/grpo/timelens/data/sources.py"
TIME_R1 = "https://github.com/xiaomi-research/time-r1/tree/7f2b5944a0c35993da80634a459d5a48a3a5431e"

CHARADES_LENGTHS = ("*Charades_v1_t*.csv",)

SOURCES: dict[str, Source] = {
    "rows": Source(
        title="rows of vtg's own form: TimeRFT (Time-R1), LWT235; lists of video, caption, timestamp",
        fits=own_rows.fits,
        rows=own_rows.rows,
        loader=TIME_R1,
        seen="train_2k5.json",
        beside={"durations": CHARADES_LENGTHS},
    ),
    "charades_sta": Source(
        title="Charades-STA as text, VIDEO START END##sentence",
        fits=charades_sta.fits,
        rows=charades_sta.rows,
        loader="https://github.com/jiyanggao/TALL",
        seen="charades_sta_train.txt, charades_sta_test.txt",
        beside={"durations": CHARADES_LENGTHS},
    ),
    "charades_actions": Source(
        title="Charades, its actions and lengths (Charades_v1_train.csv)",
        fits=charades_actions.fits,
        rows=charades_actions.rows,
        loader=f"{VIDEOX}/data/Charades-STA",
        seen="Charades_v1_train.csv, Charades_v1_test.csv",
        beside={"names": ("*Charades_v1_classes.txt",)},
    ),
    "captions": Source(
        title="ActivityNet Captions, Charades-STA as JSON, CD and CG splits of both",
        fits=captions.fits,
        rows=captions.rows,
        loader=f"{VIDEOX}/lib/datasets/activitynet.py",
        seen="train.json, val_1.json, Charades' train.json, Charades-CD, Charades-CG",
    ),
    "tacos": Source(
        title="TACoS in frames (2D-TAN)",
        fits=tacos.fits,
        rows=tacos.rows,
        loader=f"{VIDEOX}/lib/datasets/tacos.py",
        seen="train.json, val.json, test.json",
    ),
    "qvhighlights": Source(
        title="QVHighlights, and in its form TACoS, Charades-STA, CASTELLA, UnAV-100, TVSum",
        fits=qvhighlights.fits,
        rows=qvhighlights.rows,
        loader=f"{MOMENT_DETR}/blob/main/data/README.md",
        seen="highlight_train_release.jsonl, highlight_val_release.jsonl, highlight_test_release.jsonl",
    ),
    "tvgbench": Source(
        title="TVGBench (Time-R1)",
        fits=time_r1.fits,
        rows=time_r1.rows,
        loader=f"{TIME_R1}/src/utils/preprocess_dataset.py",
        seen="tvgbench.json",
    ),
    "timelens_bench": Source(
        title="TimeLens-Bench",
        fits=timelens.fits_bench,
        rows=timelens.bench_rows,
        loader=TIMELENS,
        seen=None,
    ),
    "timelens": Source(
        title="TimeLens-100K, TimeLens2-93K, their filtered files and rollouts",
        fits=timelens.fits_rows,
        rows=timelens.rows,
        loader=f"{TIMELENS} and {TIMELENS2}",
        seen=None,
    ),
}
"""Form → how it is told and read."""

BENCHMARKS: dict[str, tuple[str, ...]] = {
    "charades_sta": ("charades_sta", "captions", "rows", "qvhighlights"),
    "charades_cd": ("captions",),
    "charades_cg": ("captions",),
    "activitynet_captions": ("captions", "qvhighlights"),
    "activitynet_cd": ("captions",),
    "activitynet_cg": ("captions",),
    "tacos": ("tacos", "qvhighlights", "captions"),
    "tvsum": ("qvhighlights",),
    "timerft": ("rows",),
    "time_r1": ("rows", "tvgbench"),
    "lwt235": ("rows",),
    "timelens_100k": ("timelens",),
    "timelens2_93k": ("timelens",),
}
"""Name of a benchmark → the forms it is published in. The name of a form names it alone."""


def forms_of(name: str) -> tuple[str, ...]:
    """The forms that a name of `BENCHMARKS` or `SOURCES` stands for. Raises KeyError for a name that is none."""
    return BENCHMARKS[name] if name in BENCHMARKS else (SOURCES[name] and name,)
