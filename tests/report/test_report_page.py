"""The page of a run, made from run directories written by hand: all files, few files, broken files."""

import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray

from vtg.errors import ConfigError
from vtg.report import write_report
from vtg.report.charts import FRAME, MAX_POINTS, Plot, Series, histogram, line_chart, stacked_chart
from vtg.report.differences import difference_lines, differences
from vtg.report.film_strips import FilmStrips
from vtg.report.html_page import comparison_page, run_page
from vtg.report.run_reader import read_run
from vtg.report.score_tables import paired_gains
from vtg.report.timelines import sample_groups

EVIL = '<script>alert("x")</script> & "quotes"'
VOID = {"meta"}
NONE = "no such moment"


def row(qid: str, prediction: list[float] | None, *, sentence: str = "a man sits", text: str | None = None) -> dict:
    spans = [] if prediction is None else [prediction]
    said = f"{prediction[0]} to {prediction[1]} seconds" if prediction else "no idea"
    status = "ok" if prediction else "malformed"
    truth = {"video": f"{qid}.mp4", "duration": 20.0, "timestamp": [5.0, 10.0], "sentence": sentence, "qid": qid}
    return truth | {"prediction": spans, "text": said if text is None else text, "status": status}


def write_rows(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in rows), encoding="utf-8")


BASE = [row("a", [5.0, 10.0]), row("b", [0.0, 20.0]), row("c", None), row("d", [12.0, 18.0])]
TUNED = [row("a", [11.0, 12.0]), row("b", [5.0, 10.0], sentence=EVIL), row("c", [5.0, 9.0]), row("d", [12.0, 18.0])]
METRICS = {
    "base": {"R1@0.5": 25.0, "mIoU": 31.25, "parse_failures": 25.0, "samples": 4},
    "tuned": {"R1@0.5": 50.0, "mIoU": 45.0, "parse_failures": 0.0, "samples": 4},
}
IOU_BINS = ("0.0-0.2", "0.2-0.4", "0.4-0.6", "0.6-0.8", "0.8-1.0")


def write_sft(folder: Path, *, rate: float = 0.001, steps: int = 6) -> Path:
    folder.mkdir(parents=True)
    settings = {"run_name": folder.name, "trainer": {"learning_rate": rate}, "data": {"annotation_file": "no.jsonl"}}
    (folder / "config.yaml").write_text(json.dumps(settings))
    environment = {
        "python": "3.11.7",
        "packages": {"vtg": "0.1.0", "torch": "2.15.0"},
        "git_commit": "52b7f46e54536446",
    }
    (folder / "environment.json").write_text(json.dumps(environment))
    (folder / "metrics.json").write_text(json.dumps(METRICS))
    log: list[dict] = [
        {"step": s, "loss": 2.0 / s, "learning_rate": rate, "batch/padding": 0.1 * s} for s in range(1, steps)
    ]
    write_rows(
        folder / "train_log.jsonl", [*log, {"step": steps - 1, "eval_mIoU": 40.5}, {"step": steps, "train_loss": 1.5}]
    )
    write_rows(folder / "base_predictions.jsonl", BASE)
    write_rows(folder / "predictions.jsonl", TUNED)
    write_rows(folder / "skipped.jsonl", [{"place": "rows.jsonl:7", "reason": EVIL, "qid": "x", "video": "x.mp4"}])
    return folder


def write_rl(folder: Path, *, steps: int = 5) -> Path:
    write_sft(folder)
    log = []
    for step in range(1, steps + 1):
        entry = {"step": step, "loss": 0.01, "reward": 0.1 * step, "reward_std": 0.2, "kl": 0.01, "entropy": 1.0 / step}
        entry |= {"rewards/temporal_iou/mean": 0.1 * step, "rewards/temporal_iou/std": 0.1, "rewards/format/mean": 1.0}
        entry |= {"frac_reward_zero_std": 0.1, "completions/mean_length": 9.0, "completions/clipped_ratio": 0.0}
        entry |= {f"iou/{name}": share for name, share in zip(IOU_BINS, (0.4, 0.3, 0.1, 0.1, 0.1), strict=True)}
        entry |= {
            "parse/ok": 0.75,
            "parse/malformed": 0.25,
            "parse/out_of_range": 0.0,
            "parse/reversed": 0.0,
            "iou/mean": 0.3,
        }
        entry |= {"length/predicted_s": 4.0 + step, "length/true_s": 5.0, "length/whole_video_share": 0.125}
        log.append(entry | {"vision/encoder_calls": 2.0, "vision/decodes": float(step)})
        group = [row("g", [5.0, 5.0 + step + k], sentence=f"group of step {step}") for k in range(3)]
        rolled = [
            one
            | {"step": step, "iou": 0.25 * k, "rewards": {"temporal_iou": 0.25 * k, "format": None}}
            | {"reward": 0.5 + k / 4, "advantage": k - 1.0}
            for k, one in enumerate(group)
        ]
        write_rows(folder / "completions" / f"step_{step:06d}.jsonl", rolled)
    write_rows(folder / "train_log.jsonl", log)
    return folder


