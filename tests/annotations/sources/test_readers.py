"""A small file of every published form: it is told without being named, and its rows are these."""

import json
from pathlib import Path

import pytest

from vtg import convert, validate
from vtg.annotations.sources import BENCHMARKS, SOURCES
from vtg.annotations.sources.annotators import most_agreed
from vtg.annotations.sources.conversations import query_of
from vtg.annotations.sources.recognition import recognize
from vtg.annotations.sources.saliency import best_shots, spans_of_points
from vtg.annotations.sources.span_values import number_of, spans_of_text
from vtg.annotations.sources.task_sources import TASK_SOURCES


def row(video: str, duration: float | None, timestamp: list, sentence: str, **more) -> dict:
    known = {} if duration is None else {"duration": duration}
    return {"video": video, **known, "timestamp": timestamp, "sentence": sentence, **more}


def chat(role: str, ask: str, answer: str, text: str, **more) -> dict:
    names = {"from": ("human", "gpt"), "role": ("user", "assistant")}[role]
    return {"turns": [{role: names[0], text: ask}, {role: names[1], text: answer}], **more}


ASK = "<video>\nWhen does 'the man's dog barks' happen? Answer as '12.5 - 17.0 seconds'."
NLQ = {"query": "Query Text: where is it", "clip_start_sec": 1.5, "clip_end_sec": 4}
CLIP = {"clip_uid": "c", "video_start_sec": 30, "video_end_sec": 40}
CLIP["annotations"] = [{"annotation_uid": "u", "language_queries": [{"template": "t"}, NLQ]}]
EGO = {"version": "1", "date": "", "videos": [{"video_uid": "v", "clips": [CLIP]}]}
DIVES = [
    {"segment": [1, 2], "label": "Diving"},
    {"segment": [4, 5], "label": "Diving"},
    {"segment": [3, 4], "label": "Run"},
]
ANET = {
    "database": {"a": {"subset": "training", "duration": 9, "annotations": DIVES}},
    "taxonomy": [],
    "version": "1.3",
}
COOK = {"duration": 9.5, "subset": "val", "annotations": [{"segment": [1, 2], "id": 0, "sentence": "stir"}]}

