"""Rows opened, looked at, edited, undone, saved and taken up again: what a page asks, without one."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtg.app.rows.opened_rows import open_rows
from vtg.app.rows.row_filter import RowFilter
from vtg.app.rows.row_list import RowList
from vtg.app.rows.row_store import RowStore, StaleEdit
from vtg.app.rows.row_text import spans_in, with_values
from vtg.errors import ConfigError, SampleError
from vtg.validate import main as validate

ODD = '{"video": "a.mp4", "weight": 1.50e0, "duration": 30, "timestamp": [2,5], "sentence": "one", "tags": [1.0, "ä"]}'
GOOD = {
    "video": "b.mp4",
    "duration": 20.0,
    "timestamp": [[1.0, 4.0], [6.0, 9.0]],
    "sentence": "two",
    "source": "didemo",
}
REVERSED = {"video": "b.mp4", "duration": 20.0, "timestamp": [5.0, 2.0], "sentence": "three"}
NONE = {"video": "c.mp4", "duration": 10.0, "timestamp": [], "sentence": "four", "pred": [1.0, 2.0]}


@pytest.fixture
def rows_file(tmp_path: Path) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([ODD, json.dumps(GOOD), json.dumps(REVERSED), "{broken", json.dumps(NONE)]) + "\n")
    for name in "abc":
        (tmp_path / f"{name}.mp4").touch()
    return str(path)


@pytest.fixture
def opened(rows_file: str) -> Iterator[Callable[..., RowStore]]:
    """Opens the rows again and again, as one process after another does."""
    last: list[RowStore] = []

    def open_again(*files: str, **options: Any) -> RowStore:
        if last:
            last.pop().close()
        folder = options.pop("video_dir", str(Path(rows_file).parent))
        last.append(open_rows(files or [rows_file], video_dir=folder, **options))
        return last[0]

    yield open_again
    for store in last:
        store.close()


def keys(store: RowStore, **asked: Any) -> list[int]:
    return [one.row.key for one in store.page(RowFilter(**asked), limit=100)[2]]


def set_values(store: RowStore, key: int, **values: Any) -> int:
    return store.set_values(key, values, revision=store.rows.revision)


def texts(store: RowStore) -> list[bytes]:
    return [row.raw for row in store.rows]


def test_an_edited_row_keeps_every_other_value_as_it_was_given():
    edited = with_values(ODD.encode(), {"timestamp": [1.5, 4]})
    assert edited.decode() == (
        '{"video":"a.mp4","weight":1.50e0,"duration":30,"timestamp":[1.5,4],"sentence":"one","tags":[1.0, "ä"]}'
    )
    for value, message in ((float("nan"), "is no number"), (10**400, "is no number"), ("\ud800", "half a character")):
        with pytest.raises(SampleError, match=message):
            with_values(ODD.encode(), {"sentence": value})
    with pytest.raises(SampleError, match=r"'weight' is no key that is edited here \(video, duration"):
        with_values(ODD.encode(), {"weight": 2})


@pytest.mark.parametrize(
    ("timestamp", "spans"),
    [([1, 2], [(1, 2)]), ([[1, 2], [3, 4]], [(1, 2), (3, 4)]), ([], []), ([1], []), ([[1, 2], "x"], [(1, 2)]), (3, [])],
)
def test_moments_are_read_also_of_rows_with_faults(timestamp: object, spans: list[tuple[float, float]]):
    assert spans_in({"timestamp": timestamp}) == spans


def test_rows_are_filtered_by_finding_source_text_and_iou(opened: Callable[..., RowStore], tmp_path: Path):
    predictions = tmp_path / "predictions.jsonl"
    answers = [
        {"video": "x/a.mp4", "sentence": "one", "prediction": [[2.0, 3.5]]},
        {"video": "b.mp4", "sentence": "two", "prediction": [[1.0, 4.0], [6.0, 9.0]]},
    ]
    predictions.write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    store = opened(predictions=str(predictions))
    assert store.kinds()["timestamp-reversed"] == (1, "error")
    assert keys(store, finding="timestamp-reversed") == [2]
    assert keys(store, finding="any") == [2, 3]
    assert keys(store, finding="none") == [0, 1, 4]
    assert keys(store, source="didemo") == [1]
    assert keys(store, text="FOUR") == [4]
    assert keys(store, text="{broken") == [3]
    assert keys(store, max_iou=0.6) == [0, 4]  # the last: no moment, where its pred has one
    assert keys(store, min_iou=0.9) == [1]
    assert store.looked(0).iou == pytest.approx(0.5)
    assert store.step(RowFilter(finding="any"), 0, 1).row.key == 2  # type: ignore[union-attr]
    assert store.step(RowFilter(finding="any"), 2, -1) is None


def test_a_row_that_was_mended_is_a_place_to_go_on_from(opened: Callable[..., RowStore]):
    store = opened()
    set_values(store, 2, timestamp=[2.0, 5.0])
    assert keys(store, finding="any") == [3] and keys(store, finding="edited") == [2]
    assert store.step(RowFilter(finding="any"), 2, 1).row.key == 3  # type: ignore[union-attr]


def test_repeated_qids_and_missing_videos_are_findings_of_their_rows(tmp_path: Path, opened: Callable[..., RowStore]):
    rows = tmp_path / "two.jsonl"
    rows.write_text("".join(json.dumps(NONE | {"qid": "same", "video": name}) + "\n" for name in ("c.mp4", "d.mp4")))
    store = opened(str(rows))
    assert set(store.kinds()) == {"qid-repeated", "video-missing"}
    assert [one.kind for one in store.problems(store.rows[1])] == ["video-missing", "qid-repeated"]


def test_what_was_edited_survives_a_kill_and_can_be_undone_after_it_and_after_saving(opened: Callable[..., RowStore]):
    store = opened()
    before = texts(store)
    set_values(store, 2, timestamp=[2.0, 5.0])
    new = store.insert(1, revision=store.rows.revision)
    set_values(store, new, sentence="five", timestamp=[3.0, 4.0])
    store.edit({"delete": 0}, revision=store.rows.revision)
    store.save(keeps_bad=False, revision=store.rows.revision)
    edited, revision = texts(store), store.rows.revision
    journal = Path(f"{store.files.out}.journal")
    with journal.open("ab") as file:
        file.write(b'{"delete": 1')  # a kill in the middle of a step
    store = opened()
    assert texts(store) == edited and store.rows.revision == revision and store.is_saved
    for _ in range(4):
        store.edit({"undo": 1}, revision=store.rows.revision)
    assert texts(store) == before and not store.is_saved and not store.rows.can_undo
    for _ in range(4):
        store.edit({"redo": 1}, revision=store.rows.revision)
    assert texts(store) == edited
    with pytest.raises(SampleError, match="nothing to redo"):
        store.edit({"redo": 1}, revision=store.rows.revision)


def test_a_saved_file_passes_and_holds_what_was_given_and_bad_rows_lie_beside_it(
    opened: Callable[..., RowStore], rows_file: str
):
    store = opened()
    source = Path(rows_file).read_bytes()
    set_values(store, 1, timestamp=[1.0, 4.0])
    assert store.save(keeps_bad=False, revision=store.rows.revision) == {"written": 3, "apart": 2, "open": 0}
    lines = store.files.out.read_text(encoding="utf-8").splitlines()
    assert lines[0] == ODD and json.loads(lines[1]) == GOOD | {"timestamp": [1.0, 4.0]}
    assert validate([str(store.files.out)]) == 0
    rejected = [json.loads(line) for line in store.files.rejects.read_text().splitlines()]
    assert [row["place"].rpartition(":")[2] for row in rejected] == ["3", "4"]
    assert json.loads(rejected[0]["row"]) == REVERSED and rejected[1]["row"] == "{broken"
    assert rejected[0]["problems"][0].startswith("timestamp: [5, 2] is reversed")
    assert Path(rows_file).read_bytes() == source
    # Once they are mended nothing lies beside it; kept, they stay in their places.
    store.save(keeps_bad=True, revision=store.rows.revision)
    assert store.files.out.read_text(encoding="utf-8").splitlines()[3] == "{broken"
    assert not store.files.rejects.exists()


def test_a_stale_edit_is_refused_and_changes_nothing(opened: Callable[..., RowStore]):
    store = opened()
    seen = store.rows.revision
    set_values(store, 0, sentence="of one tab")
    with pytest.raises(StaleEdit, match=r"edited elsewhere .* \(revision 0, now 1\)"):
        store.set_values(0, {"sentence": "of another"}, revision=seen)
    with pytest.raises(StaleEdit):
        store.save(keeps_bad=False, revision=seen)
    assert b"of one tab" in store.rows[0].raw and not store.files.out.exists()


def test_two_processes_do_not_edit_the_same_rows(opened: Callable[..., RowStore], rows_file: str):
    opened()
    with pytest.raises(ConfigError, match=r"another vtg\.app edits these rows"):
        open_rows([rows_file])


def test_text_that_is_no_object_is_refused_and_a_broken_row_can_be_mended(opened: Callable[..., RowStore]):
    store = opened()
    for text, message in (("{", "is no JSON"), ("[1]", "must be a JSON object")):
        with pytest.raises(SampleError, match=message):
            store.set_text(3, text, revision=0)
    with pytest.raises(SampleError, match="no JSON object; mend its text first"):
        set_values(store, 3, sentence="x")
    store.set_text(3, json.dumps(GOOD, indent=1), revision=0)
    assert b"\n" not in store.rows[3].raw and not store.problems(store.rows[3])


def test_nothing_is_overwritten_unasked(opened: Callable[..., RowStore], rows_file: str):
    out = Path(rows_file).with_suffix(".edited.jsonl")
    out.write_text("somebody's\n")
    with pytest.raises(ConfigError, match=r"edited.jsonl exists, and was not written .* or add --overwrite"):
        opened()
    with pytest.raises(ConfigError, match=r"is the file that is read; name another, or add --overwrite"):
        opened(save_as=rows_file)
    assert out.read_text() == "somebody's\n"
    store = opened(overwrite=True)
    store.save(keeps_bad=False, revision=0)
    out.write_text("changed meanwhile\n")
    with pytest.raises(SampleError, match="was changed by another program; nothing was saved"):
        store.save(keeps_bad=False, revision=0)
    with pytest.raises(ConfigError, match="exists, and was not written"):
        opened()


def test_a_file_edited_in_place_keeps_its_original_and_its_undo(opened: Callable[..., RowStore], rows_file: str):
    source = Path(rows_file).read_bytes()
    store = opened(save_as=rows_file, overwrite=True)
    set_values(store, 0, sentence="changed")
    store.save(keeps_bad=False, revision=store.rows.revision)
    assert Path(f"{rows_file}.original").read_bytes() == source
    assert validate([rows_file]) == 0 and b"changed" in Path(rows_file).read_bytes()
    store = opened(save_as=rows_file, overwrite=True)
    store.edit({"undo": 1}, revision=store.rows.revision)
    assert store.rows[0].raw.strip().decode() == ODD


def test_edits_of_another_version_of_the_file_are_not_played_over_it(opened: Callable[..., RowStore], rows_file: str):
    set_values(opened(), 0, sentence="changed")
    with Path(rows_file).open("a") as file:
        file.write(json.dumps(GOOD) + "\n")
    with pytest.raises(ConfigError, match=r"these edits were begun on other rows .* move the journal away"):
        opened()


def test_new_videos_get_an_open_row_each_and_only_what_was_written_is_saved(tmp_path: Path):
    folder = tmp_path / "videos"
    (folder / "more").mkdir(parents=True)
    for name in ("1.mp4", "2.webm", "more/3.mkv", "notes.txt"):
        (folder / name).touch()
    proposals = tmp_path / "proposals.jsonl"
    proposals.write_text(json.dumps({"video": "1.mp4", "duration": 9.0, "timestamp": [2.0, 3.0], "sentence": "seen"}))
    store = open_rows(annotate=[str(folder)], predictions=str(proposals))
    assert [one.value["video"] for one in store.page(RowFilter(finding="open"), limit=9)[2]] == [  # type: ignore[index]
        "1.mp4",
        "2.webm",
        "more/3.mkv",
    ]
    assert not store.kinds() and store.open_count() == 3
    (proposed,) = store.proposed(store.looked(0).value)  # type: ignore[arg-type]
    assert proposed.spans == ((2.0, 3.0),) and proposed.sentence == "seen"
    set_values(store, 0, sentence="seen", timestamp=[2.0, 3.0], duration=9.0)
    store.edit({"delete": 1}, revision=store.rows.revision)
    assert store.save(keeps_bad=False, revision=store.rows.revision) == {"written": 1, "apart": 0, "open": 1}
    assert validate([str(folder / "annotations.jsonl"), "--video-dir", str(folder)]) == 0
    store.close()
    (folder / "4.mp4").touch()
    store = open_rows(annotate=[str(folder)], predictions=str(proposals))
    assert [json.loads(row.raw)["video"] for row in store.rows] == ["1.mp4", "more/3.mkv", "4.mp4"]
    assert store.proposed({"video": "1.mp4", "sentence": ""}) == []  # another row has taken it up
    store.close()


def test_a_page_opens_no_file_that_no_row_named(
    opened: Callable[..., RowStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = opened(video_dir=None)
    store.check_shown({"video": "a.mp4"})
    with pytest.raises(SampleError, match="was named here, and by no file"):
        store.check_shown({"video": "/etc/hostname"})
    monkeypatch.chdir(tmp_path)
    inside = opened(video_dir=str(tmp_path))
    inside.check_shown({"video": "new.mp4"})
    for video in ("../other.mp4", "file:///etc/hostname", "http://127.0.0.1/a.mp4"):
        with pytest.raises(SampleError, match="was named here, and by no file"):
            inside.check_shown({"video": video})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_step_that_cannot_be_written_is_not_taken(opened: Callable[..., RowStore], monkeypatch: pytest.MonkeyPatch):
    store = opened()
    with Path("/dev/full").open("ab", buffering=0) as full:
        monkeypatch.setattr(store._journal, "_file", full)
        with pytest.raises(OSError):
            set_values(store, 0, sentence="lost?")
    assert store.rows.revision == 0 and store.rows[0].raw.strip().decode() == ODD


STEPS = st.lists(st.tuples(st.sampled_from(["replace", "insert", "delete", "undo", "redo"]), st.integers(0, 7)))


@settings(max_examples=200)
@given(STEPS)
def test_undoing_all_gives_the_first_rows_and_playing_all_again_the_last(drawn: list[tuple[str, int]]):
    first = [(b"a", "f:1"), (b"b", "f:2"), (b"c", "f:3")]
    rows, steps = RowList(first), []
    for number, (name, at) in enumerate(drawn):
        order = [row.key for row in rows]
        step: dict[str, Any] = {name: 1}
        if name == "insert":
            step = {"insert": rows.next_key, "at": min(at, len(order)), "row": f"new {number}"}
        elif name in ("replace", "delete"):
            if not order:
                continue
            step = {name: order[at % len(order)], "row": f"text {number}"}
        elif not (rows.can_undo if name == "undo" else rows.can_redo):
            continue
        rows.play(step)
        steps.append(step)
    again = RowList(first)
    for step in steps:
        again.play(step)
    assert list(again) == list(rows) and again.revision == len(steps)
    while rows.can_undo:
        rows.play({"undo": 1})
    assert [(row.raw, row.place) for row in rows] == first