class Page(HTMLParser):
    """Checks that tags are balanced, and collects scripts, references and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts = 0
        self.references: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        self.references += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def check(html: str) -> Page:
    """The page, well formed, in one file, with one script of its own."""
    page = Page(html)
    assert page.scripts == 1
    assert all(reference.startswith(("#", "data:image/webp;base64,")) for reference in page.references)
    assert not re.search(r"https?://|@import|url\(", html)
    for drawing in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        ElementTree.fromstring(drawing)
    return page


def sections(html: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", html)


def titles(html: str) -> list[str]:
    return re.findall(r"<figcaption><b>(.*?)</b>", html)


def test_a_run_of_sft_shows_scores_curves_samples_skipped_rows_and_settings(tmp_path):
    folder = write_sft(tmp_path / "my_run")
    path = write_report(folder)
    assert path == folder / "report.html"
    html = path.read_text(encoding="utf-8")
    page = check(html)
    assert sections(html) == ["Results", "Training", "Samples", "Skipped rows", "Settings", "Environment"]
    assert titles(html) == ["IoU of the samples", "Loss", "Validation", "Learning rate", "batch/padding"]
    assert "<h1>my_run</h1>" in html
    for said in ("SFT, 6 steps", "vtg 0.1.0", "torch 2.15.0", "commit 52b7f46e54", "step 4", "loss: 0.5", "train_loss"):
        assert said in page.text, said
    assert "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt; &amp; &#34;quotes&#34;" in html
    assert "1 rows were left out" in html and "rows.jsonl:7" in html
    assert "learning_rate" in page.text and "malformed: no idea" in page.text


def test_the_gain_is_the_paired_one_and_its_interval_is_shown(tmp_path):
    run = read_run(write_sft(tmp_path / "run"))
    gained = paired_gains(run.base, run.tuned)
    assert gained["mIoU"].interval.difference == pytest.approx((100 * 0.0 + 100 + 80 + 0) / 4 - (100 + 25) / 4)
    assert gained["R1@0.5"].interval.difference == pytest.approx(25.0)
    assert gained["mIoU"].samples == 4 and not gained["mIoU"].is_significant
    html = run_page(run)
    assert f'<td>31.2</td><td>45.0</td><td class="unsure">+13.8</td><td>{gained["mIoU"].bounds}</td>' in html
    assert paired_gains(run.base, [row("other", [1.0, 2.0])]) == {}


def test_samples_are_the_ones_that_changed_most_the_worst_and_the_best(tmp_path):
    html = run_page(read_run(write_sft(tmp_path / "run")))
    samples = html[html.index("<h2>Samples") : html.index("<h2>Skipped")]
    order = re.findall(r'<h3>(.*?)</h3>|<p class="where">\w.mp4 · (\w)', samples)
    assert [title or qid for title, qid in order] == [
        "Gained most over the base", "c", "b", "Lost most against the base", "a", "Worst", "d"
    ]  # fmt: skip
    of_b = samples[samples.index("b.mp4") :]
    bars = re.findall(r'<i style="left:([\d.]+)%;width:([\d.]+)%.*?" title="(.*?)" data', of_b)[:3]
    assert bars[:3] == [
        ("25.00", "25.00", "5.00 to 10.00 s"),
        ("0.00", "100.00", "0.00 to 20.00 s"),
        ("25.00", "25.00", "5.00 to 10.00 s"),
    ]


def test_a_run_of_rl_shows_rewards_iou_over_steps_hacking_and_completions(tmp_path):
    html = run_page(read_run(write_rl(tmp_path / "grpo")))
    page = check(html)
    assert {"Sampled answers", "Reward hacking", "Completions"} <= set(sections(html))
    assert {"Reward", "Parts of the reward", "Spread of the reward", "Groups without a signal"} <= set(titles(html))
    assert {"KL divergence", "Entropy", "Completion length", "IoU of completions over steps"} <= set(titles(html))
    assert {"Answers that can be read", "Length of the predicted moment", "Whole-video answers"} <= set(titles(html))
    assert {"vision/decodes", "vision/encoder_calls"} <= set(titles(html))
    assert "GRPO, 5 steps" in page.text and "predicted_s: 6" in page.text and "0.0-0.2: 40.0 %" in page.text
    shown = html[html.index("<h2>Completions") : html.index("<h2>Samples")]
    assert re.findall(r"<h3>(.*?)</h3>", shown) == ["Step 1", "Step 3", "Step 5"]
    assert "group of step 3" in shown and "group of step 2" not in shown
    lanes = re.findall(r"\s*".join([r'<span class="cell">([-\d.]+)</span>'] * 3), shown)[:3]
    assert lanes == [("0.50", "1.00", "1.00"), ("0.25", "0.75", "0.00"), ("0.00", "0.50", "-1.00")]
    assert "temporal_iou: 0.50\nformat: \nreward: 1.00" in shown


def test_a_run_that_is_not_finished_has_the_parts_that_are_there(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "train_log.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n{"step": 3, "lo')
    run = read_run(folder)
    assert run.notes == () and run.log == {"loss": {1: 2.0, 2: 1.0}} and run.name == "run"
    html = run_page(run)
    assert sections(html) == ["Training"]
    assert "SFT, 2 steps, not finished" in check(html).text


def test_the_answers_of_predict_are_shown_too(tmp_path):
    write_rows(tmp_path / "predictions.jsonl", TUNED)
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS["tuned"]))
    html = run_page(read_run(tmp_path))
    check(html)
    assert sections(html) == ["Results", "Samples"] and "<th>predictions</th>" in html
    assert re.findall(r"<h3>(.*?)</h3>", html) == ["Worst"]


@pytest.mark.parametrize(
    "file", ["config.yaml", "environment.json", "metrics.json", "train_log.jsonl", "predictions.jsonl"]
)
@pytest.mark.parametrize(
    "content", ["", "{", "[1, 2]", "null\n", '{"a": [}\n{"step": "x", "loss": true}\n', "\x00\ud800"]
)
def test_no_broken_file_stops_the_page(tmp_path, file, content):
    folder = write_rl(tmp_path / "run")
    (folder / file).write_bytes(content.encode("utf-8", "surrogatepass"))
    check(run_page(read_run(folder)))


def test_odd_values_in_rows_stop_nothing_and_are_noted(tmp_path):
    folder = write_rl(tmp_path / "run")
    odd = [TUNED[0] | {"duration": None}, TUNED[0] | {"timestamp": "x"}, {"qid": "z"}, TUNED[0] | {"prediction": [[1]]}]
    fine = [TUNED[0] | {"prediction": [[float("nan"), 3.0]]}, TUNED[0] | {"prediction": None, "text": None, "qid": 3}]
    write_rows(folder / "predictions.jsonl", [*TUNED, *odd, *fine, TUNED[0] | {"sentence": "lone \ud800", "qid": "s"}])
    entries = [
        {"step": 1, "loss": float("nan"), "reward": float("inf"), "note": "text"},
        {"step": 10**400, "loss": 1.0},
    ]
    write_rows(folder / "train_log.jsonl", [*entries, {"step": 2, "reward": 0.5}, {"step": 3, "reward": 10**400}])
    write_rows(folder / "completions" / "step_000001.jsonl", [{"qid": "g", "reward": "much"}, row("h", None)])
    (folder / "completions" / "step_of_mine.jsonl").write_text("not ours")
    run = read_run(folder)
    assert run.notes == ("predictions.jsonl: rows left out for want of duration, timestamp or prediction: 4",)
    assert run.log == {"reward": {2: 0.5}} and len(run.tuned) == 7
    page = check(write_report(folder).read_text(encoding="utf-8"))
    assert run.notes[0] in page.text and "lone ?" in page.text


@pytest.mark.parametrize("missing", [True, False])
def test_a_folder_that_is_no_run_is_named(tmp_path, missing):
    (tmp_path / "empty").mkdir()
    folder, said = (
        (tmp_path / "none", "no such folder") if missing else (tmp_path / "empty", "is no run directory: it holds")
    )
    with pytest.raises(ConfigError, match=f"{folder}.*{said}"):
        write_report(folder)


def test_a_log_of_a_hundred_thousand_lines_is_read_fast_and_thinned(tmp_path):
    lines = (f'{{"step": {step}, "loss": {1000 / step}, "reward": {step % 7}}}' for step in range(1, 100_001))
    (tmp_path / "train_log.jsonl").write_text("\n".join(lines) + "\n")
    began_s = time.thread_time()
    html = run_page(read_run(tmp_path))
    assert time.thread_time() - began_s < 20
    assert len(html) < 300_000
    assert "100,000 steps" in html
    drawn = re.findall(r'<polyline points="(.*?)"', html)
    assert [len(points.split()) for points in drawn] == [MAX_POINTS, MAX_POINTS]
    assert len(re.findall("<polygon", html)) == 2  # the band from the least to the most


def points(shape: str) -> NDArray[np.float64]:
    """SVG's `points` as an array (P, 2)."""
    return np.array([[float(part) for part in point.split(",")] for point in shape.split()])


