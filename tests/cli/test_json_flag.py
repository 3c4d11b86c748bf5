import io

import pytest

from petseg.cli import json_flag


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("asked", "output", "expected"),
    [
        (None, io.StringIO(), True),
        (None, Terminal(), False),
        (True, Terminal(), True),
        (False, io.StringIO(), False),
    ],
)
def test_people_read_the_table_and_programs_the_json(asked, output, expected):
    assert json_flag.is_wanted(asked, output) == expected
