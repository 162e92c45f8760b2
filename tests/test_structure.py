"""The package's shape: which way imports point, its size, what it loads, and what is shipped."""

import ast
import io
import shutil
import subprocess
import sys
import tokenize
import tomllib
import zipfile
from pathlib import Path

import pytest

from tinygpt_lib import archive

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tinygpt_lib"
FILES = sorted(PACKAGE.rglob("*.py"))
# Each module may import from the lines above its own. `archive` is a file format, `sampling` needs NumPy alone.
LAYERS = [
    {"validate"},
    {"tensor", "archive", "sampling"},
    {"functional", "tokenizer", "optim", "gradcheck"},
    {"nn", "data"},
    {"gpt"},
    {"checkpoint", "generation"},
    {"training"},
    {"plots"},
    {"widgets", "checks"},
    {"__main__"},
]
OUTSIDE_THE_CORE = {"plots", "widgets", "checks", "__main__"}


def part(path):
    """The module or subpackage right below tinygpt_lib that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """(our parts that a file imports, the packages from outside), also within functions."""
    ours, others = set(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            others |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            others.add(node.module.split(".")[0])
            if node.module.split(".")[0] == "tinygpt_lib":
                ours |= set(node.module.split(".")[1:2]) or {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(PACKAGE).parts[: -node.level]
            whole = [*package, *(node.module or "").split(".")]
            ours |= {next(filter(None, whole))} if any(whole) else {alias.name for alias in node.names}
    return ours, others - {"tinygpt_lib"}


def layer(name):
    found = [i for i, names in enumerate(LAYERS) if name in names]
    assert found, f"{name} has no layer yet: give it one"
    return found[0]


@pytest.mark.parametrize(
    "path", [path for path in FILES if part(path) != "__init__"], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_imports_point_one_way(path):
    for imported in imports(path)[0] - {part(path)}:
        assert layer(imported) < layer(part(path)), f"{path.name} imports {imported}, which must not stand below it"


def test_the_direction_is_really_read():
    assert imports(PACKAGE / "gpt.py")[0] >= {"archive", "functional", "nn", "tensor", "tokenizer"}  # the last within a function
    assert imports(PACKAGE / "tokenizer.py")[1] >= {"tiktoken", "regex"}


def test_sampling_needs_numpy_alone():
    ours, others = imports(PACKAGE / "sampling.py")
    assert ours <= {"validate"} and {name for name in others if name not in sys.stdlib_module_names} == {"numpy"}


def test_only_declared_packages_are_imported():
    declared = {bare(line).split(">")[0] for line in project()["dependencies"]}
    used = set().union(*(imports(path)[1] for path in FILES)) - set(sys.stdlib_module_names)
    assert used <= declared


# ---- its size


def code_lines(source):
    """Numbers of the lines that are neither blank nor comment nor docstring."""
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = {n for token in tokens if token.type not in skipped for n in range(token.start[0], token.end[0] + 1)}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return lines


def test_lines_are_counted_rightly():
    source = '"""Doc.\n\nMore.\n"""\n\n# why\ndef f(a,\n      b):  # what\n    """Doc."""\n    return """x\n# y\n"""\n'
    assert code_lines(source) == {7, 8, 10, 11, 12}


def test_the_core_can_be_read_in_an_afternoon():
    counts = {
        path.name: len(code_lines(path.read_text(encoding="utf-8"))) for path in FILES if part(path) not in OUTSIDE_THE_CORE
    }
    print(f"the core has {sum(counts.values())} lines: {counts}")
    assert 500 < sum(counts.values()) <= 1800


def test_no_line_is_wider_than_a_screen():
    sources = [*FILES, *(ROOT / "tests").rglob("*.py")]
    lines = [(path.name, line) for path in sources for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(sources) > 60 and not [(name, line) for name, line in lines if len(line) > 130]


# ---- what importing it loads


def test_importing_is_quiet_and_loads_no_plots_widgets_or_tiktoken():
    code = "import sys, tinygpt_lib; print([m for m in ('matplotlib', 'ipywidgets', 'IPython', 'tiktoken') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == ("[]\n", "")


def test_every_public_name_is_there_and_explained():
    import tinygpt_lib

    for name in tinygpt_lib.__all__:
        assert (getattr(tinygpt_lib, name).__doc__ or "").strip(), f"{name} has no docstring"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_text_is_opened_as_utf8(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        name = getattr(node.func, "attr", getattr(node.func, "id", "")) if isinstance(node, ast.Call) else ""
        if name in ("open", "read_text", "write_text", "fdopen", "NamedTemporaryFile"):
            modes = [arg.value for arg in [*node.args, *(k.value for k in node.keywords)] if isinstance(arg, ast.Constant)]
            binary = any(isinstance(mode, str) and "b" in mode and len(mode) < 4 for mode in modes)
            assert binary or any(
                k.arg == "encoding" for k in node.keywords
            ), f"{path.name}:{node.lineno} opens text without encoding="


# ---- what is declared and shipped


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def bare(requirement):
    return requirement.replace(" ", "").lower()


def test_environment_yml_agrees_with_pyproject():
    yaml = pytest.importorskip("yaml", reason='reading YAML needs PyYAML, which JupyterLab brings: pip install -e ".[test]"')
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    by_pip = environment["dependencies"][-1]["pip"]
    packages = {bare(line) for line in [*environment["dependencies"][:-1], *by_pip]} - {"-e."}
    assert set(environment["channels"]) - {"nodefaults"} == {"conda-forge"}
    wanted = project()["dependencies"] + project()["optional-dependencies"]["test"]
    wanted += ["python" + project()["requires-python"], "pip"]
    assert packages == {bare(line) for line in wanted}


def test_the_wheel_holds_every_module_and_asset(tmp_path):
    pytest.importorskip("setuptools", minversion="77", reason="building a wheel needs setuptools 77: pip install setuptools")
    source = tmp_path / "source"
    shutil.copytree(PACKAGE, source / "tinygpt_lib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    held = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    wanted = {path.relative_to(source).as_posix() for path in (source / "tinygpt_lib").rglob("*") if path.is_file()}
    assert wanted <= held, f"the wheel lacks {sorted(wanted - held)}"


def test_the_models_and_the_play_are_in_the_package():
    names = {path.name for path in archive.ASSETS.iterdir()}
    assert {"play.txt", *(f"gpt_{name}.npz" for name in archive.SHIPPED)} <= names
