"""What every notebook keeps to. That its outputs come out again is nbval's work, which pytest does beside this."""

import ast
import inspect
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import tinygpt_lib
from tinygpt_lib import nn, plots
from tinygpt_lib.checks import exercises

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))
IGNORED = {"nbval-ignore-output", "nbval-skip", "raises-exception"}
LESSON = ["By hand", "The ladder", "Break it", "See it on the trained model", "Exercises", "What you now know"]
# Notebook 10 builds nothing new.
EXPLORER = ["The explorer", "Eight experiments", "Open challenges", "Your own model", "What you now know"]
everyone = pytest.mark.parametrize("path", NOTEBOOKS + SOLUTIONS, ids=lambda path: str(path.relative_to(ROOT / "notebooks")))
lessons = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def is_explorer(path):
    return path.name.startswith("10_")


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def prose(path):
    return "\n\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")


def is_compared(cell):
    return not IGNORED & set(cell.metadata.get("tags", []))


def output_text(cell):
    parts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return "\n".join(parts)


def test_there_is_a_solution_for_each_lesson():
    ten = """01_tensors_and_autograd 02_tokenization 03_embeddings 04_attention 05_multi_head_attention 06_transformer_block
        07_gpt_model 08_training 09_text_generation 10_sampling_explorer"""
    assert [path.stem for path in NOTEBOOKS] == ten.split() == [path.stem for path in SOLUTIONS]


# ---- the frame


@lessons
def test_the_sections_are_there_in_order(path):
    text = prose(path)
    number = path.name[:2]
    assert text.startswith(f"# {number} ")
    head = text[: text.index("\n## ")]
    assert re.search(r"^\*\*[^*]+\?\*\*$", head, re.M), "a question in bold"
    assert "*You need*" in head and "*Time:*" in head
    found = [heading for heading in re.findall(r"^## (.+)$", text, re.M)]
    sections = EXPLORER if is_explorer(path) else LESSON
    places = [next((i for i, heading in enumerate(found) if heading.startswith(section)), None) for section in sections]
    assert None not in places and places == sorted(places), dict(zip(sections, places))
    assert "*Sources.*" in text[text.index("## What you now know") :]
    assert "check.progress()" in [cell.source for cell in (code_cells(path) if is_explorer(path) else code_cells(path)[-1:])]


@lessons
def test_every_exercise_has_hints_a_check_and_a_solution(path):
    numbers = list(exercises(int(path.name[:2])))
    text, cells = prose(path), code_cells(path)
    assert len(numbers) == 8 if is_explorer(path) else 3 <= len(numbers) <= 5
    assert re.findall(r"^\*\*(\d+\.\d+) ", text, re.M) == numbers
    assert text.count("<details>") >= len(numbers)
    checks = [line for cell in cells for line in output_text(cell).splitlines() if re.match(r"\d+\.\d+ .*: ", line)]
    assert [line.split()[0] for line in checks] == numbers and all(line.endswith(": not attempted") for line in checks)
    solved = [line for cell in code_cells(path.parent / "solutions" / path.name) for line in output_text(cell).splitlines()]
    assert [line.split()[0] for line in solved if line.endswith(": passed")] == numbers


# ---- the craft


@everyone
def test_cells_are_short(path):
    lengths = [len(cell.source.splitlines()) for cell in code_cells(path)]
    assert max(lengths) <= 25
    if path in NOTEBOOKS:  # a solution is nothing but answers
        assert statistics.median(lengths) <= 6
    wide = [line for cell in code_cells(path) for line in cell.source.splitlines() if len(line) > 100]
    assert not wide


@everyone
def test_prose_argues_and_keeps_calm(path):
    text = prose(path)
    lines = [line for line in text.splitlines() if line.strip()]
    assert 4 * sum(bool(re.match(r"\s*([-*+]|\d+\.) ", line)) for line in lines) <= len(lines)
    assert not re.search("[\U0001f000-\U0001faff☀-➿]", re.sub("`[^`]*`", "", text)), "an emoji that isn't an example"
    assert not re.search(r"={4,}|#{7,}|\*{4,}", text), "a banner"
    assert not re.search(r"let's dive|as we can see|obviously", text, re.I)


