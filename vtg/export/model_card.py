"""The README.md of an exported model: its origin, and snippets that answer with transformers and with vtg."""

import json
from pathlib import Path
from textwrap import fill

from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.export.card_metadata import card_head, is_hub_name, license_of
from vtg.export.run_section import TrainingRun
from vtg.models.checkpoint import Settings
from vtg.models.families.family import ModelFamily
from vtg.models.quantization import quantization_options
from vtg.tasks.answer import NO_MOMENT
from vtg.tasks.prompts import choose
from vtg.tasks.span_task import SpanTask

QUERY = "a person sits down"

ADAPTERS = {
    "merged": " The LoRA adapter is merged into `{}`; nothing of vtg or PEFT is needed.",
    "alone": " This is the LoRA adapter alone, for `{}`.",
}

# How frames that `read_video` of frames.py gave pass through a processor untouched.
AS_TRAINED = 'processor_kwargs={"video_metadata": [[metadata]], "do_sample_frames": False, "do_resize": False}'
BY_THE_PROCESSOR = 'processor_kwargs={"video_metadata": [[metadata]], "fps": 2.0}'

READ_ALL = """\
with av.open("video.mp4") as container:
    stream = container.streams.video[0]
    frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
    metadata = VideoMetadata(total_num_frames=len(frames), fps=float(stream.average_rate))
duration_s = len(frames) / metadata.fps"""

# Where position ids tell the time: transformers derives those of video tokens from an average rate, wrong where
# frames are not evenly spaced.
POSITIONS = """
inputs["position_ids"] = mrope_positions(
    inputs["mm_token_type_ids"][0].cpu(),
    inputs["video_grid_thw"][0],
    merge_size=processor.video_processor.merge_size,
    patch_times_s=torch.from_numpy(times_s[:: processor.video_processor.temporal_patch_size]),
    tokens_per_second=model.config.vision_config.tokens_per_second,
)[:, None].to(model.device)"""


def model_card(
    name: str,
    *,
    settings: Settings | None,
    family: ModelFamily,
    source: str,
    base: str | None,
    adapter: str | None,
    run: TrainingRun | None = None,
) -> str:
    """The README's text. Without settings the processor samples.

    Args:
        source: the checkpoint that was exported.
        base: the model that was trained, where it is known.
        adapter: what became of an adapter on `base`: `merged`, `alone` in the folder; None without one.
        run: whose scores, data and command the card tells.
    """
    # A card may be published: of a folder of this machine the name alone is told.
    shown = base if base is None or is_hub_name(base) else Path(base).name
    told = ADAPTERS[adapter].format(shown) if adapter else ""
    results = run.eval_results() if run else ()
    alone = adapter == "alone"
    head = card_head(name, base=base, is_trained=settings is not None, results=results, is_adapter=alone)
    rounded = _quantization(settings, family) if alone and settings else None
    packages = ["transformers accelerate torchvision av", *(["peft"] if alone else [])]
    packages += ["bitsandbytes"] if rounded else []
    return f"""{head}

# {name}

Answers *when*: given a video and a sentence, {_answers(settings)}. Exported by
`python -m vtg.export` from `{Path(source).name}`.{told}

```python
# pip install {" ".join(packages)}
{_snippet(name, settings, family, base=base if alone else None, quantization=rounded)}
```
{_card_of_settings(name, settings, family) if settings else ""}{run.section() if run else ""}
{_limits(base, settings, family)}"""


def _takes_sets(settings: Settings | None) -> bool:
    return settings is not None and SpanTask(settings.task).takes_sets


def _answers(settings: Settings | None) -> str:
    if _takes_sets(settings):
        return f"the start and end of every moment the sentence describes, in order of time, or `{NO_MOMENT}`"
    return "the start and end of the moment the sentence describes"


def _limits(base: str | None, settings: Settings | None, family: ModelFamily) -> str:
    lines = ["## Limits and licence", ""]
    if settings is not None:
        seconds = settings.video.max_frames / settings.video.fps if settings.video.fps else None
        if seconds and settings.video.sampling in ("fps", "molmo2"):
            lines.append(
                f"- Videos longer than {seconds:.10g} s are sampled more thinly than {settings.video.fps:g} a second."
            )
        if not _takes_sets(settings):
            lines.append("- It answers every question with a moment, also where the video has none.")
    if family.vllm_obstacle:
        lines.append(f"- Do not serve it with vLLM: {family.title} {family.vllm_obstacle}.")
    stated = license_of(base).get("license")
    lines.append(
        f"- Licence of the base model: {stated or 'not stated here; see its own card'}. It holds for these weights too."
    )
    return "\n".join([*lines, ""])


def _quantization(settings: Settings, family: ModelFamily) -> str | None:
    """What rounds the base of an adapter that was trained on rounded weights."""
    kind = settings.model.quantization
    if kind == "none":
        return None
    written = [f"{name}={value!r}" for name, value in quantization_options(kind, family).items()]
    written += ["bnb_4bit_compute_dtype=torch.bfloat16"] if kind == "4bit" else []
    return f"BitsAndBytesConfig({', '.join(written)})"


