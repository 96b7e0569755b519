"""From the command line's files to a `RowStore`: rows read, the journal played, foreign files not overwritten."""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from vtg.annotations.formats import format_of
from vtg.annotations.raw_rows import RowsOfLines, row_at
from vtg.annotations.row_checks import Finding, check
from vtg.annotations.sample import VIDEO_ENDINGS, Problem, resolve_video
from vtg.app.rows.edit_journal import EditJournal
from vtg.app.rows.row_list import RowList
from vtg.app.rows.row_proposals import RowProposals
from vtg.app.rows.row_store import RowStore
from vtg.app.rows.row_text import open_row, parsed, text_of
from vtg.app.rows.saved_rows import SavedFiles
from vtg.errors import ConfigError
from vtg.storage.atomic import written_beside
from vtg.storage.file_stamp import file_stamp

JOURNAL_ENDING, ORIGINAL_ENDING = ".journal", ".original"


def open_rows(
    files: Sequence[str] = (),
    *,
    annotate: Sequence[str] = (),
    video_dir: str | None = None,
    predictions: str | None = None,
    save_as: str | None = None,
    overwrite: bool = False,
) -> RowStore:
    """The rows of `files` and of the videos to `annotate`, with what was edited of them before.

    Args:
        files: annotation files, of any format that `vtg.validate` reads.
        annotate: videos, and folders of them, that get an open row each where no row names them.
        video_dir: where relative videos are; with `annotate` and without it, the (first) folder given there.
        save_as: the new file; FILE.edited.jsonl beside the first one, or annotations.jsonl beside the videos.
        overwrite: it may be a file that exists, or FILE itself, which is kept as FILE.original first.

    Raises:
        ConfigError: what cannot be read, or would be overwritten; says what to do.
    """
    if not files and not annotate:
        raise ConfigError("no rows to look at: name annotation files (--rows FILE) or videos (--annotate FOLDER)")
    for path in files:
        if os.path.isdir(path):
            raise ConfigError(f"--rows {path} is a folder; name an annotation file, or --annotate {path}")
    if video_dir is not None and not os.path.isdir(video_dir) and "://" not in video_dir:
        raise ConfigError(f"--video-dir {video_dir} is not a folder; name the folder of the videos")
    if video_dir is None:
        video_dir = next((path for path in annotate if os.path.isdir(path)), None)
    videos = list(_videos(annotate, video_dir))
    saved = SavedFiles(Path(os.path.abspath(save_as or _default_out(files, annotate))))
    if saved.out.is_dir():
        raise ConfigError(f"--save-as {saved.out} is a folder; name a file")
    proposals = RowProposals(predictions)
    try:
        sources = _sources(files, saved.out, overwrite=overwrite)
        faults: list[str] = []
        rows = RowList(_read(sources, faults))
        begin = {"rows": [[os.path.abspath(read), *file_stamp(read)] for _, read in sources]}
        journal = EditJournal(Path(f"{saved.out}{JOURNAL_ENDING}"), begin=begin)
    except OSError as error:
        raise ConfigError(f"{error}; check the path and its permissions") from None
    try:
        saved_revision = _play(rows, saved, journal)
        _claim(saved, journal, overwrite=overwrite)
        _add(rows, journal, videos, video_dir)
    except (ConfigError, OSError):
        journal.close()
        raise
    return RowStore(
        rows,
        journal,
        saved,
        name=files[0] if files else saved.out.name,
        video_dir=video_dir,
        proposals=proposals,
        faults=faults,
        saved_revision=saved_revision,
    )


def _default_out(files: Sequence[str], annotate: Sequence[str]) -> str:
    if files:
        return str(Path(files[0]).with_suffix("")) + ".edited.jsonl"
    first = annotate[0]
    return os.path.join(first if os.path.isdir(first) else os.path.dirname(first), "annotations.jsonl")


