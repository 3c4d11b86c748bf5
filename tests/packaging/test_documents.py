"""The documents are right: commands, settings, links, generated pages, the README's Python."""

import ast
import collections
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from testing import documents
from testing.command_processes import ROOT
from testing.documents import GENERATED

import petseg
from petseg.config import Config, Stage

# History is not corrected, and what is generated follows from the flags themselves.
HISTORY = ("CHANGELOG.md",)
PATHS = [path.relative_to(ROOT).as_posix() for path in documents.documents()]
WRITTEN = [path for path in PATHS if path not in (*GENERATED, *HISTORY)]
OTHER_PROGRAMS = ("pip ", ".venv/", "docker ", "python", "mkdocs ", "tensorboard")
OTHER_FLAGS = (  # of TensorBoard, Docker, Slurm and TensorFlow
    *("logdir", "bind_all", "load_fast", "stop-timeout", "distribution", "signal", "requeue"),
    "all",
)


def read(name: str) -> str:
    return (ROOT / name).read_text()


def run_python(*arguments: str, cwd=ROOT, **options) -> subprocess.CompletedProcess:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
        **options,
    )


def test_every_command_parses_with_its_own_flags():
    lines = collections.defaultdict(list)
    for name in WRITTEN:
        for module, arguments in documents.commands(read(name)):
            lines[module].append((name, arguments))
    assert sum(map(len, lines.values())) > 70 and len(lines) >= 10
    faults = []
    for module, found in lines.items():
        given = "".join(json.dumps(arguments) + "\n" for _, arguments in found)
        done = run_python("-m", "testing.parse_flags", module, input=given)
        assert done.returncode == 0, done.stderr
        said = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(said) == len(found), done.stderr
        faults += [(*one, text) for one, text in zip(found, said, strict=True) if text]
    assert not faults


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--config=oxford_pets", "--workdir=RUN"], ""),
        (["--config=oxford_pets", "--config.model.decoder=fpn", "--check_replicas"], ""),
        (["--config=oxford_pets", "--workdirr=RUN"], "workdirr"),
        (["--config=oxford_pets", "--config.model.dekoder=fpn"], "config.model.decoder"),
        (["--config=oxford_cats"], "oxford_cats"),
        (["--workdir=RUN"], "--config is missing"),
    ],
)
def test_a_wrong_command_would_be_found(arguments, expected):
    done = run_python("-m", "testing.parse_flags", "petseg.cli.train", input=json.dumps(arguments))
    said = json.loads(done.stdout)
    assert expected in said and bool(expected) == bool(said)


def test_commands_are_found_however_they_are_written():
    text = (
        "Words.\n\n    TF_CONFIG='{}' petseg-train --config=a \\\n        --workdir=b  # why\n"
        "    find . | petseg-predict --workdir=RUN - | head -1\n\n"
        "```sh\npython -m petseg.cli.verify --data_dir=OUT\n```\n\n```python\npetseg.train()\n```\n"
        "Not `petseg-convert --x`.\n"
    )
    assert sorted(documents.commands(text)) == [
        ("petseg.cli.predict", ["--workdir=RUN", "-"]),
        ("petseg.cli.train", ["--config=a", "--workdir=b"]),
        ("petseg.cli.verify", ["--data_dir=OUT"]),
    ]


def settings() -> set[str]:
    config = Config()
    names = {field.name for field in dataclasses.fields(Stage)}
    for section in dataclasses.fields(config):
        of_section = getattr(config, section.name)
        if dataclasses.is_dataclass(of_section):
            names |= {f"{section.name}.{field.name}" for field in dataclasses.fields(of_section)}
    return names


@pytest.mark.parametrize("name", WRITTEN)
def test_flags_settings_and_targets_in_sentences_exist(name):
    flags = set(re.findall(r"^\| `--(\w+)`", read("docs/commands.md"), re.MULTILINE))
    known, sections = settings(), "data|augment|model|train|optimizer|devices"
    targets = set(re.findall(r"^([\w-]+):", read("Makefile"), re.MULTILINE))
    unknown = []
    for span in documents.spans(read(name)):
        is_ours = not span.startswith(OTHER_PROGRAMS)
        for flag in re.findall(r"(?<!\S)--(\w[\w-]*)", span) if is_ours else ():
            if flag not in flags and flag not in OTHER_FLAGS:
                unknown.append(f"--{flag}")
        pattern = rf"(?:--config\.|config\.)?((?:{sections})\.\w+)(?![\w(./])"
        for setting in re.findall(rf"(?<![\w./]){pattern}", span):
            if setting not in known and setting.partition(".")[2] not in ("py", "yaml", "txt"):
                unknown.append(setting)
        if (made := re.match(r"make ([\w-]+)", span)) and made[1] not in targets:
            unknown.append(span)
    assert not unknown


