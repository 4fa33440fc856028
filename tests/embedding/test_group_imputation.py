"""Imputation of modalities that all samples of a group share."""

import numpy as np
import pytest

from mmgraph.data import MultimodalData
from mmgraph.embedding.group_imputation import impute_from_group

CAPTION, PICTURE = "text", "image"


def grouped(num_groups=20, captions=None):
    """Two images for each caption, and a caption that is missing for the third row."""
    rng = np.random.default_rng(0)
    text = np.repeat(rng.normal(size=(num_groups, 3)), 3, axis=0)
    text[2::3] = np.nan
    image = rng.normal(size=(3 * num_groups, 4))
    image[1::3] = np.nan
    groups = np.repeat(np.arange(num_groups), 3)
    found = {CAPTION: text if captions is None else captions(text), PICTURE: image}
    return MultimodalData.from_arrays(found, groups=groups, y=groups % 2)


def test_a_row_that_a_group_shares_is_imputed():
    data = grouped()
    filled = impute_from_group(data)
    text = filled.features()[CAPTION]
    assert not np.isnan(text).any()
    assert np.array_equal(text[2::3], text[0::3])
    assert filled.columns[PICTURE].equals(data.columns[PICTURE])
    assert np.array_equal(filled.y, data.y)
    assert np.array_equal(filled.groups, data.groups)
    assert filled.schema == data.schema


def test_a_sample_may_come_twice():
    drawn = np.r_[np.arange(60), 2, 2]
    filled = impute_from_group(grouped()[drawn])
    assert filled.columns[CAPTION].present.all()
    assert filled.ids.tolist() == drawn.tolist()


def test_missing_cells_are_no_difference():
    def hide(text):
        text[:, 0] = np.nan
        return text

    assert impute_from_group(grouped(captions=hide)).columns[CAPTION].present.all()


def test_rows_equal_up_to_rounding_are_the_same():
    halved = impute_from_group(grouped(captions=lambda x: x.astype(np.float16)))
    assert halved.columns[CAPTION].present.all()


def _one_differs(text):
    text[1] += 0.5
    return text


@pytest.mark.parametrize(
    "data",
    [
        grouped(captions=_one_differs),
        grouped(num_groups=9),
        grouped().replace(groups=None),
        grouped().replace(groups=np.zeros(60)),
    ],
    ids=["one differs", "too few to tell", "no groups", "one group of all"],
)
def test_what_groups_do_not_share_stays_missing(data):
    filled = impute_from_group(data)
    assert np.array_equal(filled.present, data.present)


def test_groups_without_the_modality_still_lack_it():
    data = grouped()
    data = data.mask({CAPTION: data.groups != 4})
    filled = impute_from_group(data).columns[CAPTION].present
    assert np.array_equal(filled, data.groups != 4)


def test_texts_are_imputed():
    texts = [f"caption {i // 2}" if i % 4 != 3 else None for i in range(60)]
    data = MultimodalData.from_arrays({CAPTION: texts}, groups=np.arange(60) // 2)
    filled = impute_from_group(data).columns[CAPTION]
    assert filled.values.tolist() == [f"caption {i // 2}" for i in range(60)]
