"""A checkpoint on this machine that answers what an endpoint would be asked, in process."""

import base64
import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import torch
from PIL import Image

from vtg.config.programs import PredictConfig
from vtg.data.encoding import Features, encode
from vtg.data.grounding_dataset import make_provider
from vtg.data.picture_encoding import encode_pictures
from vtg.data.pixels import PICTURES, vision_inputs
from vtg.decoding.form_constraint import FormConstraint, Spelling
from vtg.decoding.prompt_sequence import Prompt
from vtg.entry import compose_settings
from vtg.errors import ConfigError, SampleError
from vtg.evaluation.answering import answering_engine, decoded
from vtg.evaluation.grounder import Grounder
from vtg.evaluation.partial_answers import stamps
from vtg.models.checkpoint import resolve_base, resolve_checkpoint
from vtg.models.checkpoint_settings import checkpoint_settings
from vtg.models.families import family_of
from vtg.models.hub import find_model
from vtg.tasks.json_form import JsonForm
from vtg.video.video_window import VideoWindow

log = logging.getLogger(__name__)


class LocalModel:
    """A loaded checkpoint. Threads may ask it at once; it answers one question after another, greedily.

    Args:
        checkpoint: as `python -m vtg.predict checkpoint=` takes it.
        pictures: it will be shown still pictures.
        max_tokens: of an answer.

    Attributes:
        identity: its name, and of its files the sizes and times, which tell this version of it from another.

    Raises:
        ConfigError: for a checkpoint that is not there or cannot be loaded, or pictures for one that takes none.
        RunError: its weights are truncated, or do not fit their base.
    """

    def __init__(
        self, checkpoint: str, *, pictures: bool = True, max_tokens: int = 2048, device: str | None = None
    ) -> None:
        config = compose_settings("predict", [], PredictConfig)
        settings = checkpoint_settings(checkpoint, overrides=config.settings, fallback=config.fallback).settings
        find_model(checkpoint, key="--checkpoint")
        folders = dict.fromkeys((resolve_checkpoint(checkpoint), resolve_base(checkpoint)))
        weights = [stamp for folder in folders if Path(folder).is_dir() for stamp in stamps(folder, "*.safetensors")]
        self.identity: dict[str, Any] = {"model": checkpoint, "weights": weights}
        try:
            self._grounder = Grounder(settings, device=device)
        except (ValueError, OSError) as error:  # transformers', of a folder that holds no model of its own
            if isinstance(error, ConfigError):
                raise
            said = str(error).strip().splitlines()[0]
            raise ConfigError(f"--checkpoint {checkpoint}: cannot be loaded ({said})") from error
        self.max_tokens, self._asking = max_tokens, threading.Lock()
        model, processor = self._grounder.model, self._grounder.processor
        if pictures and PICTURES[1] not in processor.model_input_names:
            raise ConfigError(
                f"--checkpoint {checkpoint}: vtg shows {family_of(processor).title} no still pictures, only videos; "
                "give --show video and no vqa, or serve it: --endpoint"
            )
        self._max_length = model.config.get_text_config().max_position_embeddings - max_tokens
        self._spelling = Spelling(processor)

    def complete(self, messages: Sequence[dict[str, Any]], form: JsonForm | None = None) -> str:
        """The answer to a conversation in OpenAI's form, of text, pictures as data, or one video file.

        Args:
            form: the only one that the answer can have; None: it is free.

        Raises:
            SampleError: a video that cannot be read, too many tokens, or too little memory.
        """
        features = self._features(messages)
        model, processor = self._grounder.model, self._grounder.processor
        constraint = None if form is None else FormConstraint(form, self._spelling)
        with self._asking:  # the model's layers keep what they are told about a prompt
            try:
                engine = answering_engine(
                    model, processor, max_new_tokens=self.max_tokens, at_once=1, constraint=constraint
                )
                [[completion]] = engine.complete([self._prompt(features)])
            except torch.OutOfMemoryError as error:
                raise SampleError(
                    f"memory ran out at a question of {len(features['input_ids'])} tokens; show fewer frames "
                    "(--max-frames) or shorter windows (--window-s)"
                ) from error
        return decoded(processor, completion.tokens)

    def _prompt(self, features: Features) -> Prompt:
        model = self._grounder.model
        moved = {name: value.to(model.device) for name, value in features.items()}
        pixels = {name: value.to(model.dtype) for name, value in moved.items() if value.is_floating_point()}
        assert pixels.keys() <= set(vision_inputs(features))
        return Prompt(moved | pixels)

    def _features(self, messages: Sequence[dict[str, Any]]) -> Features:
        pictures: list[Image.Image] = []
        videos: list[dict[str, Any]] = []
        chat = [
            {"role": message["role"], "content": _parts(message["content"], pictures, videos)} for message in messages
        ]
        processor = self._grounder.processor
        if not videos:
            return encode_pictures(processor, chat, pictures, max_length=self._max_length)
        assert len(videos) == 1 and not pictures, "a window is shown as one video, or as pictures"
        # As many frames a second as were asked for; their sizes are those that the checkpoint was trained with.
        settings = self._grounder.settings
        video = replace(settings.video, sampling="fps", fps=videos[0]["fps"])
        clip = make_provider(video, processor).clip(VideoWindow(_path(videos[0]["video_url"]["url"])))
        speed = self._grounder.tokens_per_second
        return encode(processor, chat, clip, tokens_per_second=speed, max_length=self._max_length)


def _parts(
    content: str | Sequence[dict[str, Any]], pictures: list[Image.Image], videos: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The content of a message as a chat template takes it; adds its pictures and videos to those lists."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    parts: list[dict[str, Any]] = []
    for block in content:
        if block["type"] == "image_url":
            data = base64.b64decode(block["image_url"]["url"].partition(",")[2])
            pictures.append(Image.open(BytesIO(data)).convert("RGB"))
            parts.append({"type": "image"})
        elif block["type"] == "video_url":
            videos.append(block)
            parts.append({"type": "video"})
        else:
            parts.append({"type": "text", "text": block["text"]})
    return parts


def _path(url: str) -> str:
    parts = urlsplit(url)
    return unquote(parts.path) if parts.scheme == "file" else url
