"""JSON files give back what was written to them, whatever text it holds."""

import json
import os

from hypothesis import given
from hypothesis import strategies as st

from vtg.storage.json_files import read_jsonl, whole_lines, write_json, write_jsonl

ODD = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\rh\ni"


@given(st.lists(st.dictionaries(st.text(), st.text())))
def test_rows_come_back_whatever_text_they_hold(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_jsonl(path, [*rows, {"sentence": ODD}])
    assert read_jsonl(path) == [*rows, {"sentence": ODD}]
    assert [json.loads(line) for line in whole_lines(path)] == [*rows, {"sentence": ODD}]


def test_a_row_without_its_end_is_read_where_a_program_wrote_it_and_left_out_where_it_may_be_half(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n{"a": 2}')
    assert read_jsonl(tmp_path / "rows.jsonl") == [{"a": 1}, {"a": 2}]
    assert whole_lines(tmp_path / "rows.jsonl") == ['{"a": 1}\n']
    assert whole_lines(tmp_path / "absent.jsonl") == []


def test_names_that_are_no_text_can_be_written_and_read_back(tmp_path):
    name = os.fsdecode(b"caf\xe9.mp4")
    write_json(tmp_path / "a.json", {"video": name})
    write_jsonl(tmp_path / "a.jsonl", [{"video": name}, {"video": "café"}])
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {"video": name}
    assert read_jsonl(tmp_path / "a.jsonl") == [{"video": name}, {"video": "café"}]
