import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from vtg.annotations.target import Unlabelled
from vtg.config.data_settings import BatchingConfig, DataConfig
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.data.encoding import IGNORE_INDEX
from vtg.data.grounding_dataset import GroundingDataset, make_provider
from vtg.data.skip_report import Skipped, SkipReport, TooManyBadRows
from vtg.data.splits import part_by_video, read_split, read_splits
from vtg.data.training_collator import TrainingCollator
from vtg.errors import ConfigError
from vtg.storage.json_files import read_jsonl
from vtg.tasks.span_task import SpanTask

VIDEO = VideoConfig(min_pixels=4096, max_pixels=4096)


@pytest.fixture
def report(tmp_path: Path) -> SkipReport:
    return SkipReport(tmp_path / "run" / "skipped.jsonl", max_bad_share=0.5)


@pytest.fixture
def samples(demo_dir: Path, report: SkipReport) -> list:
    return read_split(str(demo_dir / "train.jsonl"), video_dir=str(demo_dir), report=report)


@pytest.fixture
def broken_mp4(tmp_path: Path) -> str:
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"no video at all")
    return str(path)


def dataset_of(samples: list, qwen3_vl, demo_dir: Path, **chosen) -> GroundingDataset:
    options = {
        "task": SpanTask(TaskConfig(selection="random")),
        "processor": qwen3_vl.processor,
        "provider": make_provider(VIDEO, qwen3_vl.processor),
        "video_dir": str(demo_dir),
        "max_length": 4096,
        "tokens_per_second": 2.0,
        "training": True,
    }
    return GroundingDataset(samples, **(options | chosen))


