"""Every family of the table against a tiny model of the real classes, and the rule that nobody else names one."""

import ast
import copy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import trl
from transformers import LlavaConfig, LlavaProcessor

import vtg
from vtg.data.encoding import conversation_text
from vtg.errors import ConfigError
from vtg.models.families import FAMILIES, either, family_of
from vtg.models.families.family import PixelLimits, TimeStamps

PACKAGE = Path(vtg.__file__).parent
FOLDER = PACKAGE / "models" / "families"


@pytest.fixture(params=FAMILIES)
def tiny(request, tiny_vlm):
    """The tiny model of each family; its `model_type` is the name of the family."""
    return request.param, tiny_vlm(request.param)


def test_each_is_recognised_from_its_processor_and_from_its_config(tiny):
    name, vlm = tiny
    assert family_of(vlm.processor) is family_of(vlm.model.config) is FAMILIES[name]
    assert FAMILIES[name].name == name
    assert vlm.model.config.model_type in FAMILIES[name].model_types


def test_no_two_claim_one_type_of_model():
    types = [model_type for family in FAMILIES.values() for model_type in family.model_types]
    assert len(types) == len(set(types))


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (
            LlavaProcessor.__new__(LlavaProcessor),
            "model: a LlavaProcessor was loaded, but its way of reading times is unknown; use a Qwen3.5, "
            "Qwen3-VL, Qwen2.5-VL or Molmo2 model (processors: Qwen3VLProcessor, Qwen2_5_VLProcessor, Molmo2Processor)",
        ),
        (
            LlavaConfig(),
            "model: a model of the type 'llava' was loaded, but its way of reading times is unknown; use a Qwen3.5, "
            "Qwen3-VL, Qwen2.5-VL or Molmo2 model (types: qwen3_5, qwen3_5_moe, qwen3_vl, qwen3_vl_moe, qwen2_5_vl, "
            "molmo2)",
        ),
    ],
)
def test_an_unknown_one_is_named_with_those_that_are_known(source, told):
    with pytest.raises(ConfigError) as error:
        family_of(source)
    assert str(error.value) == told


def test_alternatives_read_as_english():
    qwen3, qwen2_5 = FAMILIES["qwen3_vl"], FAMILIES["qwen2_5_vl"]
    assert either([qwen3]) == "Qwen3-VL"
    assert either([qwen3, qwen2_5, qwen3]) == "Qwen3-VL, Qwen2.5-VL or Qwen3-VL"


def test_every_parameter_lies_in_a_part_and_every_named_module_is_in_the_model(tiny):
    name, vlm = tiny
    family, modules = FAMILIES[name], [f".{module}." for module, _ in vlm.model.named_modules()]
    for named in (*family.tower, *family.projector, *family.language):
        assert any(module.endswith(f".{named}.") for module in modules), named
    parts = {parameter: family.part_of(parameter) for parameter, _ in vlm.model.named_parameters()}
    assert set(parts.values()) == {"vision", "projector", "language"}
    outside = tuple(f".{module}." for module in (*family.tower, *family.projector))
    assert {part for parameter, part in parts.items() if not any(one in parameter for one in outside)} == {"language"}
    assert family.part_of("lm_head.weight") == "language"
    # As PEFT and wrappers of models write names.
    assert all(family.part_of(f"base_model.model.{parameter}") == part for parameter, part in parts.items())


def test_the_projector_is_what_stands_between_tower_and_language_model(qwen3_vl):
    names = [name for name, _ in qwen3_vl.model.named_parameters()]
    projector = {name.split(".")[2] for name in names if FAMILIES["qwen3_vl"].part_of(name) == "projector"}
    assert projector == {"merger", "deepstack_merger_list"}


def test_a_gate_and_norms_of_queries_are_said_where_the_model_has_them(tiny):
    name, vlm = tiny
    modules = [module for module, _ in vlm.model.named_modules()]
    gates = [module for module in modules if ".visual." in module and module.endswith("gate_proj")]
    assert bool(gates) == FAMILIES[name].gated_tower
    assert any(module.endswith("q_norm") for module in modules) == FAMILIES[name].norms_queries


def test_chats_are_written_with_the_markers_and_vision_tokens_are_single_tokens(tiny):
    name, vlm = tiny
    family, tokenizer = FAMILIES[name], vlm.processor.tokenizer
    question = {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "When?"}]}
    answer = {"role": "assistant", "content": [{"type": "text", "text": "2.0 to 7.5 seconds"}]}
    text = conversation_text(vlm.processor, [question, answer])
    assert text.count(f"{family.assistant_start}{family.empty_thought}2.0 to 7.5 seconds{family.turn_end}") == 1
    for token in (*family.vision_tokens, family.turn_end):
        assert len(tokenizer(token, add_special_tokens=False)["input_ids"]) == 1
    assert vlm.processor.video_token in family.vision_tokens


