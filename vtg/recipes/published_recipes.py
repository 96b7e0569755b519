"""What is known of the published trainings that conf/experiment/ holds the settings of.

A number stands here only with its source. Hours that no source tells are estimated from the settings, see
`vtg.recipes.expected_hours`; tests hold that both agree.
"""

from dataclasses import dataclass

TIME_R1 = "github.com/xiaomi-research/time-r1 README"
TIMELENS = "github.com/TencentARC/TimeLens README"
TIMELENS2 = "mcg-nju.github.io/TimeLens2"
VIDEOCHAT_R1 = "arXiv:2504.06958, as table 1 of TempSamp-R1 (github.com/HVision-NKU/TempSamp-R1) repeats it"

NO_SOURCE = "not stated in its repository"


@dataclass(frozen=True, slots=True)
class Score:
    """What a model scored.

    Attributes:
        model: whose score it is; of the recipe's last stage where it has several.
        benchmark: as papers call it.
        values: metric → per cent.
        source: where the numbers stand.
    """

    model: str
    benchmark: str
    values: dict[str, float]
    source: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """A published training.

    Attributes:
        name: of the experiment: `experiment=NAME`.
        program: that runs it, `train_sft.py` or `train_rl.py`.
        title: in a few words.
        paper: where it is described.
        repository: and commit that the values were read from.
        rows: training rows as published, before anything is dropped.
        after: the recipe whose checkpoint it starts from; None: the base model.
        hardware: what it was trained on, as published.
        hours: wall-clock; `hours_are` says of what.
        hours_are: `published`, or `estimated` (at most, on 8 H200).
        preset: of vtg.evaluate, under which the scores are to be compared.
        budgets: of vtg.score, the first being the one of its training.
        benchmarks: of vtg.score.
        scores: as published.
    """

    name: str
    program: str
    title: str
    paper: str
    repository: str
    rows: int
    after: str | None
    hardware: str
    hours: float
    hours_are: str
    preset: str
    budgets: tuple[str, ...]
    benchmarks: tuple[str, ...]
    scores: tuple[Score, ...]


def _r1(*values: float) -> dict[str, float]:
    return dict(zip(("R1@0.3", "R1@0.5", "R1@0.7", "mIoU"), values, strict=False))


