"""The published presets by name."""

from vtg.evaluation.presets import didemo, first_window, moment_detr, moment_sets, ranked_recall
from vtg.evaluation.presets.preset import PublishedPreset

PUBLISHED: dict[str, PublishedPreset] = {
    preset.name: preset
    for family in (moment_detr, first_window, moment_sets, ranked_recall, didemo)
    for preset in family.PRESETS
}
"""`docs/scoring.md` lays their rules side by side."""
