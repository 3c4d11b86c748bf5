"""What the sources must not do, found in their syntax trees; and what SECURITY.md promises."""

import ast
import configparser
import re
from collections.abc import Iterator

import pytest
from testing.command_processes import ROOT

SOURCES = sorted(
    path for folder in ("petseg", "tools", "configs") for path in (ROOT / folder).rglob("*.py")
)

# Modules that run what they read, or that fetch from the network.
MODULES = {
    *("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "jsonpickle"),
    *("shelve", "marshal", "yaml", "code", "codeop", "pty", "telnetlib", "ftplib"),
    *("requests", "httpx", "aiohttp", "urllib3", "urllib.request", "http.client", "http.server"),
    *("socketserver", "xmlrpc", "asyncio"),
}
# Calls, by their names as written; one without a dot is a built-in.
CALLS = {
    *("eval", "exec", "compile", "__import__"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("tempfile.mktemp", "shutil.unpack_archive", "ssl._create_unverified_context"),
    *("keras.config.enable_unsafe_deserialization", "tf.keras.models.load_model"),
}
# Calls of a method of anything.
METHODS = {
    *("extract", "extractall", "load_model", "load_weights", "exec_module", "import_module"),
    *("read_pickle", "to_pickle", "unpack_archive", "bind", "listen", "start_server"),
}
METHODS_OF_SYSTEM = re.compile(r"os\.(exec|spawn|posix_spawn)\w*")
# Arguments with the only value that they may have.
ARGUMENTS = {"shell": False, "allow_pickle": False, "safe_mode": True, "verify": True}

ALLOWED = {
    ("petseg/recipes.py", "exec_module"): "a recipe is code of its user",
    ("tools/write_docs.py", "import_module"): "the commands that its source names",
    ("petseg/registry.py", "import_module"): "built-ins, and the plugins that settings name",
    ("petseg/conversion/spill.py", "pickle"): "this process's own temporary files",
    ("petseg/conversion/plan.py", "pickle"): "the plan that this conversion has just written",
    ("petseg/conversion/beam_runner.py", "pickle"): "likewise, by its own worker",
    ("petseg/conversion/sources/yolo.py", "yaml"): "safe_load alone, which makes plain values",
    ("petseg/exporting/formats.py", "import_module"): "whether a package is installed",
    ("petseg/exporting/formats.py", "load_model"): "the file that was written just before",
    ("petseg/models/encoders/weights.py", "load_weights"): "weights alone, no code",
    ("petseg/training/kubernetes_hosts.py", "http.client"): "the API server of its own cluster",
    ("petseg/training/rendezvous.py", "bind"): "hosts of a cluster wait for each other",
    ("petseg/training/rendezvous.py", "listen"): "hosts of a cluster wait for each other",
}


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else "?"


def forbidden_in(source: str) -> Iterator[str]:
    """The names of what is forbidden in a module's source."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{one.name}" for one in node.names)]
        else:
            names = []
        for name in names:
            if name in MODULES or name.partition(".")[0] in MODULES or name in CALLS:
                yield name
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        if name in CALLS or METHODS_OF_SYSTEM.fullmatch(name):
            yield name
        elif isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
            yield node.func.attr
        for argument in node.keywords:
            if argument.arg in ARGUMENTS:
                value = argument.value
                only = ARGUMENTS[argument.arg]
                if not (isinstance(value, ast.Constant) and value.value is only):
                    yield f"{argument.arg}="


def test_no_source_runs_what_it_reads_or_fetches():
    assert len(SOURCES) > 150
    found = {
        (str(path.relative_to(ROOT)), name)
        for path in SOURCES
        for name in forbidden_in(path.read_text())
    }
    assert found == set(ALLOWED)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import pickle", "pickle"),
        ("from pickle import loads", "pickle"),
        ("import yaml", "yaml"),
        ("from urllib import request", "urllib.request"),
        ("from os import system", "os.system"),
        ("def f():\n  return eval('1')", "eval"),
        ("exec(open('x').read())", "exec"),
        ("__import__(name)", "__import__"),
        ("os.system('ls')", "os.system"),
        ("os.execvp('ls', [])", "os.execvp"),
        ("subprocess.run('ls', shell=True)", "shell="),
        ("subprocess.run('ls', shell=is_shell)", "shell="),
        ("np.load(path, allow_pickle=True)", "allow_pickle="),
        ("keras.saving.load_model(path, safe_mode=False)", "safe_mode="),
        ("with tarfile.open(p) as archive:\n  archive.extractall('.')", "extractall"),
        ("zipfile.ZipFile(p).extract(name)", "extract"),
        ("shutil.unpack_archive(p)", "shutil.unpack_archive"),
        ("tempfile.mktemp()", "tempfile.mktemp"),
        ("server.bind(('', 80))", "bind"),
    ],
)
def test_the_audit_finds_each_kind(source, name):
    assert name in forbidden_in(source)


@pytest.mark.parametrize(
    "source",
    ["re.compile('x')", "model.compile()", "extract(images)", "run(x, shell=False)", "import json"],
)
def test_the_audit_lets_harmless_names_pass(source):
    assert list(forbidden_in(source)) == []


def version(text: str) -> tuple[int, ...]:
    """12.3 and 12.3.0 are equal."""
    return tuple(map(int, re.sub(r"(\.0)+$", "", text).split(".")))


def advisories() -> dict[str, str]:
    """Package -> the first version without a known advisory, by the table of SECURITY.md."""
    rows = re.findall(r"^\| `([\w-]+)` \| ([\d.]+) \|", (ROOT / "SECURITY.md").read_text(), re.M)
    return dict(rows)


def test_pinned_versions_have_the_fixes_that_are_known():
    lines = (ROOT / "constraints.txt").read_text().split()
    pinned = {name.lower(): number for name, number in (line.split("==") for line in lines)}
    assert len(advisories()) >= 4
    for package, fixed in advisories().items():
        assert version(pinned[package]) >= version(fixed), package


def test_no_requirement_allows_a_version_before_a_known_fix():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = config["options.extras_require"].values()
    lines = "\n".join([config["options"]["install_requires"], *extras]).split("\n")
    required = [line.lower().partition(">=") for line in lines if line.strip()]
    checked = [(name.strip(), least.strip()) for name, _, least in required]
    for package, fixed in advisories().items():
        for name, least in checked:
            assert name != package or version(least) >= version(fixed), package
    assert advisories().keys() & {name for name, _ in checked} >= {"keras", "pillow", "onnx"}


def test_what_is_fetched_while_installing_is_pinned():
    lines = (ROOT / "constraints.txt").read_text().split()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line) for line in lines)
