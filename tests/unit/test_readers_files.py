"""Plain files, JSON and zip archives of data sets: read whole, and refused by name where they are wrong."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import stat
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.allocation import allocates_at_most
from trainer.data.readers.archives import ArchiveLimits, open_archive
from trainer.data.readers.documents import json_lines, json_of, read_json
from trainer.data.readers.files import (
    grey_pixels,
    keyed_text,
    picture_size,
    read_bytes,
    read_keyed,
    read_lines,
    read_matrix,
    read_table,
    read_text,
)
from trainer.data.readers.labels import NO_CLASS, read_labels, scannet20
from xscene.errors import InvalidInput, LimitExceeded, NotFound


def test_a_file_is_read_whole_or_refused_by_its_name(tmp_path):
    path = tmp_path / "facts.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\n two \n")
    assert read_lines(path) == ("one", "two")
    with pytest.raises(LimitExceeded, match=r"^facts\.txt: 15 bytes, the limit is 14"):
        read_bytes(path, max_bytes=14)
    path.write_bytes(b"ab\xff")
    with pytest.raises(InvalidInput, match=r"^facts\.txt: byte 2 is no UTF-8"):
        read_text(path)
    for missing in (tmp_path / "none.txt", path / "none.txt"):
        with pytest.raises(NotFound, match=r"^none\.txt: there is no such file"):
            read_text(missing)
    with pytest.raises(InvalidInput, match="is no plain file"):
        read_text(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(InvalidInput, match=r"^pipe\.txt: is no plain file"):
        read_text(tmp_path / "pipe.txt")


def test_matrices_may_be_infinite_but_not_torn(tmp_path):
    path = tmp_path / "pose.txt"
    path.write_text("-inf " * 16)
    assert np.isneginf(read_matrix(path)).all()
    path.write_text("1 2\n3 4e-1")
    np.testing.assert_array_equal(read_matrix(path, (2, 2)), [(1, 2), (3, 0.4)])
    for text, message in (("1 2 3", "3 numbers, needs 16"), ("x " * 16, "is not all numbers")):
        path.write_text(text)
        with pytest.raises(InvalidInput, match=rf"^pose\.txt: .*{message}"):
            read_matrix(path)


def test_keyed_lines_give_numbers_of_a_key(tmp_path):
    path = tmp_path / "_info.txt"
    path.write_text("m_colorWidth = 960\nm_name = a = b\n\nm_matrix = 1 2 3 4\nm_bad = nan\nm_half = 0.5\n")
    keyed = read_keyed(path)
    assert keyed.integer("m_colorWidth") == 960
    assert keyed.text("m_name") == "a = b"
    assert keyed.number("m_half") == 0.5
    np.testing.assert_array_equal(keyed.numbers("m_matrix", 4), [1, 2, 3, 4])
    for call, message in (
        (lambda: keyed.text("m_none"), "has no m_none"),
        (lambda: keyed.number("m_bad"), "m_bad: nan, needs a finite number"),
        (lambda: keyed.integer("m_half"), "m_half: 0.5, needs a whole number"),
        (lambda: keyed.numbers("m_matrix", 16), "m_matrix: 4 numbers, needs 16"),
        (lambda: keyed_text("a = 1\na = 2", "_info.txt"), "line 2: 'a = 2' given twice"),
        (lambda: keyed_text("a = 1\nb", "_info.txt"), "line 2: 'b' is no `key = value`"),
    ):
        with pytest.raises(InvalidInput, match=rf"^_info\.txt.*{message}"):
            call()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_size_of_a_picture_comes_from_its_head(kind):
    data = io.BytesIO()
    Image.new("RGB", (37, 21)).save(data, kind)
    assert picture_size(data.getvalue(), "a") == (37, 21)
    with pytest.raises(LimitExceeded, match=r"^a: 777 pixels, the limit is 776"):
        picture_size(data.getvalue(), "a", max_pixels=776)
    with pytest.raises(InvalidInput, match=r"^a: has channels RGB"):
        grey_pixels(data.getvalue(), "a")


def test_a_picture_that_claims_to_be_vast_is_refused(tmp_path):
    data = io.BytesIO()
    Image.new("L", (4, 4)).save(data, "PNG")
    vast = data.getvalue().replace(struct.pack(">II", 4, 4), struct.pack(">II", 200_000, 200_000))
    with allocates_at_most(1 << 20):
        with pytest.raises(InvalidInput, match=r"^a: "):
            picture_size(vast, "a")


def test_sixteen_bits_are_kept():
    pixels = np.array(((0, 1, 255), (256, 40_000, 65_535)), dtype=np.uint16)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    np.testing.assert_array_equal(grey_pixels(data.getvalue(), "a"), pixels)
    pgm = b"P5 3 2 65535\n" + pixels.astype(">u2").tobytes()
    np.testing.assert_array_equal(grey_pixels(pgm, "a"), pixels)


def test_a_value_of_json_says_where_it_stands(tmp_path):
    path = tmp_path / "a.json"
    plain = {"groups": [{"id": "7", "rows": [[1, 2], [3, 4]], "share": 0.5, "moved": True, "none": None}]}
    path.write_text(json.dumps(plain))
    root = read_json(path)
    (group,) = root["groups"].items()
    assert group["id"].integer() == 7
    np.testing.assert_array_equal(group["rows"].integers((None, 2)), [[1, 2], [3, 4]])
    assert group["share"].number() == 0.5
    assert group["moved"].flag() is True
    assert group.get("none") is None
    assert dict(root.fields()).keys() == {"groups"}
    for call, message in (
        (lambda: root["other"], r"a\.json: has no other"),
        (lambda: group["none"], r"groups\[0\]: has no none"),
        (root.text, "is an object, needs a text"),
        (lambda: root["groups"]["x"], r"a\.json: groups: is a list, needs an object"),
        (group.items, "is an object, needs a list"),
        (group["share"].integer, r"groups\[0\]\.share: is 0\.5, needs a whole number"),
        (group["moved"].integer, "is a truth value, needs a whole number"),
        (group["id"].flag, "is a text, needs a truth value"),
        (group["rows"].integers, r"rows: shape \[2, 2\], needs \[any\]"),
        (lambda: group["share"].integers(()), "needs whole numbers"),
        (group["rows"].fields, "is a list, needs an object"),
    ):
        with pytest.raises(InvalidInput, match=message):
            call()


@pytest.mark.parametrize(
    "rows", [[1, "2"], [[1], [2, 3]], [1, None], [True, False], [2**70], [float("nan")], [1e400], {}]
)
def test_what_is_not_all_numbers_is_refused(rows):
    with pytest.raises(InvalidInput, match=r"^a\.json: rows: "):
        json_of(json.dumps({"rows": rows}).encode(), "a.json")["rows"].numbers((None,))


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 100_000, b'{"a": 1}}', b"\xff", b"9" * 5000])
def test_what_is_no_json_is_refused(data):
    with pytest.raises(InvalidInput, match=r"^a\.json: "):
        json_of(data, "a.json")


def test_json_of_more_than_a_quarter_of_a_gibibyte_is_refused_unread(tmp_path):
    path = tmp_path / "a.json"
    path.touch()
    os.truncate(path, (256 << 20) + 1)
    with allocates_at_most(1 << 20), pytest.raises(LimitExceeded, match=r"^a\.json: .* limit is 268435456"):
        read_json(path)


def test_lines_of_json_are_numbered():
    first, second = json_lines('{"a": 1}\n\n{"a": 2}\n', "poses.jsonl")
    assert (first["a"].integer(), second["a"].integer()) == (1, 2)
    with pytest.raises(InvalidInput, match=r"^poses\.jsonl, line 3\.a: is 2, needs a text"):
        second["a"].text()


def test_a_row_with_too_many_cells_is_refused(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("id\tname\n1\tx\n2\n\n")
    assert read_table(path) == [{"id": "1", "name": "x"}, {"id": "2"}]
    path.write_text("id\tname\n1\tx\ty\n")
    with pytest.raises(InvalidInput, match=r"^a\.tsv, line 2: 3 cells under 2 names"):
        read_table(path)
    path.write_text("id\tname\n1\tx\n")
    with pytest.raises(InvalidInput, match=r"^a\.tsv, line 2: has no category, nyu40id, raw_category"):
        read_labels(path)


def test_nyu40_ids_become_the_twenty_classes():
    kept = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 24, 28, 33, 34, 36, 39]
    slow = [kept.index(at) if at in kept else 255 for at in range(-2, 300)]
    assert scannet20(np.arange(-2, 300)).tolist() == slow
    assert scannet20(np.array([[0, 40]], dtype=np.uint16)).tolist() == [[NO_CLASS, NO_CLASS]]


def archive(path, members, **how):
    with zipfile.ZipFile(path, "w", **how) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


NOISE = random.Random(0).randbytes(100_000)


@given(
    members=st.dictionaries(
        st.from_regex(r"[a-z]{1,4}(/[a-z]{1,4})?\.x", fullmatch=True), st.binary(max_size=40)
    )
)
def test_members_are_read_as_they_were_written(tmp_path_factory, members):
    path = tmp_path_factory.mktemp("zip") / "a.zip"
    for packing in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        found = pickle.loads(pickle.dumps(open_archive(archive(path, members, compression=packing))))
        assert {name: found.read(name) for name in found.members} == members


def test_folders_are_no_members(tmp_path):
    found = open_archive(archive(tmp_path / "a.zip", {"a/": b"", "a/b": b"x"}))
    assert list(found.members) == ["a/b"]
    with pytest.raises(NotFound, match=r"^a\.zip/c: there is no such member"):
        found.read("c")


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/etc/passwd", "C:a", "a\\b"])
def test_a_member_that_leads_out_is_refused(tmp_path, name):
    with pytest.raises(InvalidInput, match=r"^a\.zip: member .* leads out of the archive"):
        open_archive(archive(tmp_path / "a.zip", {"good": b"", name: b"x"}))


def test_links_and_secrets_are_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(link, "/etc/passwd")
    with pytest.raises(InvalidInput, match=r"^a\.zip/link: is a link"):
        open_archive(tmp_path / "a.zip")
    with pytest.raises(InvalidInput, match="packed by method 12, needs stored or deflated"):
        open_archive(archive(tmp_path / "b.zip", {"a": b"x"}, compression=zipfile.ZIP_BZIP2))
    path = archive(tmp_path / "c.zip", {"a": b"x"})
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match=r"^c\.zip/a: is encrypted"):
        open_archive(path)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = archive(tmp_path / "a.zip", {"zeros": bytes(64 << 20)}, compression=zipfile.ZIP_DEFLATED)
    with allocates_at_most(1 << 20):
        with pytest.raises(LimitExceeded, match=r"a\.zip/zeros: \d+ bytes for each packed one, the limit"):
            open_archive(path)
        with pytest.raises(LimitExceeded, match=r"a\.zip/zeros: 67108864 bytes, the limit is 1000"):
            open_archive(path, limits=ArchiveLimits(max_member_bytes=1000))


def test_a_member_that_unpacks_to_more_than_it_says_stops_there(tmp_path):
    path = archive(tmp_path / "a.zip", {"zeros": bytes(64 << 20)}, compression=zipfile.ZIP_DEFLATED)
    data = path.read_bytes().replace(struct.pack("<I", 64 << 20), struct.pack("<I", 1000))
    path.write_bytes(data)
    found = open_archive(path)
    with allocates_at_most(1 << 20):
        with pytest.raises(InvalidInput, match=r"^a\.zip/zeros: differs from what the archive says"):
            found.read("zeros")


def test_limits_of_an_archive_are_named(tmp_path):
    path = archive(tmp_path / "a.zip", {f"m{at}": b"12345" for at in range(50)})
    for limits, message in (
        (ArchiveLimits(max_members=49), "50 members, the limit is 49"),
        (ArchiveLimits(max_total_bytes=249), "250 bytes, the limit is 249"),
        (ArchiveLimits(max_bytes=99), "bytes, the limit is 99"),
    ):
        with pytest.raises(LimitExceeded, match=rf"^a\.zip: .*{message}"):
            open_archive(path, limits=limits)


def test_too_many_members_are_refused_by_the_end_of_the_file(tmp_path):
    # The records of an archive past 65535 members, with no member at all.
    large = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 70_000, 70_000, 70_000 * 50, 0)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, 0, 1)
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path = tmp_path / "a.zip"
    path.write_bytes(large + locator + end)
    with allocates_at_most(1 << 20):
        with pytest.raises(LimitExceeded, match=r"^a\.zip: 70000 members, the limit is 60000"):
            open_archive(path, limits=ArchiveLimits(max_members=60_000))
    with pytest.raises(InvalidInput, match=r"^a\.zip: is no zip file"):
        open_archive(path)


def test_members_that_overlap_are_refused(tmp_path):
    path = archive(tmp_path / "a.zip", {"a": NOISE, "b": NOISE[::-1]})
    with zipfile.ZipFile(path) as file:
        second = file.getinfo("b").header_offset
    data = path.read_bytes()
    # Both members are said to lie at the start, and the second one's bytes are taken out.
    end = data.index(b"PK\1\2")
    directory = bytearray(data[end:])
    directory[directory.rindex(b"PK\1\2") + 42 :][:4] = bytes(4)
    struct.pack_into("<I", directory, directory.rindex(b"PK\1\2") + 42, 0)
    struct.pack_into("<I", directory, directory.rindex(b"PK\5\6") + 16, second)
    path.write_bytes(data[:second] + directory)
    with pytest.raises(InvalidInput, match=r"^a\.zip: members of 200000 bytes overlap|is no zip file"):
        open_archive(path)


def test_an_archive_that_was_cut_off_anywhere_is_refused(tmp_path):
    path = archive(tmp_path / "a.zip", {"a": NOISE[:300], "b": b"x"}, compression=zipfile.ZIP_DEFLATED)
    for cut in reversed(range(path.stat().st_size)):
        os.truncate(path, cut)
        with pytest.raises(InvalidInput, match=r"^a\.zip"):
            open_archive(path)


def test_a_damaged_member_is_refused(tmp_path):
    for packing in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = archive(tmp_path / "a.zip", {"a": NOISE[:300]}, compression=packing)
        data = bytearray(path.read_bytes())
        for at in (0, 40, 100):
            path.write_bytes(bytes((*data[:at], data[at] ^ 255, *data[at + 1 :])))
            with pytest.raises(InvalidInput, match=r"^a\.zip/a: "):
                open_archive(path).read("a")
