"""How benchmarks are published: one pure reader a form, in a file of its own, and the tables of their names.

They lie here, below `vtg.annotations.formats`, because every command reads published files as it reads vtg's own: a
reader knows rows and nothing of training. docs/converting.md lists the forms and shows how to add one.
"""

from vtg.annotations.sources import (
    action_detection,
    captions,
    charades_actions,
    charades_sta,
    coco_captions,
    conversations,
    didemo,
    ego4d_nlq,
    hirest,
    kinetics,
    moment_seeker,
    museg,
    next_gqa,
    own_rows,
    qvhighlights,
    tacos,
    time_r1,
    timelens,
    vue_tr,
    worker_table,
)
from vtg.annotations.sources.source_row import Source
from vtg.annotations.sources.task_sources import TASK_SOURCES

VIDEOX = "https://github.com/microsoft/VideoX/tree/1744b2159c3d11694f94dab4fcde8660c685e79a/2D-TAN"
MOMENT_DETR = "https://github.com/jayleicn/moment_detr"
TIMELENS = "https://github.com/TencentARC/TimeLens/blob/5d90c06/timelens/dataset/timelens_data.py"
TIMELENS2 = "https://github.com/MCG-NJU/TimeLens2/blob/a5ce450/grpo/timelens/data/sources.py"
TIME_R1 = "https://github.com/xiaomi-research/time-r1/tree/7f2b5944a0c35993da80634a459d5a48a3a5431e"

TIMELENS2_EVAL = "https://github.com/MCG-NJU/TimeLens2/blob/a5ce450/evaluation/vlmeval/dataset"
TIMECHAT = "https://github.com/RenShuhuai-Andy/TimeChat/blob/c60b332"
HIREST = "https://github.com/j-min/HiREST/blob/deffc16/README.md"