CASES: dict[str, list[tuple[str, object, list[dict]]]] = {
    "timelens_bench": [
        ("b.json", {"A": {"duration": 9.0, "spans": [[1, 2]], "queries": ["sit"]}}, [row("A", 9.0, [1, 2], "sit")]),
    ],
    "timelens": [
        (
            "t.jsonl",
            {
                "source": "hd",
                "video_path": "a.mp4",
                "duration": 9,
                "events": [{"query": "x", "span": [[1, 2], [4, 5]]}],
            },
            [row("a.mp4", 9, [[1, 2], [4, 5]], "x", source="hd")],
        ),
        (
            "f.jsonl",
            {
                "video_path": "a.mp4",
                "duration": 9,
                "query": "x",
                "span": [[1, 2]],
                "pred": [[0, 2], [3, 4]],
                "iou": 0.5,
            },
            [row("a.mp4", 9, [1, 2], "x", iou=0.5, predictions=[[0, 2], [3, 4]])],
        ),
    ],
    "vue_tr": [
        (
            "v.json",
            [{"query_id": 0, "video_id": "a", "duration": 9, "query": "x", "gt": [[1, 2], [4, 5]], "task": "t"}],
            [row("a", 9, [[1, 2], [4, 5]], "x", qid=0, task="t")],
        ),
    ],
    "moment_seeker": [
        (
            "t2v.json",
            [
                {"src_video_path": "a.mp4", "qry_text": "x", "answering_time_interval": [[1, 2]], "task": "MS"},
                {
                    "src_video_path": "a.mp4",
                    "qry_text": "x",
                    "qry_img_path": "i.png",
                    "answering_time_interval": [[1, 2]],
                },
            ],
            [row("a.mp4", None, [1, 2], "x", task="MS")],
        ),
    ],
    "ego4d_nlq": [
        (
            "nlq_val.json",
            EGO,
            [row("c", 10, [1.5, 4], "where is it", clip_uid="c", annotation_uid="u", query_idx=1, video_uid="v")],
        ),
    ],
    "ego4d_nlq_lines": [
        (
            "ego4d_nlq_val_v2.jsonl",
            {
                "video_id": "a",
                "query_id": "q",
                "query": "x",
                "duration": 9,
                "timestamps": [[1, 2]],
                "query_type": "nlq",
            },
            [row("a", 9, [1, 2], "x", qid="q", query_type="nlq")],
        ),
    ],
    "coco_captions": [
        (
            "dense.json",
            {
                "annotations": [
                    {
                        "image_id": "a.mp4",
                        "caption": "cut. it. up. stir",
                        "pure_cap": "cut. stir",
                        "id": 0,
                        "duration": 9.0,
                    }
                    | {"segments": [[1, 2], [4, 5]]},
                ]
            },
            [row("a.mp4", 9, [1, 2], "cut"), row("a.mp4", 9, [4, 5], "stir")],
        ),
    ],
    "conversations": [
        (
            "timeit.json",
            [{"video": "a.mp4", "QA": [{"q": "all events", "a": "1.0 - 2.0 seconds, 2 eggs.  4 - 5 seconds, stir."}]}],
            [row("a.mp4", None, [1, 2], "2 eggs"), row("a.mp4", None, [4, 5], "stir")],
        ),
        (
            "llava.json",
            [
                {"id": 7, "video": "a.mp4", "duration": 9}
                | {"conversations": [{"from": "human", "value": ASK}, {"from": "gpt", "value": "From 1.5s to 4 s."}]},
            ],
            [row("a.mp4", 9, [1.5, 4], "the man's dog barks", qid=7)],
        ),
        (
            "swift.jsonl",
            {"messages": [{"role": "user", "content": ASK}, {"role": "assistant", "content": "[[1, 2], [4, 5]]"}]}
            | {"videos": ["a.mp4"]},
            [row("a.mp4", None, [[1, 2], [4, 5]], "the man's dog barks")],
        ),
        (
            "swift2.jsonl",
            {
                "query": "<video>Find the event of this description: a dog barks",
                "response": "0:01 - 0:02",
                "videos": ["a"],
            },
            [row("a", None, [1, 2], "a dog barks")],
        ),
        (
            "xtuner.jsonl",
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "video_url", "video_url": {"url": "a.mp4"}},
                            {"type": "text", "text": '<VIDEO_CONTEXT>\nGiven the query: "x y", return the spans.'},
                        ],
                    },
                    {"role": "assistant", "content": "[[1, 2.5]]"},
                    {"role": "user", "content": "why?"},
                    {"role": "assistant", "content": "because"},
                ]
            },
            [row("a.mp4", None, [1, 2.5], "x y")],
        ),
    ],
    "hirest": [
        (
            "h.json",
            {
                "Fold": {
                    "a.mp4": {"relevant": True, "clip": True, "v_duration": 9.0, "bounds": [1, 2], "steps": []},
                    "b.mp4": {"relevant": True, "clip": False, "v_duration": 9.0, "bounds": [0, 0], "steps": []},
                }
            },
            [row("a.mp4", 9, [1, 2], "Fold")],
        ),
    ],
    "museg": [
        (
            "m.jsonl",
            {
                "idx": 0,
                "problem": "Find 'x y' there.",
                "solution": [[1, 2]],
                "video": "a.mp4",
                "duration": 9,
                "task": "tvg",
            },
            [row("a.mp4", 9, [1, 2], "x y", qid=0, task="tvg")],
        ),
        (
            "m.json",
            [{"video": "a.mp4", "question": "… the textual sentence: he sits.", "groundtruth": [[1, 2], [4, 5]]}],
            [row("a.mp4", None, [[1, 2], [4, 5]], "he sits.")],
        ),
    ],
    "action_detection": [
        (
            "anet.json",
            ANET,
            [
                row("a", 9, [[1, 2], [4, 5]], "Diving", subset="training"),
                row("a", 9, [3, 4], "Run", subset="training"),
            ],
        ),
        ("cook.json", {"database": {"a": COOK}}, [row("a", 9.5, [1, 2], "stir", subset="val")]),
    ],
    "thumos_lines": [
        (
            "BaseballPitch_val.txt",
            "video_validation_0000266  72.8 76.4\n",
            [row("video_validation_0000266", None, [72.8, 76.4], "Baseball Pitch")],
        ),
    ],
    "didemo": [
        (
            "d.json",
            [
                {
                    "video": "a.mov",
                    "description": "x",
                    "times": [[0, 0], [1, 1], [1, 1]],
                    "num_segments": 6,
                    "annotation_id": 4,
                }
            ],
            [row("a.mov", 30, [5, 10], "x", qid=4, annotators=[[0, 5], [5, 10], [5, 10]], num_segments=6)],
        ),
    ],
    "tacos": [
        (
            "tacos.json",
            {"a.avi": {"timestamps": [[30, 60], [90, 700]], "sentences": ["x", "y"], "fps": 30.0, "num_frames": 600}},
            [row("a.avi", 20, [1, 2], "x"), row("a.avi", 20, [3, 20], "y")],
        ),
    ],
    "tvgbench": [
        (
            "tvgbench.json",
            [
                {
                    "path": "a.mp4",
                    "question": "x",
                    "answer": "1.5-2",
                    "start": 4,
                    "end": 13,
                    "duration": 9,
                    "source": "s",
                }
            ],
            [row("a.mp4", 9, [1.5, 2], "x", video_start=4, video_end=13, source="s")],
        ),
    ],
    "rows": [
        (
            "guide.jsonl",
            {"video": "a.mp4", "duration": 9, "timestamp": [1, 2], "sentence": "x", "video_start": None}
            | {"kwargs": {"difficulty": "easy", "qid": "sample_001"}},
            [row("a.mp4", 9, [1, 2], "x", qid="sample_001", difficulty_word="easy")],
        ),
    ],
}


