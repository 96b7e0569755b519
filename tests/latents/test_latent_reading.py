"""Latents of rows' clips: encoded once, then read from a folder that is of one encoder and that processes share."""

import multiprocessing
import pickle

import pytest
import torch

from vtg.config.clip_settings import ClipsConfig
from vtg.config.data_settings import DataConfig
from vtg.config.encoder_settings import EncoderConfig
from vtg.config.latent_rules import check_latents
from vtg.config.latents_schema import LatentsConfig
from vtg.errors import ConfigError
from vtg.latents.encoders import load_encoder
from vtg.latents.encoders.encoder import Encoder
from vtg.latents.latent_reading import LatentReader
from vtg.latents.latents import Latents
from vtg.video.video_window import VideoWindow

ASKED_S = (0.0, 1.0, 2.6)


@pytest.fixture(scope="module")
def window(write_mp4) -> VideoWindow:
    """3 s at 10 frames a second."""
    return VideoWindow(write_mp4([100 * k for k in range(30)]))


def reader_of(encoder: Encoder, **settings) -> LatentReader:
    return LatentReader(encoder, ClipsConfig(n_frames=4, seconds=1.0, **settings))


def same(one: Latents, other: Latents) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("values", "times_s", "observed"))


def test_clips_are_encoded_as_they_are_read_without_a_cache(qwen_tower, window):
    reader = reader_of(qwen_tower)
    plain = qwen_tower.encode([reader.clips.reader.clip(window, start_s=start_s) for start_s in ASKED_S])
    read = reader.read([(window, start_s) for start_s in ASKED_S])
    assert same(read, plain)
    assert read.observed.tolist() == [[True, True], [True, True], [True, False]]


def test_what_was_encoded_once_is_read_bit_for_bit_and_not_decoded_again(qwen_tower, window, tmp_path):
    asked = [(window, start_s) for start_s in ASKED_S]
    first = reader_of(qwen_tower, cache_dir=str(tmp_path))
    made = first.read(asked)
    assert first.clips.take_counts() == {"kept": 3}
    second = reader_of(qwen_tower, cache_dir=str(tmp_path), start="middle")
    assert all(second.clips.find(window, start_s=start_s).clip is None for start_s in ASKED_S)
    assert same(second.read(asked), made)
    assert second.clips.take_counts() == {"cached": 6}


def test_cached_and_new_clips_of_one_batch_keep_their_order(qwen_tower, window, tmp_path):
    plain = reader_of(qwen_tower).read([(window, start_s) for start_s in ASKED_S])
    reader = reader_of(qwen_tower, cache_dir=str(tmp_path))
    reader.read([(window, ASKED_S[1])])
    mixed = reader.read([(window, start_s) for start_s in ASKED_S])
    torch.testing.assert_close(mixed.values, plain.values)
    assert torch.equal(mixed.times_s, plain.times_s)


def test_the_folder_of_another_encoder_is_refused_in_one_line(qwen_tower, tmp_path):
    reader_of(qwen_tower, cache_dir=str(tmp_path))
    half = load_encoder(EncoderConfig(dtype="bfloat16"), device="cpu")
    with pytest.raises(ConfigError) as caught:
        reader_of(half, cache_dir=str(tmp_path))
    message = str(caught.value)
    assert f"holds latents of the encoder {qwen_tower.identity}, and this one is {half.identity}" in message
    assert "name another folder" in message and "\n" not in message


def test_an_encoder_that_is_trained_and_clips_at_random_have_no_cache(tmp_path):
    trained = load_encoder(EncoderConfig(trained=["merger"]), device="cpu")
    with pytest.raises(ConfigError, match=r"cache_dir is set, but 6 weights of .* trained \(such as merger"):
        reader_of(trained, cache_dir=str(tmp_path))
    with pytest.raises(ConfigError, match=r"cache_dir is set, but clips\.start = 'random' draws other clips"):
        reader_of(trained, cache_dir=str(tmp_path), start="random")
    early = LatentsConfig(
        data=DataConfig(annotation_file="rows.jsonl"),
        encoder=EncoderConfig(trained=["merger"]),
        clips=ClipsConfig(cache_dir=str(tmp_path)),
    )
    with pytest.raises(ConfigError, match=r"cache_dir is set, but encoder\.trained = \['merger'\]: latents change"):
        check_latents(early)


def test_half_precision_is_kept_as_it_is(window, tmp_path):
    half = load_encoder(EncoderConfig(dtype="bfloat16"), device="cpu")
    reader = reader_of(half, cache_dir=str(tmp_path))
    made, again = reader.read([(window, 0.0)]), reader.read([(window, 0.0)])
    assert again.values.dtype == torch.bfloat16 and same(made, again)


def _find(clips, window, queue) -> None:
    queue.put([clips.find(window, start_s=start_s).latents is not None for start_s in ASKED_S])


def test_a_data_worker_finds_what_this_process_has_kept(qwen_tower, window, tmp_path):
    reader = reader_of(qwen_tower, cache_dir=str(tmp_path))
    reader.read([(window, ASKED_S[0])])
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    worker = context.Process(target=_find, args=(pickle.loads(pickle.dumps(reader.clips)), window, queue))
    worker.start()
    assert queue.get() == [True, False, False]
    worker.join()
    assert worker.exitcode == 0
