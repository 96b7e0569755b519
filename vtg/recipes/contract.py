"""Whether a folder holds what a recipe trains on: its annotation file, in its published form, and the videos of it."""

from collections import Counter
from dataclasses import dataclass

import pyarrow as pa

from vtg.annotations.formats.published import read_published
from vtg.annotations.sample import Problem
from vtg.annotations.table_cache import video_stamps
from vtg.config.data_rules import check_data
from vtg.config.data_settings import DataConfig
from vtg.recipes.published_recipes import Recipe

EXAMPLES = 3
"""Videos that are named of those that are not there."""


@dataclass(frozen=True, slots=True)
class Contract:
    """What a folder holds of a recipe's data.

    Attributes:
        file: the annotation file, after the name of its form.
        rows: that can be trained on.
        published: rows of the file as it was published.
        dropped: kind → how many rows.
        videos: that the rows name.
        missing: those of them that are not there.
    """

    file: str
    rows: int
    published: int
    dropped: dict[str, int]
    videos: int
    missing: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether as many rows were read as are published."""
        # Of TimeLens-100K only "about 100,000" is published: a few less are no sign of half a file.
        return self.rows + sum(self.dropped.values()) >= 0.9 * self.published

    @property
    def holds(self) -> bool:
        """Whether every row and every video is there."""
        return self.is_whole and not self.missing

    def lines(self) -> list[str]:
        """For people."""
        dropped = ", ".join(f"{kind} {count:,}" for kind, count in self.dropped.items())
        lines = [
            f"{self.file}: {self.rows:,} rows to train on{f', dropped: {dropped}' if dropped else ''} (published: "
            f"{self.published:,} rows{'' if self.is_whole else '; this is not the whole file, fetch it again'})"
        ]
        if self.missing:
            lines.append(
                f"videos: {len(self.missing):,} of {self.videos:,} are missing, such as "
                f"{', '.join(self.missing[:EXAMPLES])}; fetch them, or say with data.max_bad_share what may be left out"
            )
        else:
            lines.append(f"videos: all {self.videos:,} are there")
        return lines


def check_contract(recipe: Recipe, data: DataConfig) -> Contract:
    """Reads the annotation file, and looks for its videos; opens none.

    Raises:
        ConfigError: a folder or file that is not there, or a file in another form than the recipe reads.
        RunError: a file without a single entry.
    """
    check_data(data)
    assert data.annotation_file is not None, recipe.name
    dropped, rows, videos = Counter[str](), 0, dict[str, None]()
    for item in read_published(data.annotation_file):
        if not isinstance(item, Problem):
            rows += 1
            videos[item.video] = None
        elif item.severity == "error":
            dropped[item.kind] += 1
    names = list(videos)
    there = video_stamps(pa.array(names, pa.string()), data.video_dir)[:, 0] >= 0
    missing = tuple(name for name, is_there in zip(names, there, strict=True) if not is_there)
    return Contract(data.annotation_file, rows, recipe.rows, dict(dropped), len(names), missing)
