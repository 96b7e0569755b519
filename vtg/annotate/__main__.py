"""Annotates videos with a vision-language model: an endpoint of OpenAI's chat protocol, or a checkpoint.

    python -m vtg.annotate VIDEO|FOLDER|LEROBOT ... -o OUT.jsonl --endpoint http://HOST:PORT/v1 ... --model NAME
        [--modules segments,plan,memory,vqa,interjections] [--show sheets|frames|video] [--write-back]
    python -m vtg.annotate ... --model NAME --servers N [--tensor-parallel-size T]
    python -m vtg.annotate ... --checkpoint RUN

Segments (what happens when) become annotation rows in OUT.jsonl, which `vtg.validate` checks and training reads; all
that was found becomes rows of role, style and time in OUT.language.jsonl. Answers are checked: inside their window, in
order, put on the times of real frames, none empty; one that cannot be read is asked for again, with what was wrong.
Every module of every video leaves a file in OUT.stages: run the same command again to go on after an interruption;
a change of the model, the prompts, the settings or a video asks again. A video that fails costs only itself, and is
listed. Several endpoints are asked in turn; --servers starts as many (vLLM, or --serve-command) on T GPUs each, and
stops them at the end. --checkpoint takes what `vtg.predict` does, and answers in this process, on one GPU or the CPU,
kept to the form that is asked for. --spans asks about each span that annotation rows have of the videos, such as
`vtg.latents boundaries` finds, instead of windows of even length. --write-back writes into the language columns of the
LeRobot data sets that were given, too.

Exit code 0: all were annotated. 1: some failed, or the model cannot be asked. 2: wrong usage. 130: interrupted.
"""

import argparse
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vtg.annotate.annotating import MODULES, NEED_SEGMENTS, SHOWN, AnnotateSettings, Work, annotate
from vtg.annotate.annotation_rows import grounding_rows, language_rows
from vtg.annotate.chat_model import ChatModel
from vtg.annotate.endpoint import Endpoint
from vtg.annotate.episode_sources import Source, sources_of
from vtg.annotate.known_spans import with_spans
from vtg.annotate.lerobot_columns import write_back
from vtg.annotate.servers import COMMAND, servers
from vtg.console import stdout_may_close
from vtg.entry import loading
from vtg.errors import ConfigError, RunError, SampleError
from vtg.progress_bar import ProgressBar
from vtg.storage.json_files import write_jsonl
from vtg.video.episodes.frame_providers import make_frame_provider

DEFAULTS = AnnotateSettings()

OF_SERVERS = ("tensor_parallel_size", "serve_command", "start_timeout_s")
"""Options of servers that this command starts."""


