"""Vocabulary of n-grams of words or letters, learned from training texts.

Letters: ``N`` texts, ``V`` n-grams.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Level: TypeAlias = Literal["words", "letters"]

MAX_SIZE = 1024  # n-grams
MIN_TEXTS, FEW_TEXTS = 5, 500  # texts with an n-gram: 5, or 2 of fewer than 500 texts
LONGEST: dict[Level, int] = {"words": 4, "letters": 3}  # n of the n-grams
START, END, UNKNOWN = "<s>", "</s>", "<unk>"  # a word has no angle brackets
SEPARATORS: dict[Level, str] = {"words": " ", "letters": ""}
_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Vocabulary:
    """N-grams of training texts, and their counts in a text.

    A text of words is compared in lower case, with marks at its start and end, so that
    n-grams contain the order of words. Words that fewer training texts have than an
    n-gram needs are one unknown word. Texts without spaces, such as SMILES strings or
    protein sequences, are sequences of letters.

    Attributes:
        level: "words": n-grams of up to four words; "letters": of up to three letters.
        tokens: Known words or letters, sorted.
        ngrams: N-grams, sorted; each has a channel.
    """

    level: Level
    tokens: tuple[str, ...]
    ngrams: tuple[str, ...]

    @classmethod
    def fit(cls, texts: Sequence[str] | npt.NDArray[np.object_]) -> "Vocabulary":
        """Learn the n-grams that occur in at least five texts, at most 1024.

        The most frequent ones are kept, of equally frequent ones the shorter.

        Args:
            texts: ``N`` training texts.
        """
        fewest = MIN_TEXTS if len(texts) >= FEW_TEXTS else 2
        spaced = sum(len(text.split()) > 1 for text in texts)
        level: Level = "words" if 2 * spaced >= len(texts) else "letters"
        plain = cls(level, (), ())
        split = [plain._split(text) for text in texts]
        seen = Counter(token for tokens in split for token in set(tokens))
        tokens = tuple(sorted(t for t, count in seen.items() if count >= fewest))
        known = cls(level, tokens, ())
        counts = Counter(
            ngram for each in split for ngram in set(known._ngrams(known._mark(each)))
        )
        often = [ngram for ngram, count in counts.items() if count >= fewest]
        often.sort(key=lambda ngram: (-counts[ngram], len(ngram), ngram))
        # without a frequent n-gram, one channel of zeros remains
        return cls(level, tokens, tuple(sorted(often[:MAX_SIZE])) or (UNKNOWN,))

    def __len__(self) -> int:
        return len(self.ngrams)

    def transform(
        self, texts: Sequence[str] | npt.NDArray[np.object_]
    ) -> npt.NDArray[np.float32]:
        """Return logarithms of one plus the counts of n-grams, of unit length.

        Args:
            texts: ``N`` texts.

        Returns:
            ``[N, V]``; zero for a text without a known n-gram.
        """
        column = {ngram: i for i, ngram in enumerate(self.ngrams)}
        table = np.zeros((len(texts), len(self.ngrams)), dtype=np.float32)
        for row, text in zip(table, texts, strict=True):
            counts = Counter(self._ngrams(self._mark(self._split(text))))
            for ngram in counts.keys() & column.keys():
                row[column[ngram]] = np.log1p(counts[ngram])
        length = np.linalg.norm(table, axis=1, keepdims=True)
        table /= np.where(length > 0, length, 1)
        return table

    def _split(self, text: str) -> list[str]:
        """Return the words or letters of a text."""
        text = unicodedata.normalize("NFC", text)
        if self.level == "letters":
            return list(text.strip())
        return _WORD.findall(text.lower())

    def _mark(self, tokens: Iterable[str]) -> list[str]:
        """Replace unknown tokens, and mark the start and end of a text of words."""
        known = set(self.tokens)
        # a letter that is unknown ends every n-gram
        marked = [token if token in known else UNKNOWN for token in tokens]
        return marked if self.level == "letters" else [START, *marked, END]

    def _ngrams(self, tokens: Sequence[str]) -> Iterable[str]:
        separator = SEPARATORS[self.level]
        for n in range(1, LONGEST[self.level] + 1):
            for i in range(len(tokens) - n + 1):
                yield separator.join(tokens[i : i + n])

    def to_json(self) -> dict[str, Any]:
        """Return level, tokens and n-grams as JSON."""
        return {
            "level": self.level,
            "tokens": list(self.tokens),
            "ngrams": list(self.ngrams),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Vocabulary":
        """Read the content of :meth:`to_json`.

        Raises:
            TypeError: If the content has another structure.
        """
        level, tokens, ngrams = (content[k] for k in ("level", "tokens", "ngrams"))
        lists = isinstance(tokens, list) and isinstance(ngrams, list)
        if level not in LONGEST or not lists or not 0 < len(ngrams) <= MAX_SIZE:
            raise TypeError(f"vocabulary of level {level!r}")
        if not all(isinstance(each, str) for each in (*tokens, *ngrams)):
            raise TypeError("a vocabulary of other than strings")
        return cls(level, tuple(tokens), tuple(ngrams))
