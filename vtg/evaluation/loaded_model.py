"""The Python API: `vtg.load(run).ground(video, queries)`."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, overload

from vtg.config.video_settings import VideoConfig
from vtg.errors import ConfigError, SampleError
from vtg.evaluation.ask_settings import ask_settings
from vtg.evaluation.grounder import Grounder
from vtg.logs import deprecations_ignored
from vtg.tasks.answer import NO_MOMENT, Status
from vtg.video.files import address
from vtg.video.files.video_files import is_remote, split_member
from vtg.video.video_window import VideoWindow

if TYPE_CHECKING:
    from PIL.Image import Image


# Keys of predict.yaml that say something of the model; the others are about files and rows.
READ = re.compile(r"^\+*settings\.|^\+*max_new_tokens$|\bfallback\b")


class Moment(NamedTuple):
    """A stretch of a clip, in seconds of the clip."""

    start_s: float
    end_s: float


@dataclass(frozen=True)
class Grounding:
    """When, in one video, the moment that a sentence describes happens.

    Attributes:
        query: the sentence.
        moments: each with `start_s` and `end_s`, in seconds of the clip; empty where the answer held none.
        status: `ok`; `none`, the answer that there is no moment (a model of `task.moments=set`); or why the text could
            not be read as moments (`vtg.tasks.answer.Status`).
        text: the model's answer, word for word.
        duration_s: the length of the clip.
        frame_times_s: when each frame that the model saw is shown, in seconds of the clip.
        window: the clip: a file, or a part of it.
        sampling: the settings that chose its frames.
    """

    query: str
    moments: tuple[Moment, ...]
    status: str
    text: str
    duration_s: float
    frame_times_s: tuple[float, ...] = field(repr=False)
    window: VideoWindow = field(repr=False)
    sampling: VideoConfig = field(repr=False)

    @property
    def spans_s(self) -> tuple[Moment, ...]:
        """`moments`, by the name that they have elsewhere."""
        return self.moments

    def show(self, truth: Sequence[tuple[float, float]] = ()) -> "Image":
        """A picture of the moments over frames that the model saw; the frames are decoded anew.

        A notebook shows it; a program saves it: `grounding.show().save("moment.png")`.

        Args:
            truth: the true moments, in seconds of the clip, to draw above.

        Raises:
            SampleError: the video is not there any more, or cannot be read.
        """
        from vtg.report.moment_picture import AnswerLane, moment_picture  # imports matplotlib

        _check_there(self.window.path)
        note = NO_MOMENT if self.status == Status.NONE else f"{self.status}: {self.text}"
        lanes = [AnswerLane("answer", self.moments, note=note)]
        if len(truth):
            lanes.insert(0, AnswerLane("truth", truth, is_truth=True))
        how = {"duration_s": self.duration_s, "title": self.query, "lanes": lanes}
        return moment_picture(self.window, self.sampling, **how)


class LoadedModel:
    """A model that answers *when*, with the sampling, prompt and answer form it was trained with (`vtg.load`)."""

    def __init__(self, grounder: Grounder, *, max_new_tokens: int) -> None:
        self._grounder, self._max_new_tokens = grounder, max_new_tokens

    @overload
    def ground(
        self,
        video: str | os.PathLike[str],
        queries: str,
        *,
        video_start_s: float | None = None,
        video_end_s: float | None = None,
    ) -> Grounding: ...

    @overload
    def ground(
        self,
        video: str | os.PathLike[str],
        queries: Sequence[str],
        *,
        video_start_s: float | None = None,
        video_end_s: float | None = None,
    ) -> list[Grounding]: ...

    def ground(
        self,
        video: str | os.PathLike[str],
        queries: str | Sequence[str],
        *,
        video_start_s: float | None = None,
        video_end_s: float | None = None,
    ) -> Grounding | list[Grounding]:
        """The moments of `queries` in `video`: one Grounding for a string, a list of them for a list.

        The clip is decoded once for all queries.

        Args:
            video: a file, a member of a tar file (`shard.tar::clip.mp4`) or an address.
            video_start_s, video_end_s: the part of the file to look at, in its own seconds; times of answers are
                relative to `video_start_s`.

        Raises:
            ConfigError: for no query, or one without a word.
            SampleError: the video cannot be read, or a prompt is too long for the model.
        """
        listed = [queries] if isinstance(queries, str) else list(queries)
        if not listed:
            raise ConfigError(
                "queries is empty: give a sentence, or a list of them, that describes a moment to look for"
            )
        for query in listed:
            # Here, before the clip is decoded: that is the long part of an answer about a long video.
            if not isinstance(query, str) or not query.strip(" .\t\r\n"):
                raise ConfigError(f"queries: {query!r} holds no word; describe the moment to look for in a sentence")
        window = VideoWindow(os.fspath(video), start_s=video_start_s, end_s=video_end_s)
        _check_there(window.path)
        clip = self._grounder.clip(window)
        rows = self._grounder.ask(listed, window, max_new_tokens=self._max_new_tokens, clip=clip)
        of_clip = {
            "duration_s": float(clip.duration_s),
            "frame_times_s": tuple(clip.timestamps_s.tolist()),
            "window": window,
            "sampling": self._grounder.settings.video,
        }
        groundings = [
            Grounding(
                query=row["sentence"],
                moments=tuple(Moment(start, end) for start, end in row["prediction"]),
                status=row["status"],
                text=row["text"],
                **of_clip,
            )
            for row in rows
        ]
        return groundings[0] if isinstance(queries, str) else groundings


def _check_there(video: str) -> None:
    """Raises SampleError where `video`, or the tar file it is in, should be on this machine and is not."""
    if address.fault(video) or is_remote(video):
        return  # said, or asked of the store, when it is opened
    file, _ = split_member(video)
    # Said here: the decoder's message is about rows and data.video_dir, which a caller of `ground` never set.
    if Path(file).is_dir():
        raise SampleError(f"video = {video!r}: is a folder; name a video in it")
    if not Path(file).is_file():
        raise SampleError(
            f"video = {video!r}: no such file (looked in {Path.cwd()}); give a path from there, or an absolute one"
        )


def load_model_of(
    checkpoint: str, overrides: Sequence[str], *, device: str | None = None, dtype: str | None = None
) -> LoadedModel:
    """What `vtg.load` does, in a module that may import torch."""
    if dtype is not None:
        overrides = [*overrides, f"settings.model.dtype={dtype}"]
    asked = ask_settings(checkpoint, overrides)
    for word in overrides:
        key = word.partition("=")[0]
        if not READ.search(key):
            raise ConfigError(
                f"{word}: {key} is for python -m vtg.predict; vtg.load takes settings.KEY, fallback.KEY "
                "and max_new_tokens"
            )
    with deprecations_ignored():
        return LoadedModel(Grounder(asked.settings, device=device), max_new_tokens=asked.max_new_tokens)