def _snippet(
    name: str,
    settings: Settings | None,
    family: ModelFamily,
    *,
    base: str | None = None,
    quantization: str | None = None,
) -> str:
    """`base`: on which the folder's adapter is loaded; None for a folder that is a model of its own."""
    # A model that vtg did not train has no vtg.json: nothing is known of how it samples.
    task = settings.task if settings else TaskConfig()
    positions = settings is not None and family.needs_position_ids
    if settings:
        imports = ["import sys", *(["", "import torch"] if positions or quantization else [""])]
        imports += ["from peft import PeftModel"] if base else []
        more = ", BitsAndBytesConfig" if quantization else ""
        imports += [f"from transformers import AutoModelForImageTextToText, AutoProcessor{more}"]
        names = "mrope_positions, read_video" if positions else "read_video"
        local = ["sys.path.insert(0, folder)", f"from frames import {names}", ""]
        reading = 'frames, metadata, times_s = read_video("video.mp4")\nduration_s = metadata.duration'
    else:
        imports = ["import av", "import numpy as np"]
        imports += ["from transformers import AutoModelForImageTextToText, AutoProcessor"]
        imports += ["from transformers.video_utils import VideoMetadata"]
        local, reading = [""], READ_ALL
    return "\n".join(
        [
            *imports,
            "",
            f"folder = {json.dumps(name)}  # this folder",
            *local,
            *_loading(base, quantization, tokens=task.answer == "tokens"),
            "processor = AutoProcessor.from_pretrained(folder)",
            reading,
            f'query = "{QUERY}"',
            _question(task),
            'content = [{"type": "video", "video": frames}, {"type": "text", "text": question}]',
            "inputs = processor.apply_chat_template(",
            '    [{"role": "user", "content": content}],',
            "    add_generation_prompt=True,",
            "    tokenize=True,",
            "    return_dict=True,",
            '    return_tensors="pt",',
            *(f"    {option}={value!r}," for option, value in family.template_options.items()),
            f"    {AS_TRAINED if settings else BY_THE_PROCESSOR},",
            f").to(model.device){POSITIONS if positions else ''}",
            # A model that thinks first needs room for it.
            f"tokens = model.generate(**inputs, max_new_tokens={SpanTask(task).room}, do_sample=False)",
            'print(processor.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))',
        ]
    )


def _loading(base: str | None, quantization: str | None, *, tokens: bool) -> list[str]:
    """Lines that make `model`. `tokens`: the adapter on `base` has temporal tokens."""
    lines = [f"quantization = {quantization}"] if quantization else []
    options = 'dtype="auto", device_map="auto"' + (", quantization_config=quantization" if quantization else "")
    lines.append(
        f"model = AutoModelForImageTextToText.from_pretrained({json.dumps(base) if base else 'folder'}, {options})"
    )
    if base and tokens:
        lines += [
            "vocabulary = AutoProcessor.from_pretrained(folder).tokenizer.get_vocab()",
            "rows = max(*vocabulary.values(), model.get_input_embeddings().num_embeddings - 1) + 1",
            "model.resize_token_embeddings(rows, mean_resizing=False)  # the adapter brings those of temporal tokens",
        ]
    return [*lines, *(["model = PeftModel.from_pretrained(model, folder)"] if base else [])]


def _question(task: TaskConfig) -> str:
    """The line that fills the template which `predict` asks with, in the fields that it has."""
    # In the snippet as a literal: users without vtg cannot import its templates.
    template = choose(SpanTask(task).pool, selection=task.selection)
    fields = {
        "query": "query=query",
        "duration": 'duration=f"{duration_s:.1f}"',
        "num_bins": f"num_bins={task.num_bins}",
        "last_bin": f"last_bin={task.num_bins - 1}",
    }
    used = ", ".join(text for field, text in fields.items() if f"{{{field}}}" in template)
    return f"question = {template!r}.format({used})"


def _pixels(video: VideoConfig) -> str:
    if isinstance(size := video.frame_size, list):
        return f"{size[0]} x {size[1]} pixels (height and width)"
    return f"{size} x {size} pixels" if size else f"{_range(video.min_pixels, video.max_pixels)} pixels"


def _card_of_settings(name: str, settings: Settings, family: ModelFamily) -> str:
    video = settings.video
    paragraphs = [
        f"It was trained on {_range(video.min_frames, video.max_frames)} frames of "
        f"{_pixels(video)} each (all of a clip together at most "
        f"{video.total_pixels}), sampled by `{video.sampling}` at {video.fps:g} a second; the form of its answers is "
        f"`{settings.task.answer}`{_reading(settings.task)}. `frames.py` gives just these frames, with their times.",
        '`{"type": "video", "video": "video.mp4"}` has transformers read the file itself, which needs torchcodec and '
        "FFmpeg's libraries. The processor is set to what it was trained on as far as its settings go. Answers may "
        f"differ a little, because it {_differences(video, family)}.",
        "vtg reads `vtg.json` and gives its answer in seconds of the video:",
    ]
    text = "\n\n".join(fill(paragraph, 120, break_on_hyphens=False) for paragraph in paragraphs)
    return f"""
{text}

```sh
python -m vtg.predict checkpoint={name} video=video.mp4 query="{QUERY}"
```
"""


def _reading(task: TaskConfig) -> str:
    """How an answer that is not in seconds is read without vtg."""
    if task.answer == "relative":
        return ": `0.2 to 0.5` is from 0.2 to 0.5 of the video's length"
    if task.answer not in ("bins", "tokens"):
        return ""
    text, parts = "<2><5>" if task.answer == "tokens" else "2 to 5", task.num_bins
    return f": `{text}` is from 2/{parts} to 6/{parts} of the video's length, its last part included"


def _range(low: int, high: int) -> str:
    return f"{low} to {high}" if low < high else str(high)


def _differences(video: VideoConfig, family: ModelFamily) -> str:
    grid = "spreads frames evenly from the first to the last"
    if video.sampling in ("fps", "molmo2"):
        grid += f", not in steps of 1/{video.fps:g} s"
    elif video.sampling != "uniform":
        grid += f", not by `{video.sampling}`"
    return f"{grid}, and {family.processor_differs.format(min_pixels=video.min_pixels)}"