_TIMELENS_8B = (
    Score("TimeLens-8B", "Charades-TimeLens", _r1(76.6, 63.0, 35.2, 55.2), TIMELENS),
    Score("TimeLens-8B", "ActivityNet-TimeLens", _r1(68.9, 58.4, 40.6, 53.2), TIMELENS),
    Score("TimeLens-8B", "QVHighlights-TimeLens", _r1(80.2, 71.6, 55.5, 65.5), TIMELENS),
)
_TIMELENS2_4B = tuple(
    Score("TimeLens2-4B", benchmark, {"mIoU": value}, TIMELENS2)
    for benchmark, value in (
        ("Charades-TimeLens", 57.7),
        ("ActivityNet-TimeLens", 59.0),
        ("QVHighlights-TimeLens", 69.3),
        ("VUE-TR", 53.2),
        ("VUE-TR-V2", 48.1),
        ("MomentSeeker", 27.9),
        ("Ego4D-NLQ", 18.6),
    )
)
_TIMELENS_BENCH = ("charades_timelens", "activitynet_timelens", "qvhighlights_timelens")

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="time_r1_7b",
            program="train_rl.py",
            title="GRPO with a thought on TimeRFT's 2,500 rows, from Qwen2.5-VL-7B",
            paper="arXiv:2503.13377",
            repository="github.com/xiaomi-research/time-r1@7f2b594",
            rows=2500,
            after=None,
            hardware=NO_SOURCE,
            hours=8.3,
            hours_are="estimated",
            preset="time_r1",
            budgets=("2fps_3584",),
            benchmarks=("tvgbench", "charades_sta", "activitynet_captions"),
            scores=(
                Score("Time-R1-7B", "TVGBench", _r1(41.8, 29.4, 16.4), TIME_R1),
                Score("Time-R1-7B, zero-shot", "Charades-STA", _r1(78.1, 60.8, 35.3), TIME_R1),
                Score("Time-R1-7B, zero-shot", "ActivityNet Captions", _r1(58.6, 39.0, 21.4), TIME_R1),
            ),
        ),
        Recipe(
            name="timelens_8b_sft",
            program="train_sft.py",
            title="30,000 rows of TimeLens-100K, from Qwen3-VL-8B",
            paper="arXiv:2512.14698",
            repository="github.com/TencentARC/TimeLens@5d90c06",
            rows=100_000,
            after=None,
            hardware="8 GPUs (train_scripts/run_sft_qwen3_8b.sh)",
            hours=5.2,
            hours_are="estimated",
            preset="timelens",
            budgets=("2fps_14k",),
            benchmarks=_TIMELENS_BENCH,
            scores=_TIMELENS_8B,
        ),
        Recipe(
            name="timelens_8b_rl",
            program="train_rl.py",
            title="GRPO without thoughts on hard samples of TimeLens-100K",
            paper="arXiv:2512.14698",
            repository="github.com/TencentARC/TimeLens@5d90c06",
            rows=100_000,
            after="timelens_8b_sft",
            hardware="8 GPUs (train_scripts/run_grpo_qwen3_8b.sh)",
            hours=1.5,
            hours_are="estimated",
            preset="timelens",
            budgets=("2fps_14k",),
            benchmarks=_TIMELENS_BENCH,
            scores=_TIMELENS_8B,
        ),
        Recipe(
            name="timelens2_4b_sft",
            program="train_sft.py",
            title="sets of moments in long videos, TimeLens2-93K, from Qwen3-VL-4B",
            paper="arXiv:2607.17423",
            repository="github.com/MCG-NJU/TimeLens2@a5ce450",
            rows=93_232,
            after=None,
            hardware="1 to 8 nodes of 8 GPUs (sft/README.md)",
            hours=44.0,
            hours_are="estimated",
            preset="timelens2",
            budgets=("4fps_128k", "2fps_128k", "1fps_128k"),
            benchmarks=(*_TIMELENS_BENCH, "vue_tr", "vue_tr_v2"),
            scores=_TIMELENS2_4B,
        ),
        Recipe(
            name="timelens2_4b_rl",
            program="train_rl.py",
            title="GRPO with the Wasserstein reward on TimeLens2-93K",
            paper="arXiv:2607.17423",
            repository="github.com/MCG-NJU/TimeLens2@a5ce450",
            rows=93_232,
            after="timelens2_4b_sft",
            hardware="8 GPUs a node (grpo/scripts/train.sh)",
            hours=2.7,
            hours_are="estimated",
            preset="timelens2",
            budgets=("4fps_128k", "2fps_128k", "1fps_128k"),
            benchmarks=(*_TIMELENS_BENCH, "vue_tr", "vue_tr_v2"),
            scores=_TIMELENS2_4B,
        ),
        Recipe(
            name="lwt235",
            program="train_sft.py",
            title="LoRA r 64 on batches of 1,200 s of video, from Qwen3-VL-4B",
            paper="no paper; docs/CONFIGURATION_GUIDE.md of its repository",
            repository="github.com/Lwt235/LWT235-VTG@7d83490",
            rows=2500,
            after=None,
            hardware=NO_SOURCE,
            hours=0.11,
            hours_are="estimated",
            preset="default",
            budgets=("own",),
            benchmarks=("tvgbench",),
            scores=(),
        ),
        Recipe(
            name="lwt235_rl",
            program="train_rl.py",
            title="GRPO, IoU 1.0 and overlap recall 0.5, temperature 0.7",
            paper="no paper; docs/CONFIGURATION_GUIDE.md of its repository",
            repository="github.com/Lwt235/LWT235-VTG@7d83490",
            rows=2500,
            after="lwt235",
            hardware=NO_SOURCE,
            hours=3.5,
            hours_are="estimated",
            preset="default",
            budgets=("own",),
            benchmarks=("tvgbench",),
            scores=(),
        ),
        Recipe(
            name="videochat_r1",
            program="train_rl.py",
            title="GRPO with a thought on Charades-STA, from Qwen2.5-VL-7B",
            paper="arXiv:2504.06958",
            repository="github.com/OpenGVLab/VideoChat-R1@73b2ea9",
            rows=12_408,
            after=None,
            hardware="8 GPUs (training_scripts/run_grpo_video_tg.sh)",
            hours=38.5,
            hours_are="estimated",
            preset="default",
            budgets=("2fps_3584",),
            benchmarks=("charades_sta",),
            scores=(
                Score(
                    "VideoChat-R1",
                    "Charades-STA",
                    {"R1@0.5": 71.7, "R1@0.7": 50.2, "mIoU": 60.8},
                    VIDEOCHAT_R1,
                ),
            ),
        ),
    )
}
"""By name, in the order of the list."""
