"""The flags of Beam's runners that docs/deployment.md names, read by Beam's own parser."""

import logging
import re

import pytest
from testing.command_processes import ROOT

PAGE = (ROOT / "docs" / "deployment.md").read_text()
LINES = re.findall(r"petseg-convert .* --runner=beam --beam_args=(\S+)", PAGE)


def options_of(line):
    """Beam's options by name; the command splits a list at commas as this does."""
    pipeline_options = pytest.importorskip("apache_beam.options.pipeline_options")
    return pipeline_options.PipelineOptions(line.split(","))


def test_the_page_names_four_runners():
    assert len(LINES) == 4


@pytest.mark.parametrize("line", LINES)
def test_beam_knows_every_flag(line, caplog):
    with caplog.at_level(logging.WARNING):
        found = options_of(line).get_all_options(retain_unknown_options=False)
    assert "unparseable" not in caplog.text
    for flag in line.split(","):
        name, _, value = flag.removeprefix("--").partition("=")
        assert str(found[name]) == value, flag


def test_a_flag_that_beam_does_not_know_is_seen(caplog):
    with caplog.at_level(logging.WARNING):
        options_of("--flink_mister=HOST").get_all_options(retain_unknown_options=False)
    assert "unparseable" in caplog.text