def drawn(plot: Plot | None) -> Plot:
    assert plot is not None
    return plot


def test_a_downsampled_line_is_the_mean_of_its_stretches():
    values = {step: float(step % 2) for step in range(1, 2 * MAX_POINTS + 1)}
    plot = drawn(line_chart([Series("x", values, "#000")]))
    assert len(set(points(plot.lines[0].points)[:, 1])) == 1
    assert len(plot.strips) == MAX_POINTS and {strip.tip.splitlines()[1] for strip in plot.strips} == {"x: 0.5"}


@pytest.mark.parametrize(
    "values", [{1: 0.0}, {1: 3.0, 2: 3.0}, {5: -1e-9, 6: 1e-9}, {1: 1e12, 2: -1e12}, {0: 1e300, 1: 0.0}]
)
def test_every_line_has_axes_around_it(values):
    plot = drawn(line_chart([Series("x", values, "#000")]))
    x, y = points(plot.lines[0].points).T
    assert ((x >= FRAME.left) & (x <= FRAME.right) & (y >= FRAME.top) & (y <= FRAME.bottom)).all()
    assert len(plot.lines[0].dots) == len(values)
    labels = [tick.label for tick in plot.y_ticks]
    assert len(labels) >= 2 and len(set(labels)) == len(labels)


