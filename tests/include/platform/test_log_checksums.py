"""What is noted of files is read back, whatever their names hold."""

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from include.outcome import MaintenanceFailed
from include.platform import log_checksums

DIGEST = "0123456789abcdef" * 4
ENDS = "\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"  # of a line, as str.splitlines() takes them

characters = st.characters(exclude_categories=["Cs"], exclude_characters="\n/\0")
names = st.text(st.one_of(characters, st.sampled_from(ENDS)), min_size=1)


@given(st.lists(names, unique=True, max_size=5))
@hypothesis_settings(max_examples=50, deadline=None)
def test_any_name_is_read_back(noted: list[str]) -> None:
    with TemporaryDirectory() as folder:
        for name in noted:
            log_checksums.note(Path(folder), name, DIGEST)
        assert log_checksums.read(Path(folder)) == dict.fromkeys(noted, DIGEST)
        for name in noted:
            log_checksums.forget(Path(folder), name)
        assert log_checksums.read(Path(folder)) == {}


def test_an_empty_file_notes_nothing_and_what_is_no_checksum_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "SHA256SUMS"
    assert log_checksums.read(tmp_path) == {}
    path.write_text("")
    assert log_checksums.read(tmp_path) == {}
    path.write_text(f"{DIGEST} *a\n{DIGEST}  b")  # as an editor may leave it
    assert log_checksums.read(tmp_path) == {"a": DIGEST, "b": DIGEST}
    for content, line in ((b"\n", 1), (f"{DIGEST}  a\n\n".encode(), 2), (b"\xff", 1)):
        path.write_bytes(content)
        with pytest.raises(MaintenanceFailed, match=f"^line {line} of SHA256SUMS is not a checksum and a file name"):
            log_checksums.read(tmp_path)


def test_sha256sum_reads_the_same_names(tmp_path: Path) -> None:
    name = f"a{ENDS}b"
    (tmp_path / name).write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    log_checksums.note(tmp_path, name, empty)
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path, capture_output=True, check=True)