def write(path: Path, content: object) -> str:
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text + ("\n" if path.suffix == ".jsonl" else ""), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("form", "name", "content", "expected"),
    [pytest.param(form, *case, id=f"{form}-{case[0]}") for form, cases in CASES.items() for case in cases],
)
def test_a_small_file_of_a_form_is_told_and_read(form, name, content, expected, tmp_path, capsys):
    path = write(tmp_path / name, content)
    assert recognize(path).forms == (form,)
    out = tmp_path / "out.jsonl"
    assert convert.main([path, "-o", str(out)]) == 0, capsys.readouterr().err
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert rows == expected
    if all("duration" in one for one in rows):
        assert validate.main([str(out)]) == 0, capsys.readouterr().out


def test_every_form_that_no_published_file_here_shows_has_a_case():
    published = {"charades_sta", "charades_actions", "captions", "qvhighlights", "worker_table", "kinetics"}
    assert set(SOURCES) - published - {"next_gqa", "hirest_steps"} - set(TASK_SOURCES) == set(CASES)


def test_every_name_of_a_benchmark_leads_to_forms():
    for name, forms in BENCHMARKS.items():
        assert set(forms) <= set(SOURCES), name


def test_next_gqa_joins_its_questions_from_the_table_beside_it(tmp_path, capsys):
    spans = {"1": [[1, 2]], "5": [[3, 4]]}
    path = write(tmp_path / "gsub_val.json", {"100": {"duration": 9, "location": spans, "fps": 30}})
    write(tmp_path / "val.csv", 'video_id,question,answer,qid\n100,"why, then",so,1\n')
    out = tmp_path / "out.jsonl"
    assert convert.main([path, "-o", str(out), "--max-dropped", "1"]) == 0
    assert json.loads(out.read_text()) == row("100", 9, [1, 2], "why, then", qid="100_1", answer="so")
    assert "100_5: put val.csv or test.csv, which has the questions, beside the file" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        ({"video": "a.mp4", "QA": 5}, "entry-format"),
        ({"video": 10**400, "QA": [{"q": "x", "a": "1 - 2 seconds"}]}, "video-missing"),
    ],
)
def test_an_entry_that_its_reader_fails_at_is_lost_alone(bad, kind, tmp_path, capsys):
    good = {"video": "a.mp4", "QA": [{"q": "x", "a": "1 - 2 seconds"}]}
    path = write(tmp_path / "c.json", [good, bad, good])
    out = tmp_path / "out.jsonl"
    assert convert.main([path, "-o", str(out), "--json"]) == 1  # a third is more than may be dropped
    (report,) = json.loads(capsys.readouterr().out)["files"]
    assert (report["written"], list(report["dropped_by_kind"])) == (2, [kind])
    assert report["dropped_by_kind"][kind]["examples"][0].startswith(f"{path}:1: ")


def test_steps_of_hirest_are_read_where_they_are_named(tmp_path):
    step = {"index": 0, "heading": "fold", "absolute_bounds": [1, 2]}
    path = write(tmp_path / "h.json", {"P": {"a.mp4": {"v_duration": 9.0, "bounds": [1, 5], "steps": [step]}}})
    out = tmp_path / "out.jsonl"
    assert convert.main(["hirest_steps", path, "-o", str(out)]) == 0
    assert json.loads(out.read_text()) == row("a.mp4", 9, [1, 2], "fold", prompt="P", step=0)