def _sources(files: Sequence[str], out: Path, *, overwrite: bool) -> list[tuple[str, str]]:
    """(name, file that is read) of each source: where one is to be overwritten, its copy is read.

    Raises ConfigError where one would be overwritten without being asked for, OSError where it cannot be copied.
    """
    sources = []
    for name in files:
        if os.path.exists(name) and os.path.realpath(name) == os.path.realpath(out):
            if not overwrite:
                raise ConfigError(
                    f"--save-as {out} is the file that is read; name another, or add --overwrite (it is kept as "
                    f"{name}{ORIGINAL_ENDING})"
                )
            if not os.path.exists(copy := f"{name}{ORIGINAL_ENDING}"):
                with written_beside(copy) as beside:
                    shutil.copy2(name, beside)
            sources.append((name, copy))
        else:
            sources.append((name, name))
    return sources


def _read(sources: Sequence[tuple[str, str]], faults: list[str]) -> Iterator[tuple[bytes, str]]:
    """(text, place) of every row; what is wrong with a file rather than a row goes to `faults`."""
    for name, path in sources:
        of_lines = RowsOfLines()
        for item in format_of(path).raw_rows(path):
            if isinstance(item, Problem):
                faults.append(str(item))
                continue
            line, raw = item
            place = f"{name}:{row_at(line, of_lines.nth(line, raw))}"
            _, found = check(raw)
            if found and found[0].field == "file":
                faults.append(f"{place}: {_said(found[0])}")
            else:
                yield raw, place


def _said(finding: Finding) -> str:
    return f"{finding.field}: {finding.message}"


def _play(rows: RowList, saved: SavedFiles, journal: EditJournal) -> int | None:
    """Takes the journal's steps again; returns the revision that was saved last."""
    saved_revision = None
    for number, step in enumerate(journal.steps, 2):
        if "saves" in step or "replaces" in step:
            saved.learn(step.get("saves") or step.get("replaces") or {})
            saved_revision = rows.revision if "saves" in step else saved_revision
            continue
        try:
            rows.play(step)
        except (LookupError, ValueError, TypeError) as error:
            raise ConfigError(
                f"{journal.path}:{number}: is no step that these rows allow ({error}); move the journal away to begin "
                "anew"
            ) from None
    return saved_revision


def _claim(saved: SavedFiles, journal: EditJournal, *, overwrite: bool) -> None:
    """Makes sure that no file of somebody else is replaced, unless that is asked for."""
    while path := saved.foreign():
        if not overwrite:
            raise ConfigError(
                f"{path} exists, and was not written (or was changed) since these edits began; name another --save-as, "
                "or add --overwrite"
            )
        step = {"replaces": {str(path): list(file_stamp(str(path)))}}
        journal.append(step)
        saved.learn(step["replaces"])


def _videos(annotate: Sequence[str], video_dir: str | None) -> Iterator[str]:
    """The names, relative to `video_dir` where they lie in it, of the videos to annotate. Raises ConfigError."""
    for given in annotate:
        if not os.path.exists(given):
            raise ConfigError(f"--annotate {given}: there is no such video or folder; check the path")
        folder = Path(given).is_dir()
        found = sorted(Path(given).rglob("*")) if folder else [Path(given)]
        paths = [path for path in found if not folder or (path.suffix.lower() in VIDEO_ENDINGS and path.is_file())]
        if not paths:
            raise ConfigError(f"--annotate {given}: holds no video ({', '.join(VIDEO_ENDINGS)}); name another folder")
        for path in paths:
            inside = video_dir is not None and path.resolve().is_relative_to(Path(video_dir).resolve())
            yield os.path.relpath(path.resolve(), Path(str(video_dir)).resolve()) if inside else os.path.abspath(path)


def _add(rows: RowList, journal: EditJournal, videos: Sequence[str], video_dir: str | None) -> None:
    """An open row for each video that no row names; a row that was deleted since does not come back."""
    texts = [text for step in journal.steps for text in step.get("extend", ())]
    known = {text_of(parsed(raw) or {}, "video") for raw in (*(row.raw for row in rows), *map(str.encode, texts))}
    paths = {resolve_video(name, video_dir) for name in known if name}
    if new := [name for name in dict.fromkeys(videos) if resolve_video(name, video_dir) not in paths]:
        step = {"extend": [open_row(name).decode() for name in new]}
        journal.append(step)
        rows.play(step)