def write_rows(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_training_item_carries_the_answer_and_another_item_the_bare_prompt(qwen3_vl, demo_dir, samples):
    for training in (True, False):
        dataset = dataset_of(samples, qwen3_vl, demo_dir, training=training)
        item = dataset[0]
        assert item.skipped is None and len(dataset) == len(samples)
        text = qwen3_vl.processor.tokenizer.decode(item.features["input_ids"])
        answer = SpanTask(TaskConfig()).encode(samples[0].spans, duration_s=samples[0].duration_s)
        assert text.strip().endswith(f"{answer}<|im_end|>" if training else "<|im_start|>assistant")


@pytest.mark.parametrize("fault", ["video", "sample"])
def test_a_sample_that_cannot_be_used_is_replaced_without_labels_and_told(
    qwen3_vl, demo_dir, samples, broken_mp4, fault
):
    bad = {
        "video": replace(samples[0], video=broken_mp4),
        "sample": replace(samples[0], query="... "),
    }[fault]
    dataset = dataset_of([bad, bad, *samples[2:]], qwen3_vl, demo_dir)
    item, stands_in = dataset[0], dataset[2]
    assert (item.features["labels"] == IGNORE_INDEX).all()
    for key in ("input_ids", "pixel_values_videos", "position_ids"):
        assert torch.equal(item.features[key], stands_in.features[key])
    assert (stands_in.features["labels"] != IGNORE_INDEX).any()
    skipped = item.skipped
    assert (skipped.place, skipped.qid, skipped.video) == (bad.place, bad.qid, bad.video)
    assert skipped.reason.startswith(f"{fault}: ")
    assert (broken_mp4 if fault == "video" else "is empty") in skipped.reason
    batch = TrainingCollator(0, BatchingConfig())([item, stands_in])
    assert batch["skipped"] == [skipped]
    assert (batch["labels"][0] == IGNORE_INDEX).all() and (batch["labels"][1] != IGNORE_INDEX).any()


def test_an_unlabelled_sample_is_asked_but_never_trained_on(qwen3_vl, demo_dir, samples):
    unlabelled = replace(samples[0], target=Unlabelled())
    skipped = dataset_of([unlabelled, *samples[1:]], qwen3_vl, demo_dir)[0].skipped
    assert skipped.place == unlabelled.place
    assert skipped.reason.endswith("timestamp: is missing, so it cannot be trained on; annotate it")
    assert dataset_of([unlabelled], qwen3_vl, demo_dir, training=False)[0].skipped is None


def test_a_stand_in_has_no_labels_and_a_batch_is_counted(qwen3_vl, demo_dir, samples):
    dataset = dataset_of(samples, qwen3_vl, demo_dir)
    items = [dataset[0], dataset[~1]]
    real = dataset[1].features
    assert torch.equal(items[1].features["input_ids"], real["input_ids"])
    assert (items[1].features["labels"] == IGNORE_INDEX).all() and (real["labels"] != IGNORE_INDEX).any()
    lengths = [len(item.features["input_ids"]) for item in items]
    for batching, slots in ((BatchingConfig(), 2 * max(lengths)), (BatchingConfig(packing=True), sum(lengths))):
        counts = TrainingCollator(0, batching)(items)["counts"]
        assert [counts[name] for name in ("samples", "batches", "tokens", "slots")] == [1, 1, sum(lengths), slots]
        assert pin_memory({"counts": counts}) == {"counts": counts}  # as the loader hands it on where there is a GPU
        assert TrainingCollator(0, batching)(items[1:])["counts"]["samples"] == 0


def test_what_replaces_a_sample_is_no_longer_if_there_is_any(qwen3_vl, demo_dir, samples, broken_mp4):
    order = sorted(samples, key=lambda sample: -sample.duration_s)
    assert order[0].duration_s > order[-1].duration_s
    dataset = dataset_of([replace(order[-1], video=broken_mp4), *order], qwen3_vl, demo_dir)
    fits = next(at for at, one in enumerate(order) if one.duration_s <= order[-1].duration_s)
    assert torch.equal(dataset[0].features["input_ids"], dataset[1 + fits].features["input_ids"])
    alone = dataset_of([replace(order[-1], video=broken_mp4), order[0]], qwen3_vl, demo_dir)
    assert torch.equal(alone[0].features["input_ids"], alone[1].features["input_ids"])


def test_the_last_sample_is_replaced_by_the_first(qwen3_vl, demo_dir, samples, broken_mp4):
    dataset = dataset_of([*samples[:2], replace(samples[2], video=broken_mp4)], qwen3_vl, demo_dir)
    assert torch.equal(dataset[2].features["input_ids"], dataset[0].features["input_ids"])


def test_where_no_sample_can_be_used_the_first_reason_is_told(qwen3_vl, demo_dir, samples):
    dataset = dataset_of(samples, qwen3_vl, demo_dir, max_length=10)
    with pytest.raises(
        TooManyBadRows, match=rf"not one of {len(samples)} samples can be used; the first: .*train.jsonl:1.*tokens"
    ):
        dataset[0]


def test_prompts_are_redrawn_each_epoch_and_are_the_same_in_a_worker(qwen3_vl, demo_dir, samples):
    dataset = dataset_of(samples, qwen3_vl, demo_dir)
    assert torch.equal(dataset[0].features["input_ids"], dataset[0].features["input_ids"])
    worker = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(worker[0].features["input_ids"], dataset[0].features["input_ids"])
    prompts = set()
    for epoch in range(6):
        dataset.set_epoch(epoch)
        prompts.add(tuple(dataset[0].features["input_ids"].tolist()))
    assert len(prompts) > 1


def test_random_frames_are_redrawn_each_epoch_in_training_alone(qwen3_vl, demo_dir, samples):
    provider = make_provider(replace(VIDEO, sampling="random", max_frames=4), qwen3_vl.processor)
    for training, kinds in ((True, 4), (False, 1)):
        dataset = dataset_of(samples, qwen3_vl, demo_dir, provider=provider, training=training)
        times = set()
        for epoch in range(4):
            dataset.set_epoch(epoch)
            times.add(tuple(dataset.clip(samples[0]).timestamps_s))
        assert len(times) == kinds


def test_the_control_shows_another_clip_with_the_same_question(qwen3_vl, demo_dir, samples):
    dataset = dataset_of(samples, qwen3_vl, demo_dir, training=False)
    other = next(sample for sample in samples if sample.video != samples[0].video)
    own, shown = dataset.features(samples[0]), dataset.features(samples[0], dataset.clip(other))
    assert torch.equal(shown["pixel_values_videos"], dataset.features(other)["pixel_values_videos"])
    question = qwen3_vl.processor.tokenizer.decode
    assert (
        question(own["input_ids"]).rpartition("<|vision_end|>")[2]
        == question(shown["input_ids"]).rpartition("<|vision_end|>")[2]
    )


def test_the_report_counts_each_place_once_and_writes_it_down(report):
    report.expect(10)
    first, second = Skipped("a.jsonl:1", "video: gone", "q1", "é.mp4"), Skipped("a.jsonl:2", "sentence: empty")
    report.add([first])
    report.add([first, second])
    report.add([])
    lines = [json.loads(line) for line in report.path.read_text(encoding="utf-8").splitlines()]
    assert lines == [
        {"place": "a.jsonl:1", "reason": "video: gone", "qid": "q1", "video": "é.mp4"},
        {"place": "a.jsonl:2", "reason": "sentence: empty", "qid": None, "video": None},
    ]
    assert [entry.place for entry in report.skipped.values()] == ["a.jsonl:1", "a.jsonl:2"]


def test_the_report_stops_a_run_past_the_share_and_lists_what_was_left_out(report):
    report.expect(50)
    report.add([Skipped(f"a.jsonl:{line}", "video: gone") for line in range(1, 26)])
    with pytest.raises(TooManyBadRows) as error:
        report.add([Skipped("a.jsonl:40", "video: gone")])
    text = str(error.value)
    assert text.startswith(
        "26 of 50 rows cannot be used, more than data.max_bad_share = 0.5:\n  a.jsonl:1: video: gone\n"
    )
    assert f"and 6 more in {report.path}" in text and "a.jsonl:20:" in text and "a.jsonl:21:" not in text
    assert "python -m vtg.validate" in text and "raise data.max_bad_share" in text
    assert len(report.path.read_text().splitlines()) == 26


def test_bad_rows_and_missing_files_are_left_out_and_reported(demo_dir, report, tmp_path):
    good = json.loads((demo_dir / "train.jsonl").read_text().splitlines()[0])
    rows = [good, good | {"video": "gone.mp4", "qid": "q"}, good, good | {"duration": -1}, good]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    found = read_split(path, video_dir=str(demo_dir), report=report)
    assert [sample.place for sample in found] == [f"{path}:{line}" for line in (1, 3, 5)]
    gone, negative = report.skipped.values()
    assert gone == Skipped(f"{path}:2", f"video: no such file: {demo_dir / 'gone.mp4'}", "q", "gone.mp4")
    assert negative.place == f"{path}:4" and negative.reason.startswith("duration: ")
    assert report.total == 5


def test_too_many_missing_files_stop_before_training(demo_dir, report, tmp_path):
    good = json.loads((demo_dir / "train.jsonl").read_text().splitlines()[0])
    path = write_rows(tmp_path / "rows.jsonl", [good, good | {"video": "b.mp4"}, good | {"video": "c.mp4"}])
    with pytest.raises(TooManyBadRows, match=r"2 of 3 rows cannot be used(?s:.*)no such file: .*b\.mp4(?s:.*)c\.mp4"):
        read_split(path, video_dir=str(demo_dir), report=report)


@pytest.mark.parametrize("text", ["", "\n", "nonsense\n", '{"video": "a.mp4"}\n'])
def test_a_file_without_a_usable_row_says_so(report, tmp_path, text):
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(
        ConfigError, match=r"rows\.jsonl: no usable row among 1 \(.*rows\.jsonl:1: .*python -m vtg\.validate"
    ):
        read_split(str(path), video_dir=None, report=report)


@pytest.mark.parametrize(
    ("video_dir", "remedy"),
    [
        (None, "set data.video_dir to the folder of the videos, or"),
        ("elsewhere", "check data.video_dir = 'elsewhere', or"),
    ],
)
def test_good_rows_without_any_video_point_at_the_folder_of_the_videos(report, tmp_path, video_dir, remedy):
    row = {"video": "a.mp4", "duration": 9.0, "timestamp": [1.0, 2.0], "sentence": "a man sits down"}
    with pytest.raises(ConfigError, match=f"no such file: .*a.mp4.; {remedy} check the file"):
        read_split(write_rows(tmp_path / "rows.jsonl", [row]), video_dir=video_dir, report=report)


@pytest.mark.parametrize("bad", [{"video": "gone.mp4"}, {"timestamp": [7, 3]}])
def test_bad_rows_of_one_line_are_counted_one_by_one(demo_dir, tmp_path, bad):
    good = json.loads((demo_dir / "train.jsonl").read_text().splitlines()[0])
    good.pop("qid", None)
    path = tmp_path / "compact.json"
    path.write_text(json.dumps([good | bad, good] * 5))
    report = SkipReport(tmp_path / "skipped.jsonl", max_bad_share=0.5)
    assert len(read_split(str(path), video_dir=str(demo_dir), report=report)) == 5
    places = [f"{path}:1", *(f"{path}:1[{at}]" for at in (3, 5, 7, 9))]
    assert [entry.place for entry in report.skipped.values()] == places
    with pytest.raises(TooManyBadRows, match="5 of 10 rows cannot be used"):
        read_split(str(path), video_dir=str(demo_dir), report=SkipReport(tmp_path / "again.jsonl", max_bad_share=0.4))


def test_dropped_rows_of_a_published_file_on_one_line_are_counted_one_by_one(demo_dir, tmp_path):
    row = json.loads((demo_dir / "train.jsonl").read_text().splitlines()[0])
    video = {"duration": row["duration"], "timestamps": [[0, 1], [2, 1], [1, 2], [3, 1]], "sentences": list("abcd")}
    path = tmp_path / "val_1.json"
    path.write_text(json.dumps({Path(row["video"]).stem: video, "other": video}))
    report = SkipReport(tmp_path / "skipped.jsonl", max_bad_share=1.0)
    table = read_split(f"activitynet_captions:{path}", video_dir=str(demo_dir / "videos"), report=report)
    assert [one.qid for one in table] == ["val_1:1", "val_1:3"]
    assert sorted(entry.place for entry in report.skipped.values()) == [f"{path}:1[{at}]" for at in (2, 4, 5, 6, 7, 8)]


def test_rows_without_a_moment_need_a_task_that_asks_for_sets(demo_dir, report, tmp_path):
    good = json.loads((demo_dir / "train.jsonl").read_text().splitlines()[0])
    none = good | {"timestamp": [], "qid": "n"}
    path = write_rows(tmp_path / "rows.jsonl", [good, none, good | {"timestamp": [[0, 1], [2, 3]]}])
    sets = read_split(path, video_dir=str(demo_dir), report=report, takes_sets=True)
    assert sets.moments().tolist() == [1, 0, 2] and not report.skipped
    one = read_split(path, video_dir=str(demo_dir), report=report, takes_sets=False)
    assert one.moments().tolist() == [1, 2]
    (entry,) = report.skipped.values()
    assert (entry.place, entry.qid) == (f"{path}:2", "n")
    assert "timestamp: [] says that there is no moment" in entry.reason and "set task.moments=set" in entry.reason
    many = write_rows(tmp_path / "many.jsonl", [good, none, none])
    with pytest.raises(ConfigError) as caught:
        read_splits(data_config(demo_dir, test_file=many), seed=0, report=report, takes_sets=False)
    assert str(caught.value) == (
        f"{many}:2: timestamp: [] says that there is no moment, for which task.moments = 'one' has no answer; set "
        "task.moments=set, or drop the row (2 of 3 rows have no moment)"
    )


def data_config(demo_dir: Path, **chosen) -> DataConfig:
    return DataConfig(annotation_file=str(demo_dir / "train.jsonl"), video_dir=str(demo_dir), **chosen)


def test_splits_are_the_files_that_are_named(demo_dir, report):
    config = data_config(demo_dir, val_file=str(demo_dir / "val.jsonl"), test_file=str(demo_dir / "test.jsonl"))
    splits = read_splits(config, seed=0, report=report)
    assert {sample.qid.partition("_")[0] for sample in splits.train} == {"train"}
    assert {sample.qid.partition("_")[0] for sample in splits.val} == {"val"}
    assert {sample.qid.partition("_")[0] for sample in splits.test} == {"test"}
    limited = read_splits(replace(config, max_samples=2), seed=0, report=report)
    assert limited.train == splits.train[:2] and limited.test == splits.test


def test_val_share_holds_out_whole_videos_and_they_are_the_test_rows_too(demo_dir, report):
    splits = read_splits(data_config(demo_dir, val_share=0.4), seed=0, report=report)
    held = {sample.video for sample in splits.val}
    assert len(held) == 1 and not held & {sample.video for sample in splits.train}
    assert splits.test == splits.val
    every = read_splits(data_config(demo_dir), seed=0, report=report)
    assert len(splits.train) + len(splits.val) == len(every.train)
    assert every.val == every.test == []
    assert splits == read_splits(data_config(demo_dir, val_share=0.4), seed=0, report=report)


def test_the_seed_draws_the_videos_held_out(samples):
    many = [replace(samples[0], video=f"{number}.mp4") for number in range(30)]
    held = {tuple(sample.video for sample in part_by_video(many, share=0.1, seed=seed)[1]) for seed in range(5)}
    assert len(held) == 5 and {len(videos) for videos in held} == {3}


def test_one_video_alone_cannot_be_parted(samples):
    one = [sample for sample in samples if sample.video == samples[0].video]
    with pytest.raises(ConfigError, match=r"data\.val_share = 0\.2: there is only one video \(videos/train_000\.mp4\)"):
        part_by_video(one, share=0.2, seed=0)


def test_one_file_for_everything_is_read_once_and_warned_about(demo_dir, report, caplog):
    path = str(demo_dir / "train.jsonl")
    splits = read_splits(data_config(demo_dir, val_file=path, test_file=path), seed=0, report=report)
    assert splits.train == splits.val == splits.test and report.total == len(splits.train)
    assert "the validation rows are the training rows" in caplog.text and "the test rows are" in caplog.text


def test_rows_with_other_line_ends_in_their_texts_are_read_left_out_and_remembered(tmp_path, demo_dir):
    """U+2028 and its like stand in JSON strings as they are, and part lines for `str.splitlines`."""
    odd = "a\u2028b\u2029c\x85d"
    row = json.loads((demo_dir / "train.jsonl").read_text().split("\n")[0])
    good = row | {"sentence": odd, "qid": f"{odd} 1"}
    gone = row | {"video": f"{odd}.mp4", "qid": f"{odd} 2"}
    rows = tmp_path / f"{odd}.jsonl"
    rows.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in (good, gone)), encoding="utf-8")
    path = tmp_path / "skipped.jsonl"
    for resumes in (False, True, True):
        report = SkipReport(path, max_bad_share=0.5, resumes=resumes)
        samples = read_split(str(rows), video_dir=str(demo_dir), report=report)
        assert [(sample.query, sample.qid) for sample in samples] == [(odd, f"{odd} 1")]
        (entry,) = read_jsonl(path)
        assert (entry["qid"], entry["video"], entry["place"]) == (f"{odd} 2", f"{odd}.mp4", f"{rows}:2")