@pytest.mark.parametrize("name", PATHS)
def test_every_link_leads_somewhere(name):
    lost = []
    for target in documents.links(read(name)):
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        if not file.exists() or (anchor and anchor not in documents.anchors(file.read_text())):
            lost.append(target)
    assert not lost


def test_every_page_is_in_the_index_and_in_the_site_and_every_picture_is_shown():
    index, site = read("BUILD.md"), read("mkdocs.yml")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert not {page for page in pages if f"](docs/{page})" not in index}
    decisions = {f"decisions/{path.name}" for path in (ROOT / "docs/decisions").glob("*.md")}
    assert not {page for page in pages | decisions if f" {page}\n" not in site}
    shown = " ".join(link for name in PATHS for link in documents.links(read(name)))
    pictures = [path.name for kind in ("png", "jpg") for path in ROOT.glob(f"docs/*.{kind}")]
    assert pictures and not [picture for picture in pictures if picture not in shown]


def test_generated_pages_are_fresh(tmp_path):
    done = run_python("tools/write_docs.py", str(tmp_path))
    assert done.returncode == 0, done.stderr
    for name in GENERATED:
        page = (tmp_path / name.removeprefix("docs/")).read_text()
        assert page == read(name), f"{name} is stale: make docs"


def test_every_public_name_is_in_the_api():
    named = re.findall(r"^\| `(\w+)` \|", read("docs/api.md"), re.MULTILINE)
    assert sorted([*named, "__version__"]) == sorted(petseg.__all__)


def test_the_first_pages_stay_short():
    assert len(read("README.md").split()) <= 700
    assert len(read("BUILD.md").splitlines()) <= 150


@pytest.mark.parametrize("name", WRITTEN)
def test_python_in_documents_is_python(name):
    for block in documents.fenced(read(name), "python"):
        ast.parse(block)


def test_the_stages_in_the_documents_are_settings():
    (block,) = documents.fenced(read("docs/training.md"), "python")
    done = run_python(
        "-c",
        f"import petseg\nfrom petseg import config_rules\nconfig = petseg.Config()\n{block}\n"
        "config_rules.validate(config)\nprint(len(config.stages()))",
    )
    assert done.stdout == "3\n", done.stderr


def test_the_loss_of_the_documents_is_one():
    (block,) = documents.fenced(read("docs/extending.md"), "python")
    check = """
from petseg.losses.base import Outputs, Truth
logits, mask = tf.zeros([1, 1, 3, 2]), tf.constant([[[0, 1, 255]]], tf.uint8)
print(float(LOSSES.get("squared_error").sum(Outputs(logits), Truth(mask))))
"""
    done = run_python("-c", f"{block}{check}")
    assert done.stdout == "1.0\n", done.stderr  # of two pixels that count, a quarter a class


@pytest.mark.slow
def test_the_python_of_the_readme_runs_after_the_quickstart(raw_pets, tmp_path):
    shutil.copytree(raw_pets, tmp_path / "quickstart" / "raw")
    (block,) = documents.fenced(read("README.md"), "python")
    more = "\nassert mask.shape == photo.size[::-1] and len(train) and len(validation)"
    more += "\nassert model.count_params()"
    (tmp_path / "readme.py").write_text(block + more)
    done = run_python("readme.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.match(r"0\.\d+ 6 evaluations", done.stdout.splitlines()[-1])
    assert list((tmp_path / "model").rglob("saved_model.pb"))


def test_every_module_that_can_be_run_is_among_the_commands():
    headings = re.findall(
        r"^## (?:petseg-|python -m petseg\.cli\.)(\w+)$", read(GENERATED[0]), re.M
    )
    modules = [
        path.stem
        for path in (ROOT / "petseg/cli").glob("*.py")
        if "\n    run()\n" in path.read_text()
    ]
    assert sorted(headings) == sorted(modules) and len(modules) >= 12
