"""Numbers in strings: separators, bounds, units, and what is no number."""

import numpy as np
import pyarrow as pa
import pytest

from mmgraph.data.number_strings import parse_numbers

NAN = np.nan


def parse(*texts):
    return parse_numbers(pa.array(texts, pa.large_string()))


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["1.5", " 2 ", "1e-3", "+4", None], [1.5, 2, 0.001, 4, NAN]),
        (["0,5", "1,0"], [0.5, 1]),
        (["1,234,567", "1,200"], [1234567, 1200]),
        (["1,234.5", "1,200"], [1234.5, 1200]),
        (["1.234,5", "1.200"], [1234.5, 1200]),
        (["1.234.567", "1.200"], [1234567, 1200]),
        (["12.5", "1,200"], [12.5, 1200]),
        (["12.5", "0,5", "1,200"], [12.5, 0.5, 1.2]),
        (["0.123", "0,123"], [0.123, 0.123]),
        (["1\N{NO-BREAK SPACE}234", "1 234,5", "1'234"], [1234, 1234.5, 1234]),
        ([">100", "<= 0.1", "\N{GREATER-THAN OR EQUAL TO}3", "7+"], [100, 0.1, 3, 7]),
        (["12%", "13.5 %"], [12, 13.5]),
        (["5 mg", "0.5mg"], [5, 0.5]),
        (["$5", "$1,234.50"], [5, 1234.5]),
        (["\N{MINUS SIGN}5", "-5"], [-5, -5]),
        (["1", "2 mg", "3"], [1, NAN, 3]),
        (["5 mg", "2 g"], [NAN, NAN]),
        (["2a", "3b"], [NAN, NAN]),
        (["120/80", "18-25", "01.02.2024", "1,23", "12:30"], [NAN] * 3 + [1.23, NAN]),
        (["1_000", "0x1A", "1 2", "1,2,3", "", "-", "abc"], [NAN] * 7),
        (["\N{FULLWIDTH DIGIT ONE}", "\N{ARABIC-INDIC DIGIT TWO}"], [1, 2]),
    ],
)
def test_numbers_are_read_as_people_write_them(texts, values):
    np.testing.assert_array_equal(parse(*texts).values, values)


@pytest.mark.parametrize(
    "texts",
    [
        ["1,200", "2,300"],
        ["1.010", "1,015"],
        ["0,5", "1.234"],
        ["1,234,567", "0,5", "1,200"],
    ],
)
def test_a_separator_that_nothing_decides_is_ambiguous(texts):
    assert parse(*texts).ambiguous in texts


def test_rewritten_cells_are_marked():
    parsed = parse("1.5", ">2", "x", None)
    assert parsed.is_number.tolist() == [True, True, False, False]
    assert parsed.rewritten.tolist() == [False, True, False, False]
    assert parse("1%", "2%").unit == "%"
