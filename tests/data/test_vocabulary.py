"""Vocabulary of n-grams of words and letters."""

import numpy as np
import pytest

from mmgraph.data.vocabulary import MAX_SIZE, Vocabulary

WORDS = ["Is a red cube left?", "is a blue cube right?", "is a red ball left?"] * 3
LETTERS = ["CCO", "CCN", "COC", "CCO"]


def test_words_are_compared_in_lower_case_with_their_order() -> None:
    vocabulary = Vocabulary.fit(WORDS)
    assert vocabulary.level == "words"
    assert "a red cube left" in vocabulary.ngrams
    assert "<s> is" in vocabulary.ngrams
    one, same, other = vocabulary.transform(
        ["is a red cube left?", "IS A RED CUBE LEFT ?", "is left a red cube?"]
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_texts_without_spaces_are_letters() -> None:
    vocabulary = Vocabulary.fit(LETTERS)
    assert vocabulary.level == "letters"
    assert set(vocabulary.tokens) == {"C", "O"}  # N is in one text
    assert set(vocabulary.ngrams) >= {"C", "CC", "CCO"}


def test_rows_have_unit_length_or_are_zero() -> None:
    rows = Vocabulary.fit(WORDS).transform(["is a red cube", "", "zebra"])
    lengths = np.linalg.norm(rows, axis=1)
    assert np.allclose(lengths[[0, 1, 2]], [1, 1, 1])  # start and end are known
    assert np.allclose(Vocabulary.fit(LETTERS).transform(["", "xyz"]), 0)


def test_rare_words_are_one_unknown_word() -> None:
    texts = [*WORDS, "is a tiny cube left?", "is a huge cube left?"]
    vocabulary = Vocabulary.fit(texts)
    assert "tiny" not in vocabulary.tokens
    assert "a <unk> cube" in vocabulary.ngrams
    one, other = vocabulary.transform(["is a tiny cube", "is a vast cube"])
    assert np.array_equal(one, other)


def test_size_is_limited_and_order_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(map(str, rng.integers(0, 60, 30))) for _ in range(300)]
    vocabulary = Vocabulary.fit(texts)
    assert len(vocabulary) == MAX_SIZE
    assert Vocabulary.fit(texts[::-1]) == vocabulary
    assert len(Vocabulary.fit([])) == 1


def test_json_round_trip() -> None:
    vocabulary = Vocabulary.fit(WORDS)
    assert Vocabulary.from_json(vocabulary.to_json()) == vocabulary


@pytest.mark.parametrize(
    "change", [{"level": "bytes"}, {"ngrams": []}, {"ngrams": [1]}, {"tokens": "ab"}]
)
def test_damaged_json_is_refused(change) -> None:
    with pytest.raises(TypeError, match="vocabulary"):
        Vocabulary.from_json(Vocabulary.fit(WORDS).to_json() | change)
