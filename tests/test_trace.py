"""Documents that record which entry was read last."""

import json

import pytest

from mmgraph._trace import describe_failure, last_read, trace
from mmgraph.errors import CheckpointError


@pytest.mark.parametrize(
    ("read", "entry"),
    [
        (lambda d: d["a"]["b"], "a.b"),
        (lambda d: d.get("x"), "x"),
        (lambda d: d["a"].pop("b"), "a.b"),
        (lambda d: [value for _, value in d["a"].items()], "a.c"),
        (lambda d: next(iter(d["a"]["c"])), "a.c.0"),
        (lambda d: dict(d)["a"]["c"], "a.c"),
    ],
)
def test_the_entry_that_is_read_last_is_known(read, entry):
    document = trace({"a": {"b": 1, "c": [2, {"d": 3}]}})
    assert last_read(document) == ""
    read(document)
    assert last_read(document) == entry


def test_a_traced_document_is_the_document():
    content = {"a": {"b": [1, [2]], "c": None}, "d": [{}]}
    document = trace(content)
    assert document == content
    assert json.loads(json.dumps(document)) == content
    assert isinstance(document["a"]["b"][1], list)


def test_failures_name_the_entry_where_the_error_does_not():
    document = trace({"a": {"b": "x", "c": {}}})
    with pytest.raises(ValueError, match="invalid literal") as caught:
        int(document["a"]["b"])
    assert describe_failure(caught.value, document).endswith("'x' (entry 'a.b')")
    with pytest.raises(TypeError) as caught:
        int(document["a"]["c"])
    assert "not 'dict' (entry 'a.c')" in describe_failure(caught.value, document)
    with pytest.raises(KeyError) as caught:
        document["a"]["z"]
    assert describe_failure(caught.value, document) == "no 'z' near the entry 'a.z'"
    assert describe_failure(CheckpointError("seed is 0."), document) == "seed is 0"
