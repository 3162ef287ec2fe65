"""Reading furniture archives: catalogues as they come, and what is said about broken ones."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.rooms_furniture import write_archive
from trainer.data.rooms.catalogue import extract, parse_properties, read_catalogue
from xscene.errors import InvalidInput, LimitExceeded


def test_a_properties_file_is_read_as_java_reads_it():
    text = (
        "# comment\n! comment too\n\n  key#1=a value \\\n    that goes on\n"
        "colon : 2\nblank 3\nescaped\\:key=\\u00e9\\t\\\\end\nempty=\n"
    )
    assert parse_properties(text) == {
        "key#1": "a value that goes on",
        "colon": "2",
        "blank": "3",
        "escaped:key": "é\t\\end",
        "empty": "",
    }


def test_an_even_number_of_backslashes_does_not_join_lines():
    assert parse_properties("a=b\\\\\nc=d") == {"a": "b\\", "c": "d"}


def test_models_come_in_metres_with_author_and_licence(tmp_path):
    archive = write_archive(
        tmp_path / "a.sh3f",
        {"elevation": "12.5", "dropOnTopElevation": "-1"},
        {"name": "Sofa", "modelRotation": "0 0 1 0 1 0 -1 0 0"},
    )
    first, second = read_catalogue(archive)
    assert (first.asset_id, first.name, first.author, first.licence) == (
        "Test#model1",
        "Chair",
        "A. Author",
        "Free for all",
    )
    assert first.size_m == (0.5, 0.6, 0.8)
    assert (first.elevation_m, first.drop_on_top_m) == (0.125, -0.01)
    assert (second.elevation_m, second.drop_on_top_m, second.slug) == (0.0, None, "test-model2")
    np.testing.assert_array_equal(second.rotation, [[0, 0, 1], [0, 1, 0], [-1, 0, 0]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": "wide"}, "a.sh3f: entry 1: width: 'wide' is no number"),
        ({"depth": "0"}, "a.sh3f: entry 1: depth: 0, needs more than 0"),
        ({"height": "inf"}, "a.sh3f: entry 1: height: inf, needs a finite number"),
        ({"modelRotation": "1 0 0"}, "a.sh3f: entry 1: modelRotation: 3 numbers, needs 9"),
        ({"model": "/test/gone.obj"}, "a.sh3f: Test#model1: test/gone.obj is not in the archive"),
    ],
)
def test_a_broken_entry_is_named_with_its_field(tmp_path, changes, message):
    with pytest.raises(InvalidInput, match="^" + message.replace(".", r"\.") + "$"):
        read_catalogue(write_archive(tmp_path / "a.sh3f", changes))


def test_a_missing_field_is_named(tmp_path):
    archive = write_archive(tmp_path / "a.sh3f", text="id#3=x\n")
    with pytest.raises(InvalidInput, match=r"^a\.sh3f: entry 3: has no width$"):
        read_catalogue(archive)


def test_a_catalogue_beyond_the_limit_is_refused_before_it_is_read(tmp_path):
    archive = write_archive(tmp_path / "a.sh3f", {})
    with pytest.raises(
        LimitExceeded, match=r"PluginFurnitureCatalog\.properties: \d+ bytes, the limit is 16"
    ):
        read_catalogue(archive, max_bytes=16)


def test_a_file_that_is_no_archive_is_named(tmp_path):
    path = tmp_path / "a.sh3f"
    path.write_bytes(b"not a zip")
    with pytest.raises(InvalidInput, match=r"^a\.sh3f: is no zip archive$"):
        read_catalogue(path)


def test_only_the_files_of_one_model_are_unpacked(tmp_path):
    archive = write_archive(tmp_path / "a.sh3f", {}, {})
    model = read_catalogue(archive)[1]
    path = extract(archive, model, tmp_path / "out")
    assert path == tmp_path / "out/test/model2/model2.obj"
    assert sorted(file.name for file in (tmp_path / "out").rglob("*.*")) == [
        "model2.mtl",
        "model2.obj",
        "model2.png",
    ]
