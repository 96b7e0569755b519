"""The sets and benchmarks of temporal grounding, at the places where their publishers put them.

Files on GitHub are named by commit, with git's checksum and the size that the commit lists; the hub's say theirs when
they are asked. Licences are those of the annotations, as the repository states them. Videos have terms of their own.
"""

from vtg.download.published_set import PublishedFile, PublishedSet

VIDEOX = "microsoft/VideoX/1744b2159c3d11694f94dab4fcde8660c685e79a/2D-TAN/data"
MOMENT_DETR = "jayleicn/moment_detr/b7e553ac3b0c898ee6b85e03ee507c064eab89ca/data"
DIDEMO = "LisaAnne/LocalizingMoments/b6a555c8134581305d0ed4716fbc192860e0b88c/data"
TIME_R1 = "xiaomi-research/time-r1/7f2b5944a0c35993da80634a459d5a48a3a5431e/dataset/timer1/annotations"
VIDI = "bytedance/vidi/fc30c870843a8e8e76864702b48b400b712fe0a8"
TIMELENS2 = "MCG-NJU/TimeLens2/a5ce4501e74b9d13216cd5e6a4e723774ac19a6b/grpo/data/annotations"
HIREST = "j-min/HiREST/deffc169b4e8d51c1589d5512ad05da61e81bcee/data/splits"
NEXT_GQA = "doc-doc/NExT-GQA/63772e0256ad9e34b83d6a108f1ba2041b924607/datasets/nextgqa"
MUSEG = "THUNLP-MT/MUSEG/889565e78b21e95f9ee2d2f6d250c3248b1587bb/data"

CHARADES_VIDEOS = "videos: https://prior.allenai.org/projects/charades (480p); unpack into its folder videos"
YOUTUBE = "videos are of YouTube and named by its ids: fetch them into its folder videos, with yt-dlp for example"
SHARDS = (
    "videos come in archives: for each, tar -xzf video_shards/FILE.tar.gz -C videos (a folder to make) in its folder"
)

