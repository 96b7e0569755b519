"""The sources of a mixture: filled in from the data sets they name, and refused where they cannot be mixed."""

import json
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from vtg.config.data_rules import check_data
from vtg.config.data_settings import DataConfig, SourceConfig
from vtg.config.load import load_config
from vtg.config.schema import RLConfig, SFTConfig
from vtg.entry import conf_dir
from vtg.errors import ConfigError


def sft(*words: str, schema: type = SFTConfig, name: str = "sft") -> Any:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return load_config(compose(name, overrides=["data=mixture", *words]), schema)


@pytest.fixture
def rows(tmp_path: Path) -> str:
    row = {"video": "a.mp4", "duration": 30.0, "timestamp": [2.0, 5.5], "sentence": "a man sits down"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    return str(tmp_path / "rows.jsonl")


def test_a_source_has_the_settings_of_its_preset_and_what_stands_beside_wins():
    words = ["+data.sources.gym.video_dir=here", "data.sources.gym.weight=3", "task.moments=set"]
    sources = sft(*words, "++data.sources.gym.gym.train_videos=5").data.sources
    gym = sources["gym"]
    assert gym.annotation_file == "here/train_set.jsonl"  # of this folder, and of these questions, as if chosen alone
    assert (gym.weight, gym.gym.train_videos, gym.gym.longest_s) == (3.0, 5, 80.0)
    assert sources["demo"].val_file == "outputs/demo_data/val.jsonl"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["+data.sources.gym.wieght=2"], "data.sources.gym.wieght: there is no such key; did you mean data.s"),
        (["+data.sources.x.preset=gmy"], "data.sources.x.preset = 'gmy': there is no such data set; did you mean gym?"),
        (["+data.sources.x.preset=mixture"], "data.sources.x.preset = 'mixture': is a mixture itself"),
        (["+data.sources.x.preset=tacos"], "data.sources.x.root is not set; give the folder of the published files"),
        (["+data.sources.x.weight=1"], "data.sources.x.annotation_file is not set"),
        (["+data.sources.x.annotation_file=no.jsonl"], "data.sources.x.annotation_file = 'no.jsonl': no such file"),
        (
            ["+data.sources.x.weight=1", "+data.sources.y.preset=molmo2", "+data.sources.y.root=nowhere"],
            "2 of 4 sources cannot be read:\n  data.sources.x.annotation_file is not set; give the path of a JSONL "
            "file of annotation rows\n  data.sources.y.root = 'nowhere': no such folder",
        ),
        (["data.sources.gym.weight=-1"], "data.sources.gym.weight = -1.0: must be a number, 0 or more"),
        (["data.sources.gym.weight=nan"], "data.sources.gym.weight = nan: must be a number, 0 or more"),
        (["data.sources.gym.weight=0", "data.sources.demo.weight=0"], "the weights of demo, gym sum to nothing"),
        (["+data.sources.x.preset=demo"], "data.sources.demo and data.sources.x are the same source twice"),
        (["data.val_share=0.1"], "data.val_share = 0.1 and data.sources (demo, gym) are both set"),
        (["data.index_file=x"], "data.index_file = 'x': a mixture reads the headers"),
        (["data.epoch_source=x"], "data.epoch_source = 'x': must be a source with a weight: demo, gym"),
        (["data.epoch_samples=-1"], "data.epoch_samples = -1: must be 0 (all) or more"),
        (["data.epoch_samples=9", "data.epoch_source=gym"], "are both set; keep one"),
        (["+data.sources.gym.group=a"], "data.sources.gym.group = 'a': data.groups does not say its part"),
        (["+data.groups.a=1"], "data.groups.a: no source is in it"),
        (["+data.groups.a=1", "+data.sources.gym.group=a"], "data.sources.demo: is in no group"),
        (["batching.share_video=true"], "batching.share_video = true: the rows of one clip are drawn together"),
        (["batching=tokens", "batching.drop_last=true"], "batching.drop_last = true with batching.by = 'tokens'"),
    ],
)
def test_what_cannot_be_mixed_is_named_before_anything_loads(words, says):
    with pytest.raises(ConfigError) as error:
        sft(*words)
    assert says in str(error.value)


def test_settings_of_a_mixture_are_refused_where_there_is_none(rows):
    with pytest.raises(ConfigError, match=r"data\.weights = 'sqrt': is of a mixture, and data\.sources names none"):
        check_data(DataConfig(annotation_file=rows, weights="sqrt"))
    with pytest.raises(ConfigError, match="is no name for a source"):
        check_data(DataConfig(sources={"a/b": SourceConfig(annotation_file=rows)}))
    with pytest.raises(
        ConfigError, match=r"curriculum\.zero_variance = 'resample' with data\.sources: prompts of other"
    ):
        sft("curriculum.zero_variance=resample", name="rl", schema=RLConfig)


def test_a_global_size_sets_the_accumulation_of_fixed_batches_exactly_or_is_refused(monkeypatch):
    words = ["batching=fixed", "trainer.per_device_train_batch_size=4"]
    assert sft(*words, "batching.global_size=32").trainer["gradient_accumulation_steps"] == 8
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert sft(*words, "batching.global_size=32").trainer["gradient_accumulation_steps"] == 4
    with pytest.raises(ConfigError, match=r"batches of 4 .* on 2 processes do not add up to it; set 24 or 32"):
        sft(*words, "batching.global_size=30")
    with pytest.raises(ConfigError, match="a file is read before batches are planned; set deepspeed=zero2"):
        sft("batching=tokens", "batching.global_size=32", "deepspeed.file=mine.json")
