import ast
import re
from pathlib import Path

from absl import flags
from testing.commands import assert_one_line_error, run_module

from petseg import cli
from petseg.cli import path_flags

# How the flags are called that are paths.
_IS_PATH = re.compile(
    r"dir$|_list|_to$|^(images|masks|annotations|classes|curves|contact_sheet|weights)$"
)


def _text(node: ast.expr) -> str:
    """'x_list' of a literal, and '_list' of an f-string."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return "".join(part.value for part in parts if isinstance(part, ast.Constant))


def test_every_flag_that_is_a_path_is_defined_as_one():
    defined = {}
    for file in Path(cli.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "flags.DEFINE_string",
                "path_flags.define",
            ):
                defined[file.stem, _text(node.args[0])] = ast.unparse(node.func)
    assert ("train", "workdir") in defined
    assert ("convert", "_list") in defined
    for (_, name), function in defined.items():
        assert (function == "path_flags.define") == bool(_IS_PATH.search(name)), name


def test_a_path_flag_expands_the_user_s_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    holder = path_flags.define("a_folder_of_a_test", None, "A folder.")
    flag = flags.FLAGS[holder.name]
    try:
        for given, expected in {
            "~/x": f"{tmp_path}/x",
            "~": str(tmp_path),
            "x/~": "x/~",
            "gs://bucket/~": "gs://bucket/~",
            "": "",
        }.items():
            flag.parse(given)
            assert flag.value == expected
    finally:
        delattr(flags.FLAGS, holder.name)


def test_a_command_expands_the_user_s_folder(tmp_path):
    done = run_module("-m", "petseg.verify", "--data_dir=~/records", HOME=str(tmp_path))
    assert_one_line_error(done, 2, f"{tmp_path}/records")