def test_classes_of_charades_are_named_by_the_file_beside_it(tmp_path):
    write(tmp_path / "Charades_v1_classes.txt", "c001 Closing a window\n")
    path = write(tmp_path / "c.csv", "id,actions,length\nA,c001 1 2;c002 3 4,9\n")
    out = tmp_path / "out.jsonl"
    assert convert.main([path, "-o", str(out)]) == 0
    assert [json.loads(line)["sentence"] for line in out.read_text().splitlines()] == ["Closing a window", "c002"]


def test_a_row_of_a_table_that_was_cut_short_is_told_where_it_holds_nothing(tmp_path, capsys):
    # The last row leaves out a value that nobody needs.
    lines = ["id,subject,scene,actions,length,,", "A,s,Hall,c001 1 2,9,,", "AAH6R,ENHU,Closet", "B,s,Hall,c001 3 4"]
    path, out = write(tmp_path / "Charades_v1_test.csv", "\n".join(lines)), tmp_path / "out.jsonl"
    assert convert.main([path, "-o", str(out)]) == 1
    assert [json.loads(line)["video"] for line in out.read_text().splitlines()] == ["A", "B"]
    told = capsys.readouterr()
    assert f"{path}:3: has 3 values for 7 columns (cut short?); correct it" in told.out
    assert "33.3% of 3 rows are dropped, most for row-columns" in told.err


def test_tvsums_scores_become_the_best_shots_and_its_duration_seconds(tmp_path, capsys):
    label = [[1, 1]] * 8 + [[5, 5], [5, 4]]
    path = write(
        tmp_path / "tvsum.jsonl",
        {"qid": "a", "query": "x", "duration": 10, "vid": "a", "relevant_windows": None, "label": label},
    )
    out = tmp_path / "out.jsonl"
    assert convert.main([path, "-o", str(out)]) == 0
    found = json.loads(out.read_text())
    assert (found["duration"], found["timestamp"]) == (20, [16, 20])
    assert f"{path}:1: 10 shots → 20 s" in capsys.readouterr().out


def test_the_best_shots_are_joined_and_equals_are_all_taken():
    assert best_shots([0, 3, 3, 0, 3], shot_s=2, share=0.2) == [[2, 6], [8, 10]]
    assert spans_of_points([0.0, 1.5, 2.0, 9.0]) == [[0.0, 0.5], [1.5, 2.5], [9.0, 9.5]]
    assert spans_of_points([3.0]) == [[3.0, 4.0]]


def test_the_span_that_most_agree_with_is_taken():
    assert most_agreed([[0, 10], [4, 6], [4, 7], [20, 30]]) == [4, 7]


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("13.4-28.1", [[13.4, 28.1]]),
        ("The given query happens in 35.0 - 79.0 seconds.", [[35, 79]]),
        ("from 1.5s to 4 s and from 6 to 7", [[1.5, 4], [6, 7]]),
        ("[[0, 3.5], [10, 12]]", [[0, 3.5], [10, 12]]),
        ("starts at 00:00:18 and 00:01:23", [[18, 83]]),
        ("no times", []),
    ],
)
def test_spans_are_read_from_text(text, spans):
    assert spans_of_text(text) == spans


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("1.5", 1.5),
        ("2,5", 2.5),
        ("1:02.5", 62.5),
        ("01:00:00", 3600),
        ("7 s", 7),
        (True, None),
        ("nan", None),
        (None, None),
    ],
)
def test_numbers_are_read_from_text(value, number):
    assert number_of(value) == number


def test_a_query_is_what_stands_in_quotes_and_an_apostrophe_is_none():
    assert query_of("Find 'the man's hat' in it.") == "the man's hat"
    assert query_of('When? "he sits" Say it as "3 - 5 seconds".') == "he sits"
    assert query_of("<video>when does he sit?") == "when does he sit?"


def test_the_page_on_converting_names_every_form_and_what_it_was_tried_on():
    page = (Path(__file__).parents[3] / "docs" / "converting.md").read_text(encoding="utf-8")
    for name, source in SOURCES.items():
        assert f"| `{name}` | {source.title} | {source.seen or '**not seen on the real file**'} |" in page, name
