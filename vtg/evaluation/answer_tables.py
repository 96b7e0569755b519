"""Tables of answers as VLMEvalKit writes them: `.tsv`, `.csv`, and `.xlsx`, which is its default."""

import csv
import re
import zipfile
from collections.abc import Iterator
from xml.etree import ElementTree

from vtg.evaluation.prediction_rows import PredictionRow

ENDINGS = (".tsv", ".csv", ".xlsx")

# A chain of thought is longer than csv's default limit of a field.
MAX_FIELD_CHARACTERS = 1 << 24

# Unpacked, of one part of a workbook: far above any benchmark's answers, and far below what a zip bomb makes.
MAX_SHEET_BYTES = 1 << 30

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def table_rows(path: str) -> Iterator[tuple[str, PredictionRow]]:
    """(place, row by the names in the table's first line). Empty cells are "".

    Raises OSError, and ValueError naming the path for what is no such table.
    """
    if path.endswith(".xlsx"):
        yield from _of_workbook(path)
        return
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t" if path.endswith(".tsv") else ",")
        for row in reader:
            yield f"{path}:{reader.line_num}", row


def _of_workbook(path: str) -> Iterator[tuple[str, PredictionRow]]:
    """The first sheet of a workbook, read as the zip file of XML that it is: answers need nothing else of it."""
    try:
        with zipfile.ZipFile(path) as book:
            names = book.namelist()
            sheets = sorted(name for name in names if re.fullmatch(r"xl/worksheets/sheet\d+\.xml", name))
            if not sheets:
                raise ValueError(f"{path}: is no workbook with a sheet; save it as .tsv")
            texts = _texts(book, path) if "xl/sharedStrings.xml" in names else []
            sheet = _part(book, sheets[0], path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: is no workbook ({error}); write it again, or save it as .tsv") from None
    heads: dict[str, str] = {}
    for line in sheet.iter(f"{_MAIN}row"):
        cells = {re.sub(r"\d", "", cell.get("r", "")): _cell(cell, texts) for cell in line.iter(f"{_MAIN}c")}
        if not heads:
            heads = cells
        else:
            yield f"{path}:{line.get('r')}", {head: cells.get(column, "") for column, head in heads.items()}


def _part(book: zipfile.ZipFile, name: str, path: str) -> ElementTree.Element:
    size = book.getinfo(name).file_size
    if size > MAX_SHEET_BYTES:
        raise ValueError(f"{path}: {name} is {size:,} bytes unpacked, more than {MAX_SHEET_BYTES:,}; save it as .tsv")
    try:
        return ElementTree.fromstring(book.read(name))
    except ElementTree.ParseError as error:
        raise ValueError(f"{path}: {name} is broken ({error}); write it again, or save it as .tsv") from None


def _texts(book: zipfile.ZipFile, path: str) -> list[str]:
    """The texts that cells name by number; each may be in several runs of one style."""
    return [_text(entry) for entry in _part(book, "xl/sharedStrings.xml", path).iter(f"{_MAIN}si")]


def _text(entry: ElementTree.Element) -> str:
    return "".join(run.text or "" for run in entry.iter(f"{_MAIN}t"))


def _cell(cell: ElementTree.Element, texts: list[str]) -> str:
    if cell.get("t") == "inlineStr":
        return _text(cell)
    value = cell.findtext(f"{_MAIN}v", default="")
    if cell.get("t") == "s" and value.isdecimal() and int(value) < len(texts):
        return texts[int(value)]
    return value
