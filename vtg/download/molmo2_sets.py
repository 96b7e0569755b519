"""The sets that Molmo2 is trained and evaluated on: those of Molmo2, PixMo and their like.

Hub names are those that the publisher's code loads (allenai/molmo2 at f3cb108, `olmo/data`); which stage has which is
nanoMolmo2's reading of the technical report (ZhaoningYu1996/nanoMolmo2 at 31e7b28). A licence or a size stands here
where the set's own page was seen; None means that it was not, and the hub says it before anything is fetched.
"""

from vtg.download.published_set import PublishedSet

PICTURES = (
    "its rows name pictures by address (image_url): fetch those yourself; image_sha256, where there is one, tells "
    "whether a picture is still the annotated one"
)
VIDEO_IDS = (
    "its rows name videos by id (video_id), most of YouTube: fetch them into its folder videos; where it brings "
    "youtube_id_to_urls_mapping.json, videos.txt has an address beside each id"
)
TRACKED = (
    "its rows point into videos of other data sets, each with terms of its own (MOSE, SA-V, SportsMOT, DanceTrack, …): "
    "olmo/data/molmo2_video_track_datasets.py of https://github.com/allenai/molmo2 says where each is had"
)


def _set(
    hub: str, stage: str, title: str, videos: str = "", *, licence: str | None = None, size: int | None = None
) -> PublishedSet:
    return PublishedSet(title=title, stage=stage, hub=hub, tables=True, videos=videos, licence=licence, size=size)


MOLMO2_SETS: dict[str, PublishedSet] = {
    "pixmo-cap": _set("allenai/pixmo-cap", "pretraining", "dense captions of pictures", PICTURES, licence="odc-by"),
    "pixmo-points": _set(
        "allenai/pixmo-points", "pretraining", "points in pictures", PICTURES, licence="odc-by", size=199_000_000
    ),
    "pixmo-count": _set("allenai/pixmo-count", "pretraining", "counting in pictures", PICTURES, licence="odc-by"),
    "cosyn-point": _set("allenai/CoSyn-point", "pretraining", "points in synthetic pictures", licence="odc-by"),
    "tulu-3-sft-mixture": _set(
        "allenai/tulu-3-sft-mixture",
        "pretraining",
        "instructions, text alone",
        licence="odc-by; some parts are non-commercial",
        size=1_412_954_868,
    ),
    "molmo2-cap": _set("allenai/Molmo2-Cap", "sft", "dense captions of videos and clips", VIDEO_IDS),
    "molmo2-askmodelanything": _set(
        "allenai/Molmo2-AskModelAnything", "sft", "people's questions on videos", VIDEO_IDS
    ),
    "molmo2-videocapqa": _set("allenai/Molmo2-VideoCapQA", "sft", "questions made of captions", VIDEO_IDS),
    "molmo2-videosubtitleqa": _set(
        "allenai/Molmo2-VideoSubtitleQA", "sft", "questions on videos with subtitles", VIDEO_IDS
    ),
    "molmo2-videopoint": _set("allenai/Molmo2-VideoPoint", "sft", "points in videos over time", VIDEO_IDS),
    "molmo2-videotrack": _set("allenai/Molmo2-VideoTrack", "sft", "tracks of objects", TRACKED),
    "molmo2-track-instruction": _set("allenai/molmo2-track-instruction", "sft", "tracking, as instructions", TRACKED),
    "molmo2-academic-video-points": _set(
        "allenai/molmo2-academic-video-points", "sft", "points in the videos of other data sets", TRACKED
    ),
    "molmo2-multiimageqa": _set("allenai/Molmo2-MultiImageQA", "sft", "questions on several pictures", PICTURES),
    "molmo2-synmultiimageqa": _set("allenai/Molmo2-SynMultiImageQA", "sft", "questions on several synthetic pictures"),
    "molmo2-multiimagepoint": _set("allenai/Molmo2-MultiImagePoint", "sft", "points in several pictures", PICTURES),
    "molmo2-pixmo-multi-points": _set(
        "allenai/molmo2-pixmo-multi-points", "sft", "points in several pictures", PICTURES
    ),
    "pixmo-ask-model-anything": _set(
        "allenai/pixmo-ask-model-anything", "sft", "people's questions on pictures", PICTURES
    ),
    "pixmo-cap-qa": _set(
        "allenai/pixmo-cap-qa", "sft", "questions made of captions of pictures", PICTURES, licence="apache-2.0"
    ),
    "pixmo-clocks": _set("allenai/pixmo-clocks", "sft", "reading clocks"),
    "pixmo-point-explanations": _set(
        "allenai/pixmo-point-explanations", "sft", "answers that point", PICTURES, licence="odc-by", size=51_800_000
    ),
    "molmo2-capeval": _set("allenai/Molmo2-CapEval", "eval", "captions of videos, evaluation", VIDEO_IDS),
    "molmo2-videopointeval": _set("allenai/Molmo2-VideoPointEval", "eval", "points in videos, evaluation", VIDEO_IDS),
    "molmo2-videocounteval": _set("allenai/Molmo2-VideoCountEval", "eval", "counting in videos, evaluation", VIDEO_IDS),
    "molmo2-videotrackeval": _set("allenai/Molmo2-VideoTrackEval", "eval", "tracks of objects, evaluation", TRACKED),
    "pixmo-points-eval": _set(
        "allenai/pixmo-points-eval", "eval", "points in pictures, evaluation", PICTURES, licence="odc-by"
    ),
}