def test_a_chart_without_values_is_left_out():
    assert line_chart([]) is line_chart([Series("x", {}, "#000")]) is stacked_chart([("low", {})], ["#111"]) is None


def test_stacked_shares_fill_the_frame_and_a_histogram_counts_samples():
    plot = drawn(stacked_chart([("low", {1: 0.25, 2: 0.5}), ("high", {1: 0.75, 2: 0.5})], ["#111", "#222"]))
    outlines = [points(area.points) for area in plot.areas]
    assert outlines[0][:, 1].max() == FRAME.bottom and outlines[1][:, 1].min() == FRAME.top
    assert plot.strips[0].tip == "step 1\nhigh: 75.0 %\nlow: 25.0 %"
    bars = histogram([("tuned", np.array([0.0, 0.05, 1.0, 0.55]), "#111")]).bars
    assert bars[0].tip == "IoU 0.0 to 0.1\ntuned: 2 (50.0 %)" and bars[9].tip == "IoU 0.9 to 1.0\ntuned: 1 (25.0 %)"
    assert bars[0].height == pytest.approx(2 * bars[9].height) and bars[1].height == 0


def test_runs_are_compared_side_by_side_and_each_keeps_its_color(tmp_path):
    runs = [read_run(write_sft(tmp_path / "one")), read_run(write_rl(tmp_path / EVIL.replace("/", "")))]
    html = comparison_page(runs)
    check(html)
    assert sections(html) == ["Results", "Training", "Reward hacking", "What differs"]
    results = html[html.index("<h2>Results") : html.index("<h2>Training")]
    assert results.count("<tr>") == 3 and "different samples" not in results
    losses = html[html.index("<b>Loss</b>") : html.index("<b>Reward</b>")]
    assert losses.count("<polyline") == 2 and "#1f77b4" in losses and "#f0932b" in losses
    reward = html[html.index("<b>Reward</b>") : html.index("<b>Parts of the reward: format</b>")]
    assert reward.count("<polyline") == 1 and "#1f77b4" not in reward and "#f0932b" in reward


def test_runs_of_other_samples_are_not_ranked(tmp_path):
    write_rows(write_sft(tmp_path / "two") / "predictions.jsonl", TUNED[:2])
    html = comparison_page([read_run(write_sft(tmp_path / "one")), read_run(tmp_path / "two")])
    assert "The runs were tested on different samples" in html and 'class="best"' not in html


