"""The forms of sets that are of other tasks than spans: captions, questions, points, tracks, counts (docs/tasks.md)."""

from functools import partial

from vtg.annotations.sources import kinetics_list, molmo2_tables, pixmo_tables, webvid
from vtg.annotations.sources.source_row import Source

MOLMO2 = "https://github.com/allenai/molmo2/blob/f3cb108/olmo/data"
KEMPNER = "https://github.com/KempnerInstitute/KempnerForge/blob/5666d0d/kempnerforge/data/video_dataset.py"

# What most of their sets have in common.
molmo2 = partial(Source, loader=f"{MOLMO2}/molmo2_datasets.py", seen=None, beside={"videos": ("videos",)})
pixmo = partial(Source, loader=f"{MOLMO2}/pixmo_datasets.py", seen=None)

TASK_SOURCES: dict[str, Source] = {
    "kinetics_list": Source(
        title="videos and their classes, VIDEO LABEL (Kinetics as V-JEPA reads it)",
        fits=kinetics_list.fits,
        rows=kinetics_list.rows,
        loader="https://github.com/facebookresearch/vjepa2/blob/main/src/datasets/video_dataset.py",
        seen=None,
        beside={"names": kinetics_list.NAMES, "videos": ("videos", ".")},
    ),
    "webvid": Source(
        title="WebVid in KempnerForge's layout, captions",
        fits=webvid.fits,
        rows=webvid.rows,
        loader=KEMPNER,
        seen=None,
        beside={"videos": webvid.VIDEOS},
        needs_stem=True,
    ),
    "molmo2_captions": molmo2(
        title="Molmo2-Cap, Molmo2-CapEval",
        fits=molmo2_tables.fits_captions,
        rows=molmo2_tables.captions,
    ),
    "molmo2_choices": molmo2(
        title="Molmo2-VideoCapQA, Molmo2-VideoSubtitleQA",
        fits=molmo2_tables.fits_choices,
        rows=molmo2_tables.choices,
    ),
    "molmo2_questions": molmo2(
        title="Molmo2-AskModelAnything",
        fits=molmo2_tables.fits_questions,
        rows=molmo2_tables.questions,
    ),
    "molmo2_points": molmo2(
        title="Molmo2-VideoPoint, Molmo2-VideoPointEval",
        fits=molmo2_tables.fits_points,
        rows=molmo2_tables.points,
    ),
    "molmo2_counts": molmo2(
        title="Molmo2-VideoCountEval",
        fits=molmo2_tables.fits_counts,
        rows=molmo2_tables.counts,
    ),
    "molmo2_tracks": molmo2(
        title="Molmo2-VideoTrack",
        fits=molmo2_tables.fits_tracks,
        rows=molmo2_tables.tracks,
        loader=f"{MOLMO2}/molmo2_video_track_datasets.py",
    ),
    "molmo2_trajectories": molmo2(
        title="molmo2-track-instruction, and tracking sets in its form",
        fits=molmo2_tables.fits_trajectories,
        rows=molmo2_tables.trajectories,
        loader=f"{MOLMO2}/academic_video_track_datasets.py",
    ),
    "pixmo_captions": pixmo(
        title="pixmo-cap",
        fits=pixmo_tables.fits_captions,
        rows=pixmo_tables.captions,
    ),
    "pixmo_questions": pixmo(
        title="pixmo-ask-model-anything, pixmo-cap-qa, pixmo-docs",
        fits=pixmo_tables.fits_questions,
        rows=pixmo_tables.questions,
    ),
    "pixmo_pairs": pixmo(
        title="Molmo2-MultiImageQA",
        fits=pixmo_tables.fits_pairs,
        rows=pixmo_tables.pairs,
    ),
    "pixmo_points": pixmo(
        title="pixmo-points",
        fits=pixmo_tables.fits_points,
        rows=pixmo_tables.points,
    ),
    "pixmo_many_points": Source(
        title="Molmo2-MultiImagePoint",
        fits=pixmo_tables.fits_many_points,
        rows=pixmo_tables.many_points,
        loader="https://huggingface.co/datasets/allenai/Molmo2-MultiImagePoint",
        seen=None,
    ),
    "pixmo_counts": pixmo(
        title="pixmo-count",
        fits=pixmo_tables.fits_counts,
        rows=pixmo_tables.counts,
    ),
}
