"""deploy/Dockerfile: what it names exists, and what it copies is not kept out."""

import configparser
import fnmatch
import re

from testing.command_processes import ROOT

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
IGNORED = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().split("\n")


def setup():
    parsed = configparser.ConfigParser()
    parsed.read(ROOT / "setup.cfg")
    return parsed


def copied():
    """The paths of the repository that the image is built from."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.M)
    return [path for line in lines for path in line.split()[:-1]]


def is_ignored(path):
    found = False
    for pattern in filter(None, IGNORED):
        if not pattern.startswith("#") and fnmatch.fnmatch(path, pattern.removeprefix("!")):
            found = not pattern.startswith("!")
    return found


def test_what_is_copied_exists_and_reaches_the_builder():
    assert len(copied()) >= 5
    for path in copied():
        assert (ROOT / path).exists(), path
        assert not is_ignored(path), path
    assert is_ignored(".git") and is_ignored("docs")


def test_what_the_build_of_the_package_reads_is_copied():
    metadata = setup()["metadata"]
    needed = {metadata["long_description"].removeprefix("file:").strip(), metadata["license_files"]}
    assert needed | {"setup.cfg", "pyproject.toml", "petseg"} <= set(copied())


def test_the_versions_are_those_that_are_pinned_and_supported():
    assert "--constraint constraints.txt" in DOCKERFILE
    (minor,) = re.findall(r"^ARG PYTHON_IMAGE=python:3\.(\d+)-slim", DOCKERFILE, re.M)
    low, high = map(int, re.findall(r"3\.(\d+)", setup()["options"]["python_requires"]))
    assert low <= int(minor) < high


def test_every_extra_that_is_named_exists():
    extras = setup()["options.extras_require"]
    named = re.findall(r"EXTRA=([\w,]+)", DOCKERFILE)
    assert named
    for name in ",".join(named).split(","):
        assert name in extras


def test_the_user_at_the_end_is_not_root():
    assert re.findall(r"^USER (\S+)$", DOCKERFILE, re.M)[-1] == "1000"
    assert "--uid 1000" in DOCKERFILE
