"""Which folders a data set may be written into."""

import pytest
from testing.picture_files import touch

from petseg.data import output_folder
from petseg.errors import UserError


@pytest.mark.parametrize("name", ["lost+found/x", ".DS_Store", "@eaDir/x"])
def test_a_new_disk_is_an_empty_folder(tmp_path, name):
    touch(tmp_path / "out", [name])
    with output_folder.claim(str(tmp_path / "out")):
        (tmp_path / "out" / "shard").touch()
    assert (tmp_path / "out" / name).read_bytes() == b"x"
    assert (tmp_path / "out" / "shard").exists()


def test_a_folder_with_other_things_is_not_written_to(tmp_path):
    touch(tmp_path, ["thesis.txt", ".DS_Store"])
    with (
        pytest.raises(UserError, match=r"is not empty \(thesis.txt, ...\)"),
        output_folder.claim(str(tmp_path)),
    ):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".DS_Store", "thesis.txt"]