CHARADES_LENGTHS = ("*Charades_v1_train.csv", "*Charades_v1_test.csv")

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
    "didemo": Source(
        title="DiDeMo, with the spans of all annotators",
        fits=didemo.fits,
        rows=didemo.rows,
        loader="https://github.com/LisaAnne/LocalizingMoments/blob/b6a555c/README.md",
        seen="val_data.json",
    ),
    "vue_tr": Source(
        title="VUE-TR and VUE-TR-V2 (Vidi)",
        fits=vue_tr.fits,
        rows=vue_tr.rows,
        loader="https://github.com/bytedance/vidi/blob/fc30c87/VUE_TR/qa_eval.py",
        seen="VUE-TR_ground_truth.json, VUE-TRv2_ground_truth.json",
    ),
    "moment_seeker": Source(
        title="MomentSeeker",
        fits=moment_seeker.fits,
        rows=moment_seeker.rows,
        loader=f"{TIMELENS2_EVAL}/moment_seeker.py",
        seen=None,
    ),
    "ego4d_nlq": Source(
        title="Ego4D-NLQ (nlq_train.json, nlq_val.json)",
        fits=ego4d_nlq.fits,
        rows=ego4d_nlq.rows,
        loader="https://github.com/EGO4D/episodic-memory/blob/5275b95/NLQ/VSLNet/utils/prepare_ego4d_dataset.py",
        seen=None,
        inside=("videos",),
    ),
    "ego4d_nlq_lines": Source(
        title="Ego4D-NLQ v2 as TimeLens2 evaluates on it",
        fits=ego4d_nlq.fits_lines,
        rows=ego4d_nlq.line_rows,
        loader=f"{TIMELENS2_EVAL}/ego4d_nlq_v2.py",
        seen=None,
    ),
    "coco_captions": Source(
        title="captions in COCO's form (TimeChat, TimeIT): Charades-STA, YouCook2",
        fits=coco_captions.fits,
        rows=coco_captions.rows,
        loader=f"{TIMECHAT}/utils/construct_it_data/process_grounding_data.py",
        seen="test.caption_coco_format.json, val.caption_coco_format.json",
        inside=("annotations",),
        beside={"durations": CHARADES_LENGTHS},
    ),
    "conversations": Source(
        title="conversations with times: TimeIT, LLaVA, ms-swift, LLaMA-Factory, XTuner",
        fits=conversations.fits,
        rows=conversations.rows,
        loader=f"{TIMECHAT}/utils/construct_it_data, "
        "https://github.com/hiyouga/LLaMA-Factory/blob/ff6d4d1/data/README.md, "
        "https://swift.readthedocs.io/en/latest/Customization/Custom-dataset.html",
        seen="TimeIT's instruct_tvg_0.5k_hirest.json, instruct_dvc_1.2k_youcook2.json, instruct_vhd_50_tvsum.json",
        beside={"durations": CHARADES_LENGTHS},
    ),
    "hirest": Source(
        title="HiREST, moments of prompts",
        fits=hirest.fits,
        rows=hirest.rows,
        loader=HIREST,
        seen="all_data_train.json, all_data_val.json",
    ),
    "hirest_steps": Source(
        title="HiREST, the steps (by this name alone: the same file as hirest)",
        fits=hirest.fits,
        rows=hirest.step_rows,
        loader=HIREST,
        seen="all_data_train.json, all_data_val.json",
        by_name=True,
    ),
    "next_gqa": Source(
        title="NExT-GQA, gsub_val.json with val.csv beside it",
        fits=next_gqa.fits,
        rows=next_gqa.rows,
        loader="https://github.com/doc-doc/NExT-GQA/tree/63772e0/datasets/nextgqa",
        seen="gsub_val.json, val.csv",
        beside={"questions": ("val.csv", "test.csv")},
    ),
    "museg": Source(
        title="MUSEG, training and evaluation",
        fits=museg.fits,
        rows=museg.rows,
        loader="https://github.com/THUNLP-MT/MUSEG/blob/889565e/src/eval_grounding.py",
        seen="stage_1.jsonl, charades_sta.json, thumos14.json",
        beside={"durations": CHARADES_LENGTHS},
    ),
    "action_detection": Source(
        title="ActivityNet, THUMOS (ActionFormer) and YouCook2: database of videos",
        fits=action_detection.fits,
        rows=action_detection.rows,
        loader="https://github.com/happyharrycn/actionformer_release/blob/61ea7eb/libs/datasets/thumos14.py",
        seen=None,
        inside=("database",),
    ),
    "thumos_lines": Source(
        title="THUMOS' own lines, a file a class (BaseballPitch_val.txt)",
        fits=action_detection.fits_lines,
        rows=action_detection.line_rows,
        loader="https://www.crcv.ucf.edu/THUMOS14/",
        seen=None,
        needs_stem=True,
    ),
    "worker_table": Source(
        title="several annotators a sentence, in percent (Hidden Challenges)",
        fits=worker_table.fits,
        rows=worker_table.rows,
        loader="https://github.com/mayu-ot/hidden-challenges-MR",
        seen="Charades' test_00.csv, test_01.csv, test_02.csv",
        beside={"durations": CHARADES_LENGTHS},
        groups=True,
    ),
    "kinetics": Source(
        title="Kinetics, as actions in the videos that they were cut from",
        fits=kinetics.fits,
        rows=kinetics.rows,
        loader="https://github.com/activitynet/ActivityNet/tree/82304fa/Crawler/Kinetics",
        seen="kinetics-400_val.csv",
    ),
} | TASK_SOURCES
"""Form → how it is told and read."""

BENCHMARKS: dict[str, tuple[str, ...]] = {
    "charades_sta": ("charades_sta", "captions", "rows", "coco_captions", "qvhighlights"),
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
    "vue_tr_v2": ("vue_tr",),
    "timeit": ("conversations", "coco_captions"),
    "youcook2": ("action_detection", "coco_captions", "conversations"),
    "activitynet_detection": ("action_detection",),
    "thumos14": ("action_detection", "thumos_lines"),
    "kinetics": ("kinetics", "kinetics_list"),
    "llava": ("conversations",),
    "molmo2": (
        "molmo2_captions",
        "molmo2_choices",
        "molmo2_questions",
        "molmo2_points",
        "molmo2_counts",
        "molmo2_tracks",
        "molmo2_trajectories",
        "pixmo_pairs",
        "pixmo_many_points",
    ),
    "pixmo": (
        "pixmo_captions",
        "pixmo_questions",
        "pixmo_pairs",
        "pixmo_points",
        "pixmo_many_points",
        "pixmo_counts",
    ),
    "ms_swift": ("conversations",),
    "llama_factory": ("conversations",),
}
"""Name of a benchmark → the forms it is published in. The name of a form names it alone."""


def forms_of(name: str) -> tuple[str, ...]:
    """The forms that a name of `BENCHMARKS` or `SOURCES` stands for. Raises KeyError for a name that is none."""
    return BENCHMARKS[name] if name in BENCHMARKS else (SOURCES[name] and name,)
