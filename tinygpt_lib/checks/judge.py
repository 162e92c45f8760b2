"""What is wrong with an answer: it is run beside a right one and beside the mistakes that learners make."""

import copy
import dis
import html
from dataclasses import dataclass, field

import numpy as np

from tinygpt_lib.tensor import Tensor

PASSED, NOT_ATTEMPTED, NOT_YET = "passed", "not attempted", "not yet"


@dataclass(frozen=True)
class Exercise:
    """answer: a right function (or value). cases: tuples of arguments. mistakes: {hint: the function or value it fits}.

    examine(given), where there are many right answers, returns a hint or None instead.
    """

    title: str
    answer: object = None
    cases: tuple = ()
    mistakes: dict = field(default_factory=dict)
    examine: object = None
    tolerance: float = 1e-6


@dataclass(frozen=True)
class Raised:
    """What a function did instead of returning."""

    error: Exception

    def __str__(self):
        return f"{type(self.error).__name__}: {self.error}"


def strided(rng, *shape):
    """Random numbers of a shape as every second element of a larger array, so not contiguous."""
    return rng.normal(size=(*shape[:-1], 2 * shape[-1]))[..., ::2]


def judge(exercise, given):
    """(state, hint): the hint of the first mistake that explains every failing case, or else what the first one shows."""
    if _is_stub(given):
        return NOT_ATTEMPTED, ""
    if exercise.examine is not None:
        hint = exercise.examine(given)
        return (NOT_YET, hint) if hint else (PASSED, "")
    if callable(exercise.answer) != callable(given):
        wanted = "the function itself, without calling it" if callable(exercise.answer) else "the value, not a function"
        return NOT_YET, f"Pass {wanted}: got {_describe(given)}."
    if not callable(given):
        wrong = difference(exercise.answer, given, exercise.tolerance)
        hints = [hint for hint, value in exercise.mistakes.items() if wrong and not difference(value, given, exercise.tolerance)]
        return (NOT_YET, (hints or [f"{wrong}."])[0]) if wrong else (PASSED, "")
    return _judge_function(exercise, given)


def _judge_function(exercise, given):
    failed = []
    for case in exercise.cases:
        arguments = copy.deepcopy(case)
        got, expected = _run(given, arguments), _run(exercise.answer, copy.deepcopy(case))
        if got is None:
            return NOT_YET, "It returns None: is there a `return`?"
        if difference(case, arguments, 0):
            return NOT_YET, "It changes its arguments, which the caller still needs: work on a copy."
        if wrong := difference(expected, got, exercise.tolerance):
            failed.append((case, got, wrong))
    if not failed:
        return PASSED, ""
    for hint, mistake in exercise.mistakes.items():
        if not any(difference(_run(mistake, copy.deepcopy(case)), got, exercise.tolerance) for case, got, _ in failed):
            return NOT_YET, hint
    case, _, wrong = failed[0]
    return NOT_YET, f"With {', '.join(_describe(argument) for argument in case)}: {wrong}."


def _run(function, arguments):
    try:
        with np.errstate(all="ignore"):
            return function(*arguments)
    except Exception as error:
        return Raised(error)


def difference(expected, got, tolerance):
    """What distinguishes two results, in words, or None."""
    if isinstance(got, Raised) or isinstance(expected, Raised):
        if not isinstance(got, Raised):
            return f"it should raise {type(expected.error).__name__}"
        same = isinstance(expected, Raised) and type(expected.error) is type(got.error)
        return None if same else f"it raised {got}"
    if isinstance(expected, (list, tuple, dict)):
        return _difference_of_parts(expected, got, tolerance)
    expected, got = (value.data if isinstance(value, Tensor) else value for value in (expected, got))
    if not isinstance(expected, (int, float, np.ndarray, np.generic)):
        same = not isinstance(expected, (str, bytes, set, type(None))) or expected == got
        return None if same else f"expected {_short(expected)}, got {_short(got)}"
    try:
        a, b = np.asarray(expected, dtype=np.float64), np.asarray(got, dtype=np.float64)
    except (TypeError, ValueError):
        return f"expected {_describe(expected)}, got {_describe(got)}"
    if a.shape != b.shape:
        return f"expected shape {a.shape}, got {b.shape}"
    if np.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True):
        return None
    if not a.ndim:
        return _two(a, b)
    where = np.unravel_index(np.argmax(~np.isclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)), a.shape)
    return f"right shape, wrong values: at {[int(i) for i in where]} {_two(a[where], b[where])}"


def _two(a, b):
    digits = 6 if f"{a:.6g}" != f"{b:.6g}" else 12
    return f"expected {a:.{digits}g}, got {b:.{digits}g}"


def _difference_of_parts(expected, got, tolerance):
    if isinstance(expected, dict):
        if not isinstance(got, dict) or expected.keys() != got.keys():
            return f"expected a dict with {sorted(map(str, expected))}, got {_describe(got)}"
        pairs = [(f"at {key!r} ", value, got[key]) for key, value in expected.items()]
    else:
        if not isinstance(got, (list, tuple, np.ndarray)) or len(got) != len(expected):
            return f"expected {_describe(expected)}, got {_describe(got)}"
        pairs = [(f"part {i + 1}: ", *pair) for i, pair in enumerate(zip(expected, got))]
    return next((where + found for where, a, b in pairs if (found := difference(a, b, tolerance))), None)


def _is_stub(given):
    """Ellipsis, None, or a function whose body does nothing and returns None."""
    if not hasattr(given, "__code__"):
        return given is None or given is Ellipsis
    steps = list(dis.get_instructions(given))
    idle = {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST"}
    return {step.opname for step in steps} <= idle and all(step.argval is None for step in steps if "CONST" in step.opname)


def _describe(value):
    value = value.data if isinstance(value, Tensor) else value
    if isinstance(value, np.ndarray):
        if value.size > 6:
            return f"an array of shape {value.shape}"
        return np.array2string(value, precision=3, separator=", ").replace("\n", "")
    if isinstance(value, (list, tuple)) and len(repr(value)) > 60:
        return f"a {type(value).__name__} of {len(value)}"
    return f"the function {value.__name__}" if hasattr(value, "__code__") else _short(value)


def _short(value):
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


class Progress:
    """A table of (number, title, state)."""

    def __init__(self, rows):
        self.rows = rows

    def __repr__(self):
        width = max((len(title) for _, title, _ in self.rows), default=0)
        done = sum(state == PASSED for *_, state in self.rows)
        lines = [f"{n}  {title:{width}}  {state}" for n, title, state in self.rows]
        return "\n".join([*lines, f"{done} of {len(self.rows)} passed"])

    def _repr_html_(self):
        row = "<tr><td>{}</td><td style='text-align:left'>{}</td><td>{}</td></tr>"
        rows = "".join(row.format(n, html.escape(title), state) for n, title, state in self.rows)
        done = sum(state == PASSED for *_, state in self.rows)
        head = "<tr><th>exercise</th><th></th><th>state</th></tr>"
        return f"<table><caption>{done} of {len(self.rows)} passed</caption>{head}{rows}</table>"