@everyone
def test_nothing_of_a_machine_is_in_it(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|work|tmp|Users|usr)/|\b[A-Z]:\\\\", re.sub(r'"image/png": "[^"]*"', "", text))


@everyone
def test_it_is_small_enough(path):
    assert path.stat().st_size <= 1_500_000


def definitions(path):
    for cell in code_cells(path):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                yield node


def test_nothing_of_the_library_is_defined_again():
    public = set(tinygpt_lib.__all__) | {name for name, value in vars(nn).items() if inspect.isclass(value)}
    seen = {}
    for path in NOTEBOOKS:
        for node in definitions(path):
            assert node.name not in public, f"{path.name} defines {node.name}"
            body = ast.unparse(node.body)
            if body != "...":
                assert body not in seen, f"{path.name} has a second copy of {node.name}, which stands in {seen[body]}"
                seen[body] = path.name


@everyone
def test_random_numbers_have_a_seed(path):
    for cell in code_cells(path):
        assert not re.search(r"np\.random\.(?!default_rng\(\w|Generator)", cell.source), cell.source
        assert "default_rng()" not in cell.source


# ---- pictures


@everyone
def test_every_picture_says_in_words_what_is_to_be_seen(path):
    for cell in code_cells(path):
        assert "matplotlib" not in cell.source and "<Figure" not in output_text(cell)
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                alt = output.metadata["image/png"]["alt"]
                assert len(alt) > 40 and (output.data["text/plain"] == f"Picture: {alt}")


def test_every_drawing_asks_for_its_title_and_labels():
    public = [f for name, f in vars(plots).items() if inspect.isfunction(f) and not name.startswith("_")]
    drawings = [f for f in public if "ax" in inspect.signature(f).parameters]
    assert len(drawings) >= 3
    for function in drawings:
        parameters = inspect.signature(function).parameters
        assert parameters["title"].default is inspect.Parameter.empty, function.__name__


# ---- what nbval compares


@everyone
def test_it_was_run_from_top_to_bottom_and_its_outputs_are_stored(path):
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        last = ast.parse(cell.source).body[-1]
        shows = isinstance(last, ast.Expr) and not re.search(
            r"^(np\.testing\.)?assert|set_printoptions|\.(seek|append|update|extend)\(", ast.unparse(last)
        )
        assert cell.outputs or not shows, f"this cell should have an output:\n{cell.source}"
        assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in cell.outputs), cell.source


def test_most_cells_are_compared_strictly(record_property):
    shown = [cell for path in NOTEBOOKS + SOLUTIONS for cell in code_cells(path) if cell.outputs]
    strict = sum(map(is_compared, shown))
    record_property("cells with output that are compared strictly", f"{strict} of {len(shown)}, {strict / len(shown):.0%}")
    assert strict >= 0.85 * len(shown)


def altered_copy(path, copy):
    """Write the notebook up to its first cell with a number in what is compared, that number altered; return the cell's place."""
    notebook = read(path)
    for i, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and cell.outputs and is_compared(cell) and re.search(r"\d", output_text(cell)):
            break
    notebook.cells = notebook.cells[: i + 1]
    text = json.dumps(cell.outputs)
    alter = lambda match: str((int(match[0]) + 1) % 10)  # noqa: E731
    for output in cell.outputs:
        for holder, key in ((output, "text"), (output.get("data", {}), "text/plain"), (output.get("data", {}), "text/html")):
            if key in holder:
                holder[key] = re.sub(r"\d(?!.*\d)", alter, holder[key], count=1, flags=re.S)
    assert json.dumps(cell.outputs) != text
    nbformat.write(notebook, copy)
    return sum(cell.cell_type == "code" for cell in notebook.cells) - 1


@pytest.fixture(scope="module")
def altered(tmp_path_factory):
    """({path: the altered cell's place}, what nbval says about all altered copies)."""
    folder = tmp_path_factory.mktemp("altered")
    (folder / "solutions").mkdir()
    places = {path: altered_copy(path, folder / path.relative_to(ROOT / "notebooks")) for path in NOTEBOOKS + SOLUTIONS}
    options = ["-q", "-p", "no:cacheprovider", "--nbval", "--nbval-current-env", "--rootdir", ".", "-c", "/dev/null"]
    command = [sys.executable, "-m", "pytest", *options, "."]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    return places, done.stdout


@everyone
def test_an_altered_number_fails(path, altered):
    places, said = altered
    name, place = path.relative_to(ROOT / "notebooks").as_posix(), places[path]
    failures = re.findall(rf"^_+ {re.escape(name)}::Cell (\d+) _+$(.*?)^[_=]", said, re.M | re.S)
    assert [cell for cell, _ in failures] == [str(place)] and "mismatch" in failures[0][1], said
