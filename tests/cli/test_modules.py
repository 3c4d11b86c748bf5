"""`python -m petseg.train` and its kin beside the library's functions of the same names."""

import pytest
from testing.commands import run_python


@pytest.mark.parametrize("name", ["train", "convert"])
def test_a_command_that_shares_its_name_with_a_function_cannot_be_imported(name):
    done = run_python("-c", f"import petseg.{name}")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert f"petseg.{name}(...)" in last and f"petseg.cli.{name}" in last


@pytest.mark.parametrize("name", ["train", "convert"])
def test_multiprocessing_can_import_the_main_module_again(name):
    again = f"runpy.run_module('petseg.{name}', run_name='__mp_main__')['run'].__module__"
    done = run_python("-c", f"import runpy; print({again})")
    assert (done.returncode, done.stdout) == (0, f"petseg.cli.{name}\n"), done.stderr


@pytest.mark.slow
def test_convert_as_a_module_starts_worker_processes(raw_pets, tmp_path):
    done = run_python(
        *("-m", "petseg.convert", f"--raw_dir={raw_pets}", f"--output_dir={tmp_path / 'out'}"),
        *("--workers=2", "--shard_mib=0.05"),
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").glob("*.tfrecord*"))) > 2
    assert (tmp_path / "out" / "manifest.json").exists()
