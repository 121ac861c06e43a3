"""A query of the Materials Project as the source of a scan."""

from __future__ import annotations

import pyarrow.parquet as pq

from harness.apps.predict import predicting


def test_a_query_is_scanned_and_a_material_without_structure_is_a_row(
    materials, toy_bundle, tiny, tmp_path
) -> None:
    document = materials.materials["mp-7"]
    document["structure"]["sites"][0]["species"][0]["occu"] = 0.5
    table = tmp_path / "scan.parquet"
    report = predicting.scan("mp:stable", toy_bundle, table, plugins=[tiny])
    rows = pq.read_table(table).to_pandas().set_index("id")
    assert report.rows == len(rows) == 29
    assert rows.loc["mp-7", "reason"]
    assert (rows.drop("mp-7")["reason"] == "").all()
    asked = len(materials.requests)
    assert predicting.scan("mp:stable", toy_bundle, table, plugins=[tiny]).kept == 29
    assert len(materials.requests) == asked
