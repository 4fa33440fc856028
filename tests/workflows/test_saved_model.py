"""Columns of files that a saved model reads."""

import pandas as pd

from mmgraph.workflows.saved_model import common_columns


def test_columns_of_a_folder_are_those_of_all_its_files(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    pd.DataFrame({"id": [1], "y": [0], "age": [50]}).to_parquet(folder / "a.parquet")
    pd.DataFrame({"y": [1], "age": [60]}).to_parquet(folder / "b.parquet")
    assert common_columns(folder) == {"y", "age"}
    assert common_columns(folder / "a.parquet") == {"id", "y", "age"}
    (tmp_path / "c.csv").write_text("id,age\n1,50\n")
    assert common_columns(tmp_path / "c.csv") == {"id", "age"}
    assert common_columns(tmp_path / "nothing") == set()
