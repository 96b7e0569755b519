"""Values of a command line that Hydra's grammar would refuse reach the settings as they were typed."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from vtg.config.programs import PredictConfig
from vtg.config.quoting import quoted
from vtg.entry import compose_settings
from vtg.errors import ConfigError


def read(word: str) -> object:
    return OverridesParser.create().parse_override(word).value()


@given(st.text(st.characters(exclude_characters="=,(){}[]'\"\\$:\n\r", exclude_categories=("C", "Z")), min_size=1))
def test_a_text_of_any_letters_is_read_as_it_is(text):
    word = quoted(f"run_name=a{text}")
    assert str(read(word)) == f"a{text}"


@pytest.mark.parametrize(
    ("value", "read_as"),
    [
        ("/data/Vidéos ü/été #2", "/data/Vidéos ü/été #2"),
        ("l'été", "l'été"),
        ("/data/été (2)/lora.r=4", "/data/été (2)/lora.r=4"),
        ("a dir(1)", "a dir(1)"),
        ("${data.root}/ä", "${data.root}/ä"),
        ("['ä, b',ç, d]", ["ä, b", "ç", "d"]),
        ("{a: ä b, c: 1}", {"a": "ä b", "c": 1}),
        ("[${data.root}/ä,1]", ["${data.root}/ä", 1]),
        ("${data.root}", "${data.root}"),
        ("[1,2.5,true,null]", [1, 2.5, True, None]),
        ("'ä'", "ä"),
    ],
)
def test_elements_are_quoted_where_they_must_be(value, read_as):
    assert read(quoted(f"key={value}")) == read_as


def test_a_sweep_stays_one():
    assert quoted("run_name=ä,b") == 'run_name="ä",b'
    assert quoted("run_name=a,b") == "run_name=a,b"
    assert quoted("seed=choice(1,2)") == "seed=choice(1,2)"


def test_what_is_there_is_a_name_whatever_it_is_made_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert quoted("data.video_dir=a (1), ä=b") == 'data.video_dir=a (1), "ä=b"'
    (tmp_path / "a (1), ä=b").mkdir()
    assert quoted("data.video_dir=a (1), ä=b") == 'data.video_dir="a (1), ä=b"'


def test_texts_have_the_name_of_the_key_that_holds_them():
    assert quoted("video=a, b.mp4", text_keys=("video",)) == 'video_file="a, b.mp4"'
    assert quoted("--config-dir=ä") == "--config-dir=ä" and quoted("ä") == "ä"


def test_settings_that_still_cannot_be_read_say_how_to_quote_them():
    settings = compose_settings("predict", ["checkpoint=/läuf/été"], PredictConfig)
    assert settings.checkpoint == "/läuf/été"
    with pytest.raises(ConfigError, match=r"""^data\.video_dir=a, b\(1\): cannot.*"data.video_dir='a, b\(1\)'"$"""):
        compose_settings("predict", ["data.video_dir=a, b(1)"], PredictConfig)
    with pytest.raises(ConfigError, match=r"^=3: names no key"):
        compose_settings("predict", ["=3"], PredictConfig)