def test_a_prompt_is_what_stands_before_the_answer_in_a_training_conversation(tiny):
    name, vlm = tiny
    family = FAMILIES[name]
    question = {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "When?"}]}
    answer = {"role": "assistant", "content": [{"type": "text", "text": "2.0 to 7.5 seconds"}]}
    prompt = conversation_text(vlm.processor, [question])
    assert prompt.endswith(family.assistant_start + family.empty_thought)
    trained = conversation_text(vlm.processor, [question, answer])
    assert trained.removesuffix("\n") == f"{prompt}2.0 to 7.5 seconds{family.turn_end}"


@pytest.mark.parametrize("kind", ["think", "nothink"])
def test_the_templates_of_the_published_sizes_are_known_and_do_not_think(kind, qwen3_5):
    """As TRL keeps them: of the sizes that think unless they are told not to, and of those that do so when told."""
    template = (Path(trl.__file__).parent / "chat_templates" / f"qwen3_5_{kind}.jinja").read_text(encoding="utf-8")
    processor = copy.deepcopy(qwen3_5.processor)
    processor.chat_template = template
    assert family_of(processor) is FAMILIES["qwen3_5"]
    test_a_prompt_is_what_stands_before_the_answer_in_a_training_conversation(
        ("qwen3_5", SimpleNamespace(processor=processor))
    )


def test_limits_are_attributes_that_the_video_processor_has(tiny):
    name, vlm = tiny
    limits = PixelLimits(
        min_pixels=4096,
        max_pixels=8192,
        total_pixels=2**20,
        token_pixels=1024,
        temporal_patch=2,
        max_frames=64,
        fps=2.0,
    )
    for attribute in FAMILIES[name].processor_limits(limits):
        assert attribute in vlm.processor.video_processor.valid_kwargs.__annotations__


@pytest.mark.parametrize("decimals", [0, 1, 2])
def test_stamps_are_read_as_they_are_written(decimals):
    stamps = TimeStamps(before="<t={}>(", after=")", decimals=decimals)
    times = [0.0, 7.0, 12.0, 3600.0]
    text = "".join(f"<t={time:.{decimals}f}>(x)" for time in times)
    assert stamps.seconds_in(f"12.5 {text} <t=>(x)") == times
    assert len(stamps.longest(4)) == len(f"<t={3600:.{decimals}f}>()")
    assert stamps.step_s == pytest.approx(10**-decimals)


def test_a_patch_is_told_the_mean_time_of_its_frames_or_that_of_the_first():
    frames_s = np.array([[0.0, 0.5], [2.0, 5.0]])
    for family in FAMILIES.values():
        expected = [0.0, 2.0] if family.needs_position_ids else [0.25, 3.5]
        assert family.patch_times_s(frames_s).tolist() == expected
        assert family.resolution_s(2.0) == pytest.approx(0.25 if family.needs_position_ids else 0.05)


# "molmo2" is also a way of sampling frames, as that family was trained, which any model may be given.
NAMES = {
    text for family in FAMILIES.values() for text in (family.name, family.title, family.processor, *family.model_types)
} - {"molmo2"}


def names_of_families_compared(tree: ast.Module) -> list[int]:
    """Lines that compare with, match or test the beginning of a text that names a family, type or class of models."""

    def named(node: ast.AST) -> bool:
        texts = [inner.value for inner in ast.walk(node) if isinstance(inner, ast.Constant)]
        return any(isinstance(text, str) and (text in NAMES or text.lower().startswith("qwen")) for text in texts)

    lines = []
    for node in ast.walk(tree):
        tests = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        tests = tests and node.func.attr in ("startswith", "endswith", "removeprefix", "find")
        if (isinstance(node, ast.Compare | ast.MatchValue) or tests) and named(node):
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize(
    "line",
    [
        'x == "qwen3_vl"',
        'x in ("qwen2_5_vl", "qwen3_vl_moe")',
        'x.startswith("qwen3")',
        '"Qwen3VLProcessor" != x',
    ],
)
def test_a_comparison_with_the_name_of_a_family_is_found(line):
    assert names_of_families_compared(ast.parse(line)) == [1]


def test_nothing_outside_the_folder_compares_with_the_name_of_a_family():
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if not path.is_relative_to(FOLDER):
            lines = names_of_families_compared(ast.parse(path.read_text(encoding="utf-8")))
            wrong += [f"{path.relative_to(PACKAGE)}:{line}" for line in lines]
    assert not wrong, f"ask a field of ModelFamily instead: {', '.join(wrong)}"