def main(argv: list[str] | None = None) -> int:
    """Parses, annotates, prints; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        settings = _settings(options)
        _check_model(options, parser)
        if not options.output.endswith(".jsonl"):
            raise ConfigError(f"-o {options.output}: the name must end in .jsonl")
        sources = sources_of(options.sources)
        if options.spans is not None:
            if "segments" not in settings.modules:
                raise ConfigError(f"--spans {options.spans}: they are asked about by segments; add it to --modules")
            sources = with_spans(sources, options.spans)
        run = AnnotationRun(sources, settings, options.output, parallel=options.parallel)
        local = _loaded(options.checkpoint, settings) if options.checkpoint else None
    except (ConfigError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except OSError as error:
        print(f"error: {error}; check the path and its permissions", file=sys.stderr)
        return 2
    try:
        if local is not None:
            run.run(local)
        else:
            with _endpoint(options) as endpoint:
                run.run(endpoint)
        written = run.write()
        if options.write_back:
            written += [f"{root}: {files} data files" for root, files in run.write_back().items()]
    except (ConfigError, RunError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    with stdout_may_close():
        print("\n".join([*written, *run.lines()]))
    if run.interrupted:
        return 130
    return 0 if not run.failed and run.stopped is None else 1


class AnnotationRun:
    """Several sources at a time through the modules, and what became of each.

    Attributes:
        done: the work of sources that went well, in the order of the sources.
        failed: key → why.
        stopped: why the model could not be asked any further; None where it could.
    """

    def __init__(self, sources: list[Source], settings: AnnotateSettings, output: str, *, parallel: int) -> None:
        self.sources, self.settings, self.parallel = sources, settings, parallel
        self.output, self.stem = output, output.removesuffix(".jsonl")
        self.done: dict[str, tuple[Work, list[dict[str, Any]], list[dict[str, Any]]]] = {}
        self.failed: dict[str, str] = {}
        self.stopped: str | None = None
        self.interrupted = False
        self._ending = threading.Event()
        self._stages = Path(f"{self.stem}.stages")
        records = [source.record for source in sources]
        self._provider = make_frame_provider(records, camera_key=settings.camera, clip_dir=self._stages / "clips")

    def run(self, model: ChatModel) -> None:
        """Annotates by what a model answers; raises OSError where OUT.stages cannot be written."""
        bar = ProgressBar(len(self.sources), title="annotating", unit="video")

        def work_on(source: Source) -> None:
            if self._ending.is_set():
                return
            work = Work(source, self.settings, model, self._provider)
            try:
                annotate(work, self._stages)
                self.done[source.key] = (work, grounding_rows(work), language_rows(work))
            except RunError as error:  # every further question would end so
                self.stopped = str(error)
                self._ending.set()
            except (SampleError, ConfigError) as error:  # ConfigError: an episode lacks the camera that others have
                self.failed[source.key] = str(error)
            bar.update()

        pool = ThreadPoolExecutor(self.parallel)
        try:
            with bar:
                for _ in pool.map(work_on, self.sources):
                    pass
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            self._ending.set()
            pool.shutdown(cancel_futures=True)

    def write(self) -> list[str]:
        """Writes the rows of what is done, each file whole; returns a line for each."""
        ordered = [self.done[source.key] for source in self.sources if source.key in self.done]
        grounding = [row for _, rows, _ in ordered for row in rows]
        language = [row for _, _, rows in ordered for row in rows]
        write_jsonl(self.output, grounding)
        write_jsonl(f"{self.stem}.language.jsonl", language)
        return [f"{self.output}: {len(grounding)} rows", f"{self.stem}.language.jsonl: {len(language)} rows"]

    def write_back(self) -> dict[str, int]:
        """LeRobot root → data files that were written."""
        by_root: dict[str, dict[int, list[dict[str, Any]]]] = defaultdict(dict)
        for work, _, language in self.done.values():
            if work.source.root is not None:
                by_root[work.source.root][work.source.episode] = language
        return {root: write_back(root, rows) for root, rows in by_root.items()}

    def lines(self) -> list[str]:
        """What became of the sources, for a terminal."""
        without = sum(not source.record.cameras for source in self.sources if source.key in self.done)
        text = f", {without} without video, from text alone" if without else ""
        lines = [f"{len(self.done)} of {len(self.sources)} annotated{text}"]
        lines += [f"failed: {key}: {why}" for key, why in self.failed.items()]
        if self.stopped is not None:
            lines.append(f"stopped: {self.stopped}")
        if self.interrupted or self.stopped is not None:
            lines.append("run the same command again to go on")
        return lines


def _settings(options: argparse.Namespace) -> AnnotateSettings:
    """Raises ConfigError for values that cannot be."""
    asked = tuple(options.modules.split(","))
    if unknown := [name for name in asked if name not in MODULES]:
        raise ConfigError(f"--modules {unknown[0]}: no such module; they are {', '.join(MODULES)}")
    if "segments" not in asked and set(asked) & set(NEED_SEGMENTS):
        raise ConfigError(f"--modules {options.modules}: {', '.join(NEED_SEGMENTS)} need segments; add it")
    positive = ("fps", "max_frames", "window_s", "keyframes_per_episode", "parallel", "timeout_s")
    for name in (*positive, "tensor_parallel_size", "start_timeout_s"):
        if not getattr(options, name) > 0:
            raise ConfigError(f"--{name.replace('_', '-')} {getattr(options, name)}: must be above 0")
    for name in ("retries", "servers"):
        if getattr(options, name) < 0:
            raise ConfigError(f"--{name} {getattr(options, name)}: must be at least 0")
    return AnnotateSettings(
        modules=tuple(name for name in MODULES if name in asked),
        show=options.show,
        fps=options.fps,
        max_frames=options.max_frames,
        window_s=options.window_s,
        keyframes_per_episode=options.keyframes_per_episode,
        camera=options.camera,
    )


def _check_model(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Raises ConfigError where it is not said, or said twice, what is asked."""
    if options.checkpoint is None:
        if not (options.endpoint or options.servers):
            raise ConfigError("which model? Give --endpoint URL, --servers N to start some, or --checkpoint RUN")
        if options.model is None:
            raise ConfigError("which model of the endpoint? Give --model NAME")
        for name in OF_SERVERS if not options.servers else ():
            if getattr(options, name) != parser.get_default(name):
                raise ConfigError(f"--{name.replace('_', '-')} is of servers that are started: add --servers N")
        _endpoint_at(options, options.endpoint)
        return
    if options.endpoint or options.servers:
        raise ConfigError("--checkpoint answers in this process: give it, or --endpoint or --servers, not both")
    for name in ("model", "timeout_s", "retries", *OF_SERVERS):
        if getattr(options, name) != parser.get_default(name):
            raise ConfigError(f"--{name.replace('_', '-')} is of endpoints: leave it out beside --checkpoint")


