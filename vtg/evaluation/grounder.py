"""A checkpoint that answers: loaded with the settings it was trained with, asked about one clip or many samples."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vtg.annotations.sample import Sample
from vtg.data.encoding import Features, patch_factor
from vtg.data.grounding_dataset import GroundingDataset, make_provider
from vtg.data.question_encoding import encode_questions
from vtg.decoding.constrained import Constraint
from vtg.decoding.tower_output import make_tower_cache
from vtg.errors import ConfigError, SampleError
from vtg.evaluation.generate import generate
from vtg.models.checkpoint import Settings
from vtg.models.loading import load_model, load_processor, tokens_per_second
from vtg.tasks.span_task import SpanTask
from vtg.tasks.time_vocabulary import add_time_tokens
from vtg.video.clip import Clip
from vtg.video.video_window import VideoWindow

# As predict's batch_size: queries of one clip that are answered at once, as each holds the clip's keys.
BATCH_SIZE = 8


class Grounder:
    """A loaded model with everything that fixes what it reads.

    Args:
        device: where the model is put; None: the GPU where there is one.

    Raises:
        ConfigError: for a checkpoint that cannot be loaded, an answer form that cannot be, temporal tokens that it has
            not, or a device that is absent.
    """

    def __init__(self, settings: Settings, *, device: str | None = None) -> None:
        self.settings = settings
        self.task = SpanTask(settings.task)
        processor = load_processor(settings.model.path)
        if add_time_tokens(processor.tokenizer, settings.task, path=settings.model.path):  # type: ignore[attr-defined]
            raise ConfigError(
                f"task.answer = 'tokens': {settings.model.path} has no temporal tokens, so that it never learned any; "
                "ask for the form that it was trained with, or train it first (train_sft.py task=tokens)"
            )
        factor = patch_factor(processor)
        model = replace(settings.model, patch_factor=factor)
        self.model, self.processor = load_model(model, processor, task=settings.task, device=device)
        self.model.eval()
        self.constraint = Constraint.of(self.task, self.processor)
        self.tokens_per_second = tokens_per_second(self.model)
        self.provider = make_provider(settings.video, self.processor)
        self.towers = make_tower_cache(settings.video, self.model)

    def look_with(self, settings: Settings) -> None:
        """From now on clips are sampled, and prompts limited, by other `settings` of the same checkpoint."""
        self.settings = settings
        self.provider = make_provider(settings.video, self.processor)

    def dataset(self, samples: Sequence[Sample], *, video_dir: str | None) -> GroundingDataset:
        """The samples as prompts, for `vtg.evaluation.generate.predict`."""
        return GroundingDataset(
            samples,
            task=self.task,
            processor=self.processor,
            provider=self.provider,
            video_dir=video_dir,
            max_length=self.settings.model.max_length,
            tokens_per_second=self.tokens_per_second,
            training=False,
            towers=self.towers,
        )

    def clip(self, window: VideoWindow) -> Clip:
        """The clip of a window, to ask about: without its frames where the vision tower is known to have seen them.

        Raises:
            DecodeError: it cannot be read.
        """
        return self.provider.clip(window) if self.towers is None else self.towers.clip(self.provider, window)

    def questions(self, queries: Sequence[str], clip: Clip) -> list[Features]:
        """The prompts of queries about one clip, whose pixels they share.

        Raises:
            SampleError: a prompt is too long or holds special tokens.
        """
        encoded: list[Features] = []
        for made in encode_questions(
            self.processor,
            [self.task.conversation(query, duration_s=clip.duration_s) for query in queries],
            clip,
            tokens_per_second=self.tokens_per_second,
            max_length=self.settings.model.max_length,
        ):
            if isinstance(made, SampleError):
                raise made
            encoded.append(made)
        return encoded

    def ask(
        self, queries: Sequence[str], window: VideoWindow, *, max_new_tokens: int, clip: Clip | None = None
    ) -> list[dict[str, Any]]:
        """The answers to queries about one file, or a part of it: rows of predictions.jsonl without `timestamp`.

        The clip is decoded once for all of them; `BATCH_SIZE` queries are answered at a time.

        Args:
            clip: that of `window`, where the caller has it.

        Raises:
            SampleError: if the video cannot be read (DecodeError), or a prompt is too long or holds special tokens.
        """
        clip = self.clip(window) if clip is None else clip
        encoded = self.questions(queries, clip)
        own: dict[str, Any] = {"constraint": self.constraint, "durations_s": [clip.duration_s] * len(encoded)}
        own["towers"] = self.towers
        # A few are answered before a bar could be read.
        own |= {"progress": "answering" if len(queries) > BATCH_SIZE else None}
        texts = generate(
            self.model, self.processor, encoded, max_new_tokens=max_new_tokens, batch_size=BATCH_SIZE, **own
        )
        trim = {"video_start": window.start_s, "video_end": window.end_s}
        rows = []
        for query, text in zip(queries, texts, strict=True):
            answer = self.task.parse(text, duration_s=clip.duration_s)
            rows.append(
                {
                    "video": window.path,
                    "duration": clip.duration_s,
                    "sentence": query,
                    **{key: value for key, value in trim.items() if value is not None},
                    "prediction": [list(span) for span in answer.spans],
                    "text": text,
                    "status": str(answer.status),
                }
            )
        return rows
