"""The exercises' checks: right answers pass, each wrong one is refused with the hint that fits it."""

import copy
import importlib

import numpy as np
import pytest

from tinygpt_lib import Tensor
from tinygpt_lib.checks import CHAPTERS, check, exercises
from tinygpt_lib.checks.judge import NOT_ATTEMPTED, NOT_YET, PASSED, Exercise, difference, judge

NUMBERS = [(chapter, number) for chapter in range(1, len(CHAPTERS) + 1) for number in exercises(chapter)]
IDS = [f"{CHAPTERS[chapter - 1]}-{number}" for chapter, number in NUMBERS]


def wrong_answers(chapter):
    return importlib.import_module(f"tests.wrong_answers.{CHAPTERS[chapter - 1]}").WRONG


@pytest.mark.parametrize("chapter, number", NUMBERS, ids=IDS)
def test_wrong_answers_get_the_hint_that_fits(chapter, number):
    exercise, wrong = exercises(chapter)[number], wrong_answers(chapter)[number]
    assert len(wrong) >= 3 and len({words for _, words in wrong}) == len(wrong)
    for answer, words in wrong:
        state, hint = judge(exercise, answer)
        assert state == NOT_YET and words in hint, f"{number}, {answer}: {state}, {hint}"


@pytest.mark.parametrize("chapter, number", NUMBERS, ids=IDS)
def test_the_exercises_own_answer_passes_and_its_mistakes_do_not(chapter, number):
    exercise = exercises(chapter)[number]
    if exercise.examine is None:
        assert judge(exercise, exercise.answer) == (PASSED, "")
    for hint, mistake in exercise.mistakes.items():
        state, got = judge(exercise, mistake)
        assert state == NOT_YET and got == hint, f"{number}: the mistake of {hint!r} gets {state}, {got!r}"


@pytest.mark.parametrize("chapter, number", NUMBERS, ids=IDS)
def test_checking_changes_no_case(chapter, number):
    exercise = exercises(chapter)[number]
    before = copy.deepcopy(exercise.cases)
    judge(exercise, lambda *arguments: [a.fill(0) for a in arguments if isinstance(a, np.ndarray)])
    assert difference(before, exercise.cases, 0) is None


def test_there_are_at_least_thirty_exercises():
    assert len(NUMBERS) >= 30


def stub(q, k):
    """A docstring is no attempt."""
    ...


def empty(q, k):
    pass


DOUBLE = Exercise(
    "Double", lambda x: 2 * x, cases=((np.arange(3.0),), (np.ones((2, 2)),)), mistakes={"Twice, not squared.": lambda x: x * x}
)


def spoil(x):
    x *= 2
    return x


@pytest.mark.parametrize("given", [stub, empty, None, ...])
def test_a_stub_is_not_attempted(given):
    assert judge(DOUBLE, given) == (NOT_ATTEMPTED, "")


@pytest.mark.parametrize(
    "given, words",
    [
        (lambda x: x**2, "Twice, not squared."),
        (lambda x: print(end=""), "is there a `return`"),
        (spoil, "changes its arguments"),
        (lambda x: x / 0 + undefined, "NameError"),
        (lambda x: 2 * x.sum(), "expected shape (3,), got ()"),
        (lambda x: 2 * x + 1, "right shape, wrong values: at [0] expected 0, got 1"),
        (lambda x: "two", "got 'two'"),
        (lambda: 2, "TypeError"),
        (6, "the function itself"),
    ],
)
def test_what_is_said_about_an_unknown_mistake(given, words):
    state, hint = judge(DOUBLE, given)
    assert state == NOT_YET and words in hint


def test_results_of_other_types():
    assert judge(DOUBLE, lambda x: (2 * x).tolist()) == judge(DOUBLE, lambda x: Tensor(2 * x)) == (PASSED, "")


def test_a_value_is_compared_too():
    exercise = Exercise("Answer", 42, mistakes={"That was the question.": 6 * 9})
    assert judge(exercise, 42.0)[0] == PASSED and judge(exercise, 54)[1] == "That was the question."
    assert "expected 42" in judge(exercise, 41)[1] and "not a function" in judge(exercise, max)[1]


def test_check_prints_one_line_and_progress_a_table(capsys):
    check("4.1", lambda q, k: q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]))
    check("4.2", None)
    assert capsys.readouterr().out.splitlines() == ["4.1 Scaled scores: passed", "4.2 Softmax of each row: not attempted"]
    table = check.progress()
    assert "1 of 5 passed" in repr(table) and "<td>4.1</td>" in table._repr_html_()


@pytest.mark.parametrize("number", ["4.99", "0.1", "99.1", "four", ""])
def test_an_unknown_exercise_is_named(number):
    with pytest.raises(ValueError, match="there is no exercise"):
        check(number, None)