def test_what_differs_is_found_in_settings_versions_commit_data_and_samples(tmp_path):
    a, b = write_sft(tmp_path / "a"), write_sft(tmp_path / "b", rate=0.01)
    for folder, text in ((a, "1\n2\n"), (b, "1\n3\n4\n")):
        rows = tmp_path / f"{folder.name}.jsonl"
        rows.write_text(text)
        settings = json.loads((folder / "config.yaml").read_text())
        (folder / "config.yaml").write_text(json.dumps(settings | {"data": {"annotation_file": str(rows)}, "seed": 1}))
    (b / "environment.json").write_text(
        json.dumps({"packages": {"vtg": "0.1.0"}, "git_commit": "f" * 40, "python": "3.11.7"})
    )
    write_rows(b / "predictions.jsonl", TUNED[:3])
    runs = read_run(a), read_run(b)
    found = differences(*runs)
    assert list(found["config"]) == ["run_name", "trainer.learning_rate", "data.annotation_file"]
    assert found["config"]["trainer.learning_rate"] == (0.001, 0.01)
    assert found["packages"] == {"torch": ("2.15.0", "(absent)")}
    assert found["commit"]["git_commit"] == ("52b7f46e54536446", "f" * 40)
    assert [text.split(",")[0] for text in found["data"]["annotation_file"]] == ["2 lines", "3 lines"]
    assert found["samples"] == {"tested": ("4 samples, 1 of them here alone", "3 samples, 0 of them here alone")}
    lines = difference_lines(*runs, found)
    assert "  trainer.learning_rate  0.001  →  0.01" in lines and lines[-1] == "the same: machine"
    same = differences(runs[0], runs[0])
    assert not any(same.values())
    assert difference_lines(runs[0], runs[0], same)[-1] == "the same: config, packages, commit, machine, data, samples"


def test_timelines_show_every_moment_of_a_set_and_that_there_is_none(tmp_path):
    folder = write_sft(tmp_path / "sets")
    several = {"timestamp": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], "prediction": [[1.0, 2.0], [5.0, 6.0]]}
    right = {"timestamp": [], "prediction": [], "status": "none", "text": NONE}
    rows = [row("s", [5.0, 10.0]) | several, row("n", None) | right, row("f", [5.0, 10.0]) | {"timestamp": []}]
    write_rows(folder / "predictions.jsonl", rows)
    run = read_run(folder)
    assert not run.notes
    films = FilmStrips(run.config, page_folder=tmp_path)
    timelines = {one.source[-1]: one for group in sample_groups(run, films) for one in group.timelines}
    bars = {qid: [len(lane.bars) for lane in one.lanes] for qid, one in timelines.items()}
    assert bars == {"s": [3, 2], "n": [0, 0], "f": [0, 1]}
    assert [lane.note for lane in timelines["n"].lanes] == [NONE, NONE]
    assert [lane.note for lane in timelines["f"].lanes] == [NONE, ""]
    assert (timelines["n"].lanes[1].cells, timelines["n"].lanes[1].text) == (("1.00",), NONE)
    assert run_page(run).count(f">{NONE}</b>") == 3
    assert "Without a moment" in [group.title for group in sample_groups(run, films)]


def test_a_noisy_curve_is_drawn_faint_under_its_running_mean():
    noisy = {step: float(step % 2) for step in range(100)}
    raw, mean = drawn(line_chart([Series("x", noisy, "#000")])).lines
    assert raw.is_faint and not mean.is_faint
    heights = points(raw.points)[:, 1]
    assert np.ptp(points(mean.points)[:, 1]) < 0.2 * np.ptp(heights)
    # What is smooth, or short, stays as it is.
    for calm in ({step: float(step) for step in range(100)}, {step: float(step % 2) for step in range(10)}):
        assert [line.is_faint for line in drawn(line_chart([Series("x", calm, "#000")])).lines] == [False]


def test_the_sources_of_a_mixture_are_shown_as_wanted_and_as_drawn(tmp_path):
    folder = write_sft(tmp_path / "mixed")
    source = {"rows": 30, "wanted": 0.75, "samples": 46, "tokens": 8100, "drawn": 0.7077}
    compared = {"base": ["mIoU", 53.29], "tuned": ["mIoU", 55.0]}
    sources = [{"name": EVIL, **source, "compared": compared}, {"name": "gym", **source, "compared": {}}]
    (folder / "mixture.json").write_text(json.dumps({"epoch_samples": 75, "sources": sources}))
    page = run_page(read_run(folder), frames=False)
    assert EVIL not in page
    cells = ["75.00 %", "70.77 %", "46", "8,100", "mIoU 53.3", "mIoU 55.0"]
    assert "".join(f"<td>{cell}</td>" for cell in cells) in page
    (folder / "mixture.json").write_text(json.dumps({"sources": [{"name": "x"}]}))
    assert read_run(folder).notes == ("mixture.json: is not what train_sft.py writes",)
