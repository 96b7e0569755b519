"""What keeps the code readable for a stranger, held in figures: short files, reasons at decisions, telling names."""

import io
import tokenize
from collections import Counter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "vtg"
FILES = sorted(PACKAGE.rglob("*.py"))

MAX_LINES = 320

MIN_COMMENTS_PER_100_LINES = 3.0
MAX_RECURRING_NAMES = 5

DIRECTIVES = ("# type:", "# noqa", "# pyright", "# fmt", "#!")
"""Comments for tools, which tell a reader no reason."""


def line_count(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n")


def comment_count(path: Path) -> int:
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
    return sum(token.type == tokenize.COMMENT and not token.string.startswith(DIRECTIVES) for token in tokens)


def test_files_stay_short():
    long = {path.relative_to(PACKAGE).as_posix(): line_count(path) for path in FILES if line_count(path) > MAX_LINES}
    assert not long, f"part these along their seams: {long}"


def test_comments_give_reasons_at_three_in_a_hundred_lines():
    per_100 = 100 * sum(map(comment_count, FILES)) / sum(map(line_count, FILES))
    assert per_100 >= MIN_COMMENTS_PER_100_LINES, (
        f"{per_100:.2f} comments in 100 lines: say why at constants and decisions"
    )


def test_hardly_any_file_name_recurs():
    names = Counter(path.name for path in FILES if path.name not in ("__init__.py", "__main__.py"))
    recurring = {name for name, count in names.items() if count > 1}
    assert len(recurring) <= MAX_RECURRING_NAMES, f"give these names of their own: {sorted(recurring)}"