def test_what_a_run_left_out_before_it_went_on_stays_in_its_report(tmp_path):
    path = tmp_path / "skipped.jsonl"
    first = SkipReport(path, max_bad_share=0.5)
    first.expect(10)
    first.add([Skipped("rows.jsonl:3", "broken"), Skipped("rows.jsonl:5", "broken")])
    path.write_text(path.read_text() + '{"place": "rows.jsonl:7", "rea')  # killed in the middle of a line
    again = SkipReport(path, max_bad_share=0.5, resumes=True)
    again.expect(10)
    again.add([Skipped("rows.jsonl:5", "broken"), Skipped("rows.jsonl:8", "broken")])
    assert [json.loads(line)["place"] for line in path.read_text().splitlines()] == [
        "rows.jsonl:3",
        "rows.jsonl:5",
        "rows.jsonl:8",
    ]
    assert len(again.skipped) == 2  # it counts what it met itself
    joined = SkipReport(path, max_bad_share=0.5, resumes=True, is_begun=True)
    joined.expect(10)
    again.add([Skipped("rows.jsonl:1", "broken"), Skipped("rows.jsonl:2", "too long", bad=False)])
    joined.add([Skipped("rows.jsonl:2", "too long", bad=False), Skipped("rows.jsonl:9", "broken")])
    assert [json.loads(line)["place"] for line in path.read_text().splitlines()[3:]] == [
        "rows.jsonl:1",
        "rows.jsonl:2",
        "rows.jsonl:9",
    ]
    assert sorted(place for place, _ in joined.skipped) == [
        "rows.jsonl:1",
        "rows.jsonl:9",
    ]  # what the other process met since, too
    joined.add([Skipped(f"rows.jsonl:{at}", "broken") for at in (11, 12, 13)])
    with pytest.raises(TooManyBadRows, match="8 of 10 rows"):
        again.add([Skipped("rows.jsonl:14", "broken")])
    assert SkipReport(path, max_bad_share=0.5).skipped == {} and path.read_text() == ""
