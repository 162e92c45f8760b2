"""Exercises that check themselves: check("4.2", answer) prints one line, check.progress() shows a table."""

from importlib import import_module

from .judge import PASSED, Progress, judge

CHAPTERS = (
    "tensors", "tokenization", "embeddings", "attention", "multi_head_attention", "transformer_block", "gpt_model", "training",
    "text_generation", "sampling_explorer",
)  # fmt: skip
_states = {}  # of every exercise that was checked in this kernel


def exercises(chapter):
    """{number: Exercise} of a notebook, 1 to 10."""
    listed = import_module(f".{CHAPTERS[chapter - 1]}", __package__).EXERCISES
    return {f"{chapter}.{i}": exercise for i, exercise in enumerate(listed, 1)}


def check(number, answer):
    """Print whether `answer`, a function or a value, solves the exercise: passed, not attempted, or what to look at."""
    chapter, _, rest = str(number).partition(".")
    known = exercises(int(chapter)) if chapter.isdigit() and 1 <= int(chapter) <= len(CHAPTERS) else {}
    if str(number) not in known:
        has = ", ".join(known) or "none"
        raise ValueError(f"there is no exercise {number!r}: they are numbered like '4.2', and this notebook has {has}")
    state, hint = judge(known[str(number)], answer)
    _states[str(number)] = state
    print(f"{number} {known[str(number)].title}: {state}{hint and '. ' + hint}")


def progress():
    """A table of the exercises of every notebook that was worked on in this kernel."""
    chapters = sorted({int(number.partition(".")[0]) for number in _states})
    return Progress([(n, e.title, _states.get(n, "")) for chapter in chapters for n, e in exercises(chapter).items()])


check.progress = progress
__all__ = ["check", "exercises", "PASSED"]
