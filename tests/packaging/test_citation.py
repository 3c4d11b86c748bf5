"""CITATION.cff says of petseg what petseg's own metadata say."""

import configparser
import re

import yaml
from testing.command_processes import ROOT

import petseg


def test_the_newest_section_of_the_changelog_is_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    text = (ROOT / "CHANGELOG.md").read_text()
    version, date = re.search(r"^## \[(.+)\] - (.+)$", text, re.MULTILINE).groups()
    assert (version, date) == (petseg.__version__, str(cited["date-released"]))


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    parsed = configparser.ConfigParser()
    parsed.read(ROOT / "setup.cfg")
    metadata = parsed["metadata"]
    assert cited["version"] == petseg.__version__
    assert (cited["title"], cited["license"]) == (metadata["name"], metadata["license_expression"])
    assert cited["authors"] == [{"name": metadata["author"]}]
    assert set(cited["keywords"]) <= set(metadata["keywords"].split("\n"))
