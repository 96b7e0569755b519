"""The page on models says what tests run, and of every type."""

import ast
import re
from pathlib import Path

from vtg.models.families import known_types

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")


def test_every_type_is_in_the_matrix_with_its_family():
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \| yes", PAGE, re.M))
    assert rows == known_types()


def test_every_column_is_a_test_that_runs_over_all_types():
    header = next(line for line in PAGE.splitlines() if line.startswith("| `model_type`"))
    columns = [cell.strip() for cell in header.strip("|").split("|")][2:]
    named = dict(re.findall(r"^\| ([^|`]+?) \| `(test_\w+)` \|$", PAGE, re.M))
    assert list(named) == columns
    for test in named.values():
        (source,) = (text for path in ROOT.glob("tests/**/test_*.py") if f"def {test}(" in (text := path.read_text()))
        function = next(
            node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef) and node.name == test
        )
        assert {argument.arg for argument in function.args.args} & {"family", "family_dir", "model_type"}, test
        assert re.search(r"(params=|\"model_type\", )known_types\(\)", source), test
