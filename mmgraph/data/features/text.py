"""Hashed word counts of texts."""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mmgraph.data.features import VERSION

NUM_TEXT_FEATURES = 256
# kana and Chinese characters, which are written without spaces between words
_CHARACTERS = (
    "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_TOKEN = re.compile(
    r"\d+(?:[.,:/]\d+)*"  # numbers, dates and fractions
    rf"|[{_CHARACTERS}]"
    rf"|[^\W{_CHARACTERS}]+"  # words
    r"|[^\w\s.,;:'\"()\[\]{}]"  # signs, such as < and -, and emoji
)


def describe_texts(
    texts: Sequence[str] | npt.NDArray[np.object_], *, version: int = VERSION
) -> npt.NDArray[np.float32]:
    """Return hashed word counts of unit length.

    Words are compared in lower case and in Unicode normal form C. Numbers such as 3/10
    are one word, as are Chinese characters, kana, emoji and signs other than
    punctuation of sentences. A word is counted in two places, so that two different
    words have the same features with a probability below 1 in 100,000.

    Args:
        texts: ``N`` texts.
        version: 1 for the features of mmgraph 0.2, which drop words of one character.

    Returns:
        ``[N, 256]``, zero for a text without words.

    References:
        Feature hashing for large scale multitask learning. Weinberger, Dasgupta,
        Langford, Smola and Attenberg, 2009.
    """
    from sklearn.feature_extraction.text import HashingVectorizer

    if not len(texts):
        return np.empty((0, NUM_TEXT_FEATURES), dtype=np.float32)
    hasher = HashingVectorizer(
        n_features=NUM_TEXT_FEATURES,
        analyzer="word" if version == 1 else _split_words,
        dtype=np.float32,
    )
    encodable = [text.encode("utf-8", "replace").decode() for text in texts]
    return np.asarray(hasher.transform(encodable).toarray(), dtype=np.float32)


def _split_words(text: str) -> list[str]:
    """Return the words of a text, each in two forms that are hashed separately."""
    words = _TOKEN.findall(unicodedata.normalize("NFC", text).lower())
    return words + [f"\0{word}" for word in words]
