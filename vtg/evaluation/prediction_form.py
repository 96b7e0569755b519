"""Whether predictions or their truth are in a form of others, rather than this project's, by how the files begin."""

from typing import Any

from vtg.annotations.formats import format_name
from vtg.annotations.sources.file_entries import head_of
from vtg.annotations.sources.recognition import OWN_ROWS, recognize
from vtg.evaluation.answer_tables import ENDINGS
from vtg.evaluation.published_predictions import DOCUMENTS, KEY_SEPARATOR, ROWS


def in_other_form(predictions: str, *, annotations: str | None, field: str | None) -> bool:
    """Whether one of both files is in such a form; `field`: as `read_predictions` takes it.

    Raises OSError for a file that cannot be opened.
    """
    # Rows with a prediction under a key of the user's are annotations themselves.
    truth = predictions if annotations is None and field is not None else annotations
    if truth is not None and format_name(truth) == "jsonl":
        forms = recognize(truth).forms
        if forms and OWN_ROWS not in forms:
            return True
    return predictions.endswith(ENDINGS) or _is_of_others(predictions)


def _is_of_others(path: str) -> bool:
    head = head_of(path)
    if head.shape == "object":
        begin = dict(head.first) if head.inside is None else {head.inside: head.objects()}
        if any(fits(begin) for _, fits, _ in DOCUMENTS):
            return True
        first: Any = dict.fromkeys(head.keys)
    else:
        first = head.first[0][1] if head.first else None
    if not isinstance(first, dict):
        return isinstance(first, list)
    form = next((form for form, keys, _ in ROWS if any(key in first for key in keys)), None)
    return form not in (None, OWN_ROWS) or (bool(first) and all(KEY_SEPARATOR in key for key in first))
