"""How much two texts have in common, by their words.

Words are as SQuAD's evaluator counts them (Rajpurkar et al., 2016): lower case, without punctuation and articles. Both
scores are 0 to 1; of two texts without words they are 1, and 0 where one alone has none.
"""

import re
from collections import Counter
from collections.abc import Sequence

_WORD = re.compile(r"\w+(?:'\w+)?")
_ARTICLES = frozenset({"a", "an", "the"})


def words_of(text: str) -> list[str]:
    """The words of a text that count."""
    return [word for word in _WORD.findall(text.lower()) if word not in _ARTICLES]


def token_f1(predicted: str, true: str) -> float:
    """F1 of the words as bags, as SQuAD's evaluator computes it."""
    one, other = words_of(predicted), words_of(true)
    return _f1(sum((Counter(one) & Counter(other)).values()), len(one), len(other))


def rouge_l(predicted: str, true: str) -> float:
    """ROUGE-L (Lin, 2004): F1 of the longest sequence of words that both have in the same order."""
    one, other = words_of(predicted), words_of(true)
    return _f1(_longest_common(one, other), len(one), len(other))


def is_same(predicted: str, true: str) -> bool:
    """Whether two texts are the same words."""
    return words_of(predicted) == words_of(true)


def _f1(common: float, predicted: int, true: int) -> float:
    return 2 * common / (predicted + true) if predicted + true else 1.0


def _longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence, a row of the table in the bits of one integer (Hyyrö, 2004)."""
    places: dict[str, int] = {}
    for at, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << at
    full = (1 << len(one)) - 1
    row = full
    for word in other:
        shared = row & places.get(word, 0)
        row = ((row + shared) | (row - shared)) & full
    return len(one) - row.bit_count()