def _loaded(checkpoint: str, settings: AnnotateSettings) -> ChatModel:
    """Raises ConfigError or RunError for a checkpoint that cannot be loaded."""
    with loading("torch and transformers"):
        from vtg.annotate.local_model import LocalModel
        from vtg.logs import start_logging

    start_logging()
    return LocalModel(checkpoint, pictures=settings.show != "video" or "vqa" in settings.modules)


def _endpoint_at(options: argparse.Namespace, addresses: Sequence[str]) -> Endpoint:
    return Endpoint(tuple(addresses), options.model, options.timeout_s, options.retries)


@contextmanager
def _endpoint(options: argparse.Namespace) -> Iterator[Endpoint]:
    """The endpoint, with the servers that are to be started, which end with the block."""
    if not options.servers:
        yield _endpoint_at(options, options.endpoint)
        return
    with servers(
        options.servers,
        model=options.model,
        tensor_parallel_size=options.tensor_parallel_size,
        command=options.serve_command,
        logs=Path(f"{options.output.removesuffix('.jsonl')}.servers"),
        start_timeout_s=options.start_timeout_s,
    ) as addresses:
        yield _endpoint_at(options, [*options.endpoint, *addresses])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vtg.annotate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("sources", nargs="+", metavar="VIDEO|FOLDER|LEROBOT", help="videos, folders of them, LeRobot data sets (v3)")
    add("-o", "--output", required=True, metavar="OUT.jsonl", help="the annotation rows")
    add(
        "--endpoint",
        nargs="+",
        default=[],
        metavar="URL",
        help="of servers, up to and with /v1; $OPENAI_API_KEY is sent",
    )
    add("--model", metavar="NAME", help="the model's name at the endpoint")
    add(
        "--checkpoint",
        metavar="RUN",
        help="instead of an endpoint: a run directory, a checkpoint or model folder, a hub name, or tiny",
    )
    add(
        "--modules",
        default=",".join(DEFAULTS.modules),
        metavar="A,B",
        help=f"of {', '.join(MODULES)} (default: segments)",
    )
    add("--show", choices=list(SHOWN), default=DEFAULTS.show, help="sheets of frames, frames, or a file:// video")
    add("--fps", type=float, default=DEFAULTS.fps, metavar="F", help="frames a second of a window (default: 1)")
    add("--max-frames", type=int, default=DEFAULTS.max_frames, metavar="N", help="of a window (default: 60)")
    add("--window-s", type=float, default=DEFAULTS.window_s, metavar="S", help="longest window (default: 60 s)")
    add("--spans", metavar="ROWS.jsonl", help="ask about each span of these rows (vtg.latents boundaries writes some)")
    add("--camera", metavar="KEY", help="the camera that segments are of (default: the first)")
    add(
        "--keyframes-per-episode",
        type=int,
        default=DEFAULTS.keyframes_per_episode,
        metavar="N",
        help="questions of a camera",
    )
    add("--parallel", type=int, default=4, metavar="N", help="videos at a time (default: 4)")
    add("--timeout-s", type=float, default=120.0, metavar="S", help="for one answer (default: 120)")
    add("--retries", type=int, default=3, metavar="N", help="where the server does not answer (default: 3)")
    add("--servers", type=int, default=0, metavar="N", help="servers to start and stop (default: none)")
    add("--tensor-parallel-size", type=int, default=1, metavar="T", help="GPUs of each server (default: 1)")
    add("--serve-command", default=COMMAND, metavar="CMD", help=f"how a server is started (default: {COMMAND})")
    add("--start-timeout-s", type=float, default=900.0, metavar="S", help="until all servers answer (default: 900)")
    add("--write-back", action="store_true", help="also into the LeRobot data sets' language columns")
    return parser


if __name__ == "__main__":
    sys.exit(main())
