"""Clips to begin with: those of a run's test or validation rows with their queries and true moments, or the demo's."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vtg.annotations.sample import Sample, resolve_video
from vtg.annotations.table_cache import read_table
from vtg.app.shelf import Shelf
from vtg.config.data_settings import DemoConfig
from vtg.demo.demo_dataset import ensure_demo
from vtg.errors import ConfigError
from vtg.report.run_reader import read_run
from vtg.video.files.video_files import exists

# A list to pick from, not a browser of rows.
MOST_CLIPS, MOST_QUERIES = 200, 50

DEMO = DemoConfig(test_videos=6)


@dataclass
class ExampleClip:
    """A clip to ask about.

    Attributes:
        video: its key on the shelf.
        start_s, end_s: the part of the video; None for the whole.
        queries: what is annotated: `{"query", "spans"}`, in seconds of the clip; spans are None where nobody looked.
    """

    video: str
    name: str
    duration_s: float
    start_s: float | None
    end_s: float | None
    queries: list[dict[str, Any]] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        return asdict(self)


Examples = tuple[list[ExampleClip], list[str]]
"""Clips, and why runs have none, a line each."""


def find_examples(checkpoints: Sequence[Path], shelf: Shelf, demo_folder: Path) -> Examples:
    """The clips of the first run among `checkpoints` that has any; without a run the demo's, made in `demo_folder`."""
    runs = [path for path in checkpoints if (path / "config.yaml").is_file()]
    if runs:
        return run_examples(runs, shelf)
    return demo_examples(demo_folder, shelf), []


def run_examples(folders: Sequence[Path], shelf: Shelf) -> Examples:
    """The clips of the first run that has rows whose videos are here, and why others have none, a line each."""
    notes = []
    for folder in folders:
        try:
            if clips := clips_of(*rows_of(read_run(folder).config), shelf):
                return clips, notes
            notes.append(f"{folder.name}: none of its videos is on this machine")
        except (ConfigError, OSError) as error:
            notes.append(f"{folder.name}: its rows cannot be read ({error})")
    return [], notes


def demo_examples(folder: Path, shelf: Shelf) -> list[ExampleClip]:
    """A few synthetic videos, made in `folder`."""
    made = ensure_demo(folder, DEMO)
    return clips_of(str(made / "test.jsonl"), str(made), shelf)


def rows_of(config: Mapping[str, Any]) -> tuple[str, str | None]:
    """(annotation file, folder of its videos) of a run's config.yaml: its test rows, else those of validation or
    training.

    Raises:
        ConfigError: it names none.
    """
    data = config.get("data")
    values = data if isinstance(data, Mapping) else {}
    files = [values.get(name) for name in ("test_file", "val_file", "annotation_file")]
    path = next((file for file in files if isinstance(file, str)), None)
    if path is None:
        raise ConfigError("its config.yaml names no annotation file")
    folder = values.get("video_dir")
    return path, folder if isinstance(folder, str) else None


def clips_of(path: str, video_dir: str | None, shelf: Shelf) -> list[ExampleClip]:
    """The clips of an annotation file whose videos are here; at most `MOST_CLIPS`.

    Raises:
        ConfigError, OSError: the rows cannot be read.
    """
    table, _ = read_table(path)
    clips: dict[tuple, ExampleClip] = {}
    for at in range(len(table)):
        sample = table[at]
        clip = clips.get(_place(sample))
        if clip is None:
            if len(clips) == MOST_CLIPS:
                break
            file = resolve_video(sample.video, video_dir)
            if not exists(file):
                continue
            shelved = shelf.put(file, name=sample.video)
            clip = ExampleClip(shelved.key, sample.video, sample.duration_s, sample.video_start_s, sample.video_end_s)
            clips[_place(sample)] = clip
        if len(clip.queries) < MOST_QUERIES:
            spans = [list(span) for span in sample.spans] if sample.is_labelled else None
            clip.queries.append({"query": sample.query, "spans": spans})
    table.release()
    return list(clips.values())


def _place(sample: Sample) -> tuple:
    return sample.video, sample.video_start_s, sample.video_end_s
