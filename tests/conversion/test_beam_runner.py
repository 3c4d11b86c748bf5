"""The beam runner in this process; test_runners.py has it with several."""

import pytest
from testing.conversion import convert, files_of

from petseg.data import shard_files
from petseg.errors import FaultFound, UserError

DASK = "--runner=apache_beam.runners.dask.dask_runner.DaskRunner"


def test_the_whole_conversion_on_beam_gives_the_same_files(raw_pets, data_dir, tmp_path):
    convert(raw_pets, tmp_path / "out", runner="beam")
    assert files_of(tmp_path / "out") == files_of(data_dir)


def test_a_lost_shard_is_written_again_on_beam(raw_pets, data_dir, tmp_path):
    finished = convert(raw_pets, tmp_path / "out")
    (tmp_path / "out" / finished.splits["train"].shards[1].name).unlink()
    assert convert(raw_pets, tmp_path / "out", runner="beam") == finished
    assert files_of(tmp_path / "out") == files_of(data_dir)


def test_what_is_wrong_with_the_source_is_one_line_without_beams_own(tmp_path, caplog):
    (tmp_path / "raw").mkdir()
    with pytest.raises(UserError) as raised:
        convert(tmp_path / "raw", tmp_path / "out", runner="beam")
    with pytest.raises(UserError) as expected:
        convert(tmp_path / "raw", tmp_path / "out")
    assert str(raised.value) == str(expected.value)
    assert "Traceback" not in caplog.text
    assert not (tmp_path / "out").exists()


def test_a_bad_input_stops_beam_when_that_is_asked_for(pets, tmp_path):
    (pets / "images" / "Slate_2.jpg").write_bytes(b"")
    with pytest.raises(FaultFound) as raised:
        convert(pets, tmp_path / "out", runner="beam", on_bad="fail")
    assert str(raised.value) == "--on_bad=fail: Slate_2: image is empty (0 bytes)"
    assert not list((tmp_path / "out" / shard_files.WORK_DIR).glob("*.tmp*"))


def test_wrong_options_of_beam_are_a_wrong_command(pets, tmp_path):
    with pytest.raises(UserError, match=r"^--beam_args=--runner=No: Unexpected pipeline runner"):
        convert(pets, tmp_path / "out", runner="beam", beam_args=("--runner=No",))


@pytest.mark.long
def test_on_a_dask_cluster_of_several_processes_the_files_are_the_same(
    raw_pets, data_dir, tmp_path
):
    pytest.importorskip("distributed", reason="Dask is not installed")
    convert(raw_pets, tmp_path / "out", runner="beam", beam_args=(DASK,))
    assert files_of(tmp_path / "out") == files_of(data_dir)
