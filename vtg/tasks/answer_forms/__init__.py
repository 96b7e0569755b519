"""The forms an answer can take: a file each, and the table that settings name them by."""

from vtg.tasks.answer import Codec
from vtg.tasks.answer_forms.bins import BinsCodec
from vtg.tasks.answer_forms.relative import RelativeCodec
from vtg.tasks.answer_forms.seconds import SecondsCodec
from vtg.tasks.answer_forms.tokens import TokensCodec

# Error messages and --help list them in this order.
CODECS: dict[str, type[Codec]] = {
    "seconds": SecondsCodec,
    "relative": RelativeCodec,
    "bins": BinsCodec,
    "tokens": TokensCodec,
}
