"""Similarity without a model: hashed character n-grams for embeddings, BM25 for ranking. Pure, and the same anywhere.

Embeddings are the hashing trick (Weinberger et al., 2009) over words and their character trigrams, as fastText
cuts them (Bojanowski et al., 2017). Ranking is Okapi BM25 (Robertson & Zaragoza, 2009) with Lucene's idf.
"""

import math
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

DIMENSIONS = 256

_K1, _B = 1.2, 0.75
# Scripts written without spaces are taken character by character.
_UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(f"[{_UNSPACED}]|[^\\W{_UNSPACED}]+")


def words(text: str) -> list[str]:
    """Split a text into words, case folded."""
    return _WORD.findall(text.casefold())


def embed(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """Return a unit vector that is close to those of texts which share words or parts of words.

    Args:
        text: any; one without a word has a direction of its own.
        dimensions: length of the vector.
    """
    counts = Counter(feature for word in words(text) for feature in _features(word)) or Counter([0])
    vector = [0.0] * dimensions
    for feature, count in counts.items():
        weight = 1.0 + math.log(count)
        vector[feature % dimensions] += weight if feature & 0x80000000 else -weight
    length = math.hypot(*vector)
    if not length:  # every feature met its opposite in the same place
        vector[0] = length = 1.0
    return [value / length for value in vector]


@lru_cache(maxsize=16384)
def _features(word: str) -> tuple[int, ...]:
    """Hash a word and its trigrams, whose first and last know that they are."""
    padded = f"<{word}>"
    grams = [padded, *(padded[i : i + 3] for i in range(len(padded) - 2))]
    return tuple(zlib.crc32(gram.encode("utf-8", "surrogatepass")) for gram in grams)


def rank(query: str, documents: Sequence[str]) -> list[tuple[int, float]]:
    """Rank documents by BM25, best first, ties in their order.

    Args:
        query: what is looked for.
        documents: n_documents texts.

    Returns:
        (index, relevance): relevance is the share of the most that any document could score, 0 to 1.
    """
    bags = [Counter(words(document)) for document in documents]
    sizes = [bag.total() for bag in bags]
    average = sum(sizes) / len(bags) if any(sizes) else 1.0
    idf = {term: _idf(sum(term in bag for bag in bags), len(bags)) for term in dict.fromkeys(words(query))}
    most = sum(idf.values()) * (_K1 + 1) or 1.0
    scores = [
        sum(weight * _saturated(bag[term], size / average) for term, weight in idf.items()) / most
        for bag, size in zip(bags, sizes, strict=True)
    ]
    return sorted(enumerate(scores), key=lambda scored: -scored[1])


def _idf(containing: int, total: int) -> float:
    return math.log(1 + (total - containing + 0.5) / (containing + 0.5))


def _saturated(count: int, relative_length: float) -> float:
    return count * (_K1 + 1) / (count + _K1 * (1 - _B + _B * relative_length))