GROUNDING_SETS: dict[str, PublishedSet] = {
    "charades_sta": PublishedSet(
        title="Charades-STA, as 2D-TAN has it, with the lengths of the videos",
        stage="eval",
        licence="MIT (2D-TAN); Charades: AI2's, non-commercial",
        videos=CHARADES_VIDEOS,
        data="charades_sta",
        rows=("charades_sta:charades_sta_train.txt", "charades_sta:charades_sta_test.txt"),
        files=(
            PublishedFile(
                f"{VIDEOX}/Charades-STA/charades_sta_train.txt", "3c9423e96cc99e436c13dc8cc72716ed11d375c7", 622491
            ),
            PublishedFile(
                f"{VIDEOX}/Charades-STA/charades_sta_test.txt", "9268d0e7cfeebea4927903a8692fe86fbd5c3f1c", 186686
            ),
            PublishedFile(
                f"{VIDEOX}/Charades-STA/Charades_v1_train.csv", "f31542ca6c5c9c9522d42de6dbd9c9a717e5a382", 3622045
            ),
            PublishedFile(
                f"{VIDEOX}/Charades-STA/Charades_v1_test.csv", "664527bd18e7f68258703e634855631efb31ecbe", 1173833
            ),
        ),
    ),
    "activitynet_captions": PublishedSet(
        title="ActivityNet Captions, as 2D-TAN has it",
        stage="eval",
        data="activitynet_captions",
        licence="MIT (2D-TAN); none is stated for the annotations",
        videos=YOUTUBE,
        rows=("captions:train.json", "captions:val_1.json", "captions:val_2.json"),
        files=(
            PublishedFile(f"{VIDEOX}/ActivityNet/train.json", "a9397f6e503c25d9bbe4908df55ed0cacbf6b0b5", 4041288),
            PublishedFile(
                f"{VIDEOX}/ActivityNet/val.json", "71006d3f4fbadf8221d0713511d0469391604430", 1910790, "val_1.json"
            ),
            PublishedFile(
                f"{VIDEOX}/ActivityNet/test.json", "571e4ea8fda197a4c7bc42accc3d8b8ab1e45906", 1727037, "val_2.json"
            ),
        ),
    ),
    "tacos": PublishedSet(
        title="TACoS, as 2D-TAN has it",
        stage="eval",
        licence="MIT (2D-TAN); none is stated for the annotations",
        videos="videos are those of MPII Cooking 2 (Max Planck Institute for Informatics): put them into folder videos",
        data="tacos",
        rows=("tacos:train.json", "tacos:val.json", "tacos:test.json"),
        files=(
            PublishedFile(f"{VIDEOX}/TACoS/train.json", "8d909cb1c058a09a92105bde150713b631a5b0ea", 601727),
            PublishedFile(f"{VIDEOX}/TACoS/val.json", "434222f48bb9107f293c3148f0b0dd4e8360e24d", 277474),
            PublishedFile(f"{VIDEOX}/TACoS/test.json", "a62bd312dcbf205ce113d76e5ec4d90ead65c895", 246672),
        ),
    ),
    "qvhighlights": PublishedSet(
        title="QVHighlights",
        stage="eval",
        licence="CC BY-NC-SA 4.0",
        data="qvhighlights",
        videos="videos: https://nlp.cs.unc.edu/data/jielei/qvh/qvhilights_videos.tar.gz; unpack into its folder videos",
        rows=("qvhighlights:highlight_train_release.jsonl", "qvhighlights:highlight_val_release.jsonl"),
        files=(
            PublishedFile(
                f"{MOMENT_DETR}/highlight_train_release.jsonl", "0dda92dfdbc50598d9a5eade5972d5736ed2a728", 3956580
            ),
            PublishedFile(
                f"{MOMENT_DETR}/highlight_val_release.jsonl", "b7198dc056d6a3a7f4028aabb2e239466e08da0f", 821101
            ),
            PublishedFile(
                f"{MOMENT_DETR}/highlight_test_release.jsonl", "e847061213cf577c9a11e25445ed18b13515669d", 204566
            ),
        ),
    ),
    "didemo": PublishedSet(
        title="DiDeMo, with the spans of all annotators",
        stage="eval",
        licence="BSD 2-Clause",
        data="didemo",
        videos="videos: download_videos_AWS.py of https://github.com/LisaAnne/LocalizingMoments; each has a licence of "
        "Creative Commons, listed in its video_licenses.txt",
        rows=("didemo:train_data.json", "didemo:val_data.json", "didemo:test_data.json"),
        files=(
            PublishedFile(f"{DIDEMO}/train_data.json", "ce7c7cb68c776bfcdc790bd7b1bbbbdd4278a7df", None),
            PublishedFile(f"{DIDEMO}/val_data.json", "1520194905980ca72a1d2351d5ba2a3e3bf5b5c4", 1111448),
            PublishedFile(f"{DIDEMO}/test_data.json", "6cc62877fa5cd35fe323dd133f13a2595faa59ae", 1068934),
        ),
    ),
    "time_r1": PublishedSet(
        title="TimeRFT, Time-R1's training rows, and TVGBench",
        stage="sft",
        licence="Apache-2.0",
        data="time_r1",
        videos="videos are the set time_r1_videos (Boshenxx/TimeR1-Dataset on the hub)",
        rows=("time_r1:train_2k5.json", "time_r1:tvgbench.json"),
        files=(
            PublishedFile(f"{TIME_R1}/train_2k5.json", "3308996f0d7cc8ad1e4d71cd907b1baf160556db", 1503851),
            PublishedFile(f"{TIME_R1}/tvgbench.json", "cb55ef6dde6b913058ea4fb790e483812c3acb32", 520933),
        ),
    ),
    "time_r1_videos": PublishedSet(
        title="the videos of TimeRFT and TVGBench",
        stage="sft",
        hub="Boshenxx/TimeR1-Dataset",
        videos="unpack what comes as archives; data.video_dir of data=time_r1 is then this folder",
    ),
    "timelens_100k": PublishedSet(
        title="TimeLens-100K with its videos",
        stage="sft",
        hub="TencentARC/TimeLens-100K",
        videos=SHARDS,
        data="timelens_100k",
        rows=("timelens_100k:timelens-100k.jsonl",),
    ),
    "timelens_bench": PublishedSet(
        title="TimeLens-Bench with its videos",
        stage="eval",
        hub="TencentARC/TimeLens-Bench",
        videos=SHARDS,
        rows=(
            "timelens_bench:charades-timelens.json",
            "timelens_bench:activitynet-timelens.json",
            "timelens_bench:qvhighlights-timelens.json",
        ),
    ),
    "timelens2_93k": PublishedSet(
        title="TimeLens2-93K, the annotations",
        stage="sft",
        licence="Apache-2.0",
        data="timelens2_93k",
        videos="videos are the set timelens2_93k_videos (MCG-NJU/TimeLens2-93K on the hub)",
        rows=("timelens2_93k:timelens2-93k.jsonl",),
        files=(PublishedFile(f"{TIMELENS2}/timelens2-93k.jsonl", "f61cf1bd260d4a0cb0617b8749852f56db1f171d", None),),
    ),
    "timelens2_93k_videos": PublishedSet(
        title="TimeLens2-93K with its 23,793 videos",
        stage="sft",
        hub="MCG-NJU/TimeLens2-93K",
        videos="unpack what comes as archives; data.video_dir of data=timelens2_93k is then this folder",
    ),
    "timeit": PublishedSet(
        title="TimeIT (TimeChat), conversations with times",
        stage="sft",
        hub="ShuhuaiRen/TimeIT",
        licence="cc-by-4.0",
        videos="videos of twelve data sets: https://github.com/RenShuhuai-Andy/TimeChat/blob/master/docs/DATA.md",
    ),
    "vue_tr": PublishedSet(
        title="VUE-TR (Vidi)",
        stage="eval",
        licence="CC BY-NC 4.0",
        videos=YOUTUBE,
        rows=("vue_tr:VUE-TR_ground_truth.json",),
        files=(
            PublishedFile(
                f"{VIDI}/VUE_TR/VUE-TR_ground_truth.json", "eac3554f898a1309098eaee349dae9d007f500d2", 780270
            ),
            PublishedFile(f"{VIDI}/VUE_TR/video_id.txt", "1ab5750c741139ebd81b201ac795e144d922e001", 5087),
        ),
    ),
    "vue_tr_v2": PublishedSet(
        title="VUE-TR-V2 (Vidi)",
        stage="eval",
        licence="CC BY-NC 4.0",
        videos=YOUTUBE,
        rows=("vue_tr:VUE-TRv2_ground_truth.json",),
        files=(
            PublishedFile(
                f"{VIDI}/VUE_TR_V2/VUE-TRv2_ground_truth.json", "123a5c7913c25dabb90a4b5a172f340956137014", 734407
            ),
            PublishedFile(f"{VIDI}/VUE_TR_V2/video_id.txt", "c4be2f0c03e0d571b63bb19dcef32f279fcb315e", 10164),
        ),
    ),
    "hirest": PublishedSet(
        title="HiREST, moments of prompts and their steps",
        stage="eval",
        licence="MIT",
        videos=YOUTUBE,
        rows=("hirest:all_data_train.json", "hirest:all_data_val.json"),
        files=(
            PublishedFile(f"{HIREST}/all_data_train.json", "2bc8d80e2a103561266ec0a95e1573b748495c0c", 514671),
            PublishedFile(f"{HIREST}/all_data_val.json", "761a9d5ee318d391ef76a110de5642fdf836b351", 108730),
            PublishedFile(f"{HIREST}/all_data_test.json", "9d0942eb97044923de5733720c8ff2a6d99f8592", 256605),
        ),
    ),
    "next_gqa": PublishedSet(
        title="NExT-GQA",
        stage="eval",
        licence="MIT",
        rows=("next_gqa:gsub_val.json",),
        videos="videos: the link «raw videos» of https://github.com/doc-doc/NExT-GQA; map_vid_vidorID.json names them",
        files=(
            PublishedFile(f"{NEXT_GQA}/gsub_val.json", "dc7d05b0afdeb081863924c9b1f08a96754862f8", 115228),
            PublishedFile(f"{NEXT_GQA}/gsub_test.json", "a80bfff18c68b1b6a701ffa9549e27c447cb3857", 195500),
            PublishedFile(f"{NEXT_GQA}/val.csv", "bc4272da9bcda1afbe60876cf06873da6b471c81", 638860),
            PublishedFile(f"{NEXT_GQA}/test.csv", "316877a909114d2d5b20e63af3fec4ba4f1c3715", 1052149),
            PublishedFile(f"{NEXT_GQA}/map_vid_vidorID.json", "c7da63e91b6aabf3d009d2356fb68aba01ef37f4", 331540),
        ),
    ),
    "museg": PublishedSet(
        title="MUSEG, training and evaluation",
        stage="sft",
        videos="videos: Charades (480p), and activitynet, didemo, hacs and tacos of PolyU-ChenLab/ET-Instruct-164K on "
        "the hub; https://github.com/THUNLP-MT/MUSEG has the commands",
        rows=("museg:stage_1.jsonl", "museg:charades_sta.json", "museg:thumos14.json"),
        files=(
            PublishedFile(f"{MUSEG}/train/stage_1.jsonl", "856cd1f4a1455a5b1b79578f58e3b916ff04383c", 1695829),
            PublishedFile(f"{MUSEG}/train/stage_2.jsonl", "fe0aab4aded36209faa6cccf9a0f604f9e68220c", 2122881),
            PublishedFile(
                f"{MUSEG}/eval/grounding/charades_sta.json", "7c93de2af8a1fce7b4a814eb0eff0c7edf347c4c", 1362208
            ),
            PublishedFile(f"{MUSEG}/eval/grounding/thumos14.json", "1cfd006a15251df99880c2eb40ece295bec0f8fa", 282441),
        ),
    ),
    "ego4d_nlq": PublishedSet(
        title="Ego4D, natural language queries",
        stage="eval",
        videos="sign the licence at https://ego4d-data.org, then: ego4d --datasets annotations clips --benchmarks nlq",
    ),
    "moment_seeker": PublishedSet(
        title="MomentSeeker",
        stage="eval",
        videos="https://github.com/yhy-2000/MomentSeeker has all of it; vtg.convert reads its rows",
    ),
    "thumos14": PublishedSet(
        title="THUMOS'14",
        stage="eval",
        videos="https://www.crcv.ucf.edu/THUMOS14/ has annotations and videos; vtg.convert thumos14 reads its lines",
    ),
    "youcook2": PublishedSet(
        title="YouCook2",
        stage="eval",
        videos="http://youcook2.eecs.umich.edu has annotations and the ids of videos; vtg.convert youcook2 reads them",
    ),
}
