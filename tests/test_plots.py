"""The figures: what is drawn is the data that was given, and everything on them has a name."""

import inspect

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex

from tinygpt_lib import SamplingSettings, plots, trace

NAMES = {"title": "What to see", "xlabel": "step", "ylabel": "loss (nats)"}
TITLE = {"title": "What to see"}
GRID = np.array([[0.1, 0.9, np.nan], [0.4, 0.0, 0.2]])
HISTORY = [{"step": 10, "train_loss": 3.0, "val_loss": 3.5}, {"step": 20, "train_loss": 2.0, "val_loss": None}]
FOUR = trace(np.log([0.1, 0.2, 0.3, 0.4]), SamplingSettings(temperature=2, top_k=3, top_p=0.7))
NODES = {"w": (2, -24), "b": (1, None), "w + b": (3, 1)}
ARROWS = {("w", "w + b"): 1, ("b", "w + b"): 0.5}
SPLIT = [("queries", "BTC", (2, 6, 12)), ("reshape", "BTHD", (2, 6, 3, 4))]
PLACES = {"signs": ([",", "."], np.array([[0.0, 1.0], [0.1, 1.2]])), "names": (["Brack"], np.array([[2.0, -1.0]]))}
CORNERS = np.array([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])

EXAMPLES = {
    "heat_map": lambda: plots.heat_map(GRID, ["a", "b"], ["x", "y", "z"], bar="weight", **NAMES),
    "lines": lambda: plots.lines([1, 2, 3], {"one": [4, 5, 6], "two": ([0, 9], [7, 8])}, log="x", **NAMES),
    "bars": lambda: plots.bars([0.5, 0.25], ["cat", "dog"], limit=1, **NAMES),
    "points": lambda: plots.points(PLACES, **NAMES),
    "loss_curves": lambda: plots.loss_curves(HISTORY, [(1, 4.0), (2, 3.9)], levels={"knows nothing": 6.9}, total=30, **TITLE),
    "shapes": lambda: plots.shapes(SPLIT, **TITLE),
    "stages": lambda: plots.stages(FOUR, ["hat", "bed", "sofa", "mat"].__getitem__, count=3, **TITLE),
    "choices": lambda: plots.choices(FOUR, ["hat", "bed", "sofa", "mat"].__getitem__, **TITLE),
    "coverage": lambda: plots.coverage(FOUR, **TITLE),
    "graph": lambda: plots.graph(NODES, ARROWS, **TITLE),
    "decision_boundary": lambda: plots.decision_boundary(lambda at: at[:, 0] + 0.2, CORNERS, np.array([1, -1, -1, 1]), **NAMES),
    "word_map": lambda: plots.word_map([["a", "b"], ["c", "d"]], [[0, 1], [0.5, 0.7]], ["r1", "r2"], ["c1", "c2"], **NAMES),
    "wiring": lambda: plots.wiring([("LayerNorm", "attention"), "MLP"], **TITLE),
}


def first(name):
    return np.ravel(EXAMPLES[name]())[0]


def texts(ax):
    return [text.get_text() for text in ax.texts]


def ticks(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


# ---- all of them


def test_each_drawing_has_an_example_here():
    drawings = {name for name, f in vars(plots).items() if inspect.isfunction(f) and "title" in inspect.signature(f).parameters}
    assert {name for name in drawings if not name.startswith("_")} == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_drawing_has_its_title_and_labels(name):
    ax = first(name)
    written = [ax.get_title(), ax.get_title(loc="left"), ax.figure.get_suptitle()]
    assert "What to see" in written
    if "xlabel" in inspect.signature(getattr(plots, name)).parameters:
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "loss (nats)")


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_same_data_give_the_same_bytes_whatever_the_readers_own_settings(name):
    once = plots.picture(EXAMPLES[name](), "What it shows.").png()
    with matplotlib.rc_context({"font.size": 20, "axes.titlelocation": "right", "lines.linewidth": 9}):
        before = dict(matplotlib.rcParams)
        again = plots.picture(EXAMPLES[name](), "What it shows.").png()
        assert dict(matplotlib.rcParams) == before
    assert once == again and once.startswith(b"\x89PNG")


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "stages"])
def test_a_drawing_goes_into_the_axes_that_it_is_given(name, monkeypatch):
    given = plots.panels(2)[1]
    monkeypatch.setitem(NAMES, "ax", given)
    monkeypatch.setitem(TITLE, "ax", given)
    assert EXAMPLES[name]() is given


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_title_and_labels_are_asked_for(name):
    drawing = inspect.signature(getattr(plots, name))
    for label in {"title", "xlabel", "ylabel"} & set(drawing.parameters):
        assert drawing.parameters[label].kind is inspect.Parameter.KEYWORD_ONLY
        assert drawing.parameters[label].default is inspect.Parameter.empty


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.bars([1, 2, 3], ["a", "b"], **NAMES),
        lambda: plots.lines([1, 2], {"y": [1, 2, 3]}, **NAMES),
        lambda: plots.lines([1, 2], {"y": [1, 2]}, log="z", **NAMES),
        lambda: plots.heat_map([1, 2, 3], **NAMES),
        lambda: plots.heat_map(GRID, ["only one row's name"], **NAMES),
        lambda: plots.shapes([("queries", "BTC", (2, 6))], **TITLE),
        lambda: plots.word_map([["too few"]], GRID, **NAMES),
    ],
)
def test_data_that_do_not_fit_are_refused(draw):
    with pytest.raises((ValueError, IndexError, AttributeError)):
        draw()


# ---- the picture


def test_a_picture_is_its_bytes_and_its_words():
    shown = plots.picture(EXAMPLES["bars"](), "Two bars, the first twice as high.")
    data, metadata = shown._repr_mimebundle_()
    assert data == {"image/png": shown.png(), "text/plain": "Picture: Two bars, the first twice as high."}
    assert metadata["image/png"]["alt"] == "Two bars, the first twice as high."


def test_panels_are_a_row_or_a_table_of_one_figure():
    assert plots.panels(3).shape == (3,) and plots.panels(3, rows=2).shape == (2, 3)
    axes = plots.panels(2, width=4, height=3)
    assert axes[0].figure is axes[1].figure and tuple(axes[0].figure.get_size_inches()) == (8, 3)
    assert plots.picture(axes, "Both.").figure is axes[0].figure


# ---- what is drawn is what was given


def test_heat_map():
    ax = first("heat_map")
    np.testing.assert_array_equal(ax.images[0].get_array().filled(np.nan), GRID)
    assert ax.images[0].get_clim() == (0, 0.9)
    assert texts(ax) == ["0.10", "0.90", "", "0.40", "0.00", "0.20"]
    assert (ticks(ax.xaxis), ticks(ax.yaxis)) == (["x", "y", "z"], ["a", "b"])
    assert ax.figure.axes[1].get_ylabel() == "weight"


def test_heat_map_of_both_signs_parts_its_colours_at_zero():
    image = plots.heat_map([[-1.0, 3.0]], **NAMES).images[0]
    assert image.get_clim() == (-3, 3)
    red, _, blue, _ = image.cmap(image.norm([-3.0, 0.0, 3.0]))[[0, 0, 2, 2]]
    assert red[0] > red[2] and blue[2] > blue[0]


def test_heat_map_writes_minus_infinity_and_few_numbers_only():
    assert texts(plots.heat_map([[-np.inf, 1.0]], **NAMES)) == ["−∞", "1.00"]
    assert not plots.heat_map(np.zeros((11, 10)) + np.eye(11, 10), **NAMES).texts
    assert not plots.heat_map(GRID, numbers=False, **NAMES).texts


def test_lines():
    ax = first("lines")
    one, two = ax.get_lines()
    np.testing.assert_array_equal(one.get_xydata(), [[1, 4], [2, 5], [3, 6]])
    np.testing.assert_array_equal(two.get_xydata(), [[0, 7], [9, 8]])
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "linear")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["one", "two"]
    assert one.get_marker() != two.get_marker() and one.get_color() != two.get_color()
    assert plots.lines([1], {"alone": [1]}, **NAMES).get_legend() is None


def test_bars():
    ax = first("bars")
    assert [bar.get_height() for bar in ax.patches] == [0.5, 0.25]
    assert ticks(ax.xaxis) == ["cat", "dog"] and ax.get_ylim() == (0, 1)


def test_points():
    ax = first("points")
    for group, (_, places) in zip(ax.collections, PLACES.values(), strict=True):
        np.testing.assert_array_equal(group.get_offsets(), places)
    assert texts(ax) == [",", ".", "Brack"]
    np.testing.assert_array_equal([note.xy for note in ax.texts], np.concatenate([places for _, places in PLACES.values()]))


def test_labels_do_not_cover_each_other():
    places = np.random.default_rng(0).normal(size=(20, 2))
    ax = plots.points({"all": ([f"word{i}" for i in range(20)], places)}, **NAMES)
    ax.figure.draw_without_rendering()
    boxes = [note.get_window_extent() for note in ax.texts]
    crossing = sum(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert crossing <= 2


def test_loss_curves():
    ax = first("loss_curves")
    steps, train, val, level = ax.get_lines()
    np.testing.assert_array_equal(steps.get_xydata(), [[1, 4.0], [2, 3.9]])
    np.testing.assert_array_equal(train.get_xydata(), [[10, 3.0], [20, 2.0]])
    np.testing.assert_array_equal(val.get_xydata(), [[10, 3.5]])  # the second wasn't measured
    assert list(level.get_ydata()) == [6.9, 6.9] and texts(ax) == ["knows nothing"]
    assert ax.get_xlim() == (0, 30) and "nats" in ax.get_ylabel()
    assert not plots.loss_curves([], **TITLE).get_lines()


def test_shapes():
    ax = first("shapes")
    assert texts(ax) == ["B = 2", "T = 6", "C = 12", "B = 2", "T = 6", "H = 3", "D = 4"]
    assert len(ax.patches) == 7 and ticks(ax.yaxis) == ["queries", "reshape"]
    colours = dict(zip(texts(ax), (to_hex(box.get_edgecolor()) for box in ax.patches)))
    assert colours["B = 2"] == plots.BLUE and len(set(colours.values())) == 5
    assert len(ax.get_lines()) == 4  # B and T go on, C ends in H and D


def test_stages():
    axes = EXAMPLES["stages"]()
    titles = [ax.get_title(loc="left").split(":")[0] for ax in axes]
    assert titles == ["the model", "temperature 2", "top-k 3", "top-p 0.7", "drawn from"]
    assert ticks(axes[0].yaxis) == ["mat", "sofa", "bed", "1 others"]
    likeliest = FOUR.order
    for ax, probs, kept in zip(
        axes, (FOUR.raw, FOUR.scaled, FOUR.scaled, FOUR.scaled, FOUR.final), (1, 1, FOUR.kept["top_k"], FOUR.kept["top_p"], 1)
    ):
        left, cut = np.split(np.array([bar.get_width() for bar in ax.patches]), 2)
        np.testing.assert_allclose(left, (probs * kept)[likeliest])
        np.testing.assert_allclose(cut, (probs * (1 - np.asarray(kept)))[likeliest])


def test_graph():
    ax = first("graph")
    assert texts(ax)[:9] == ["w", "value 2", "gradient −24", "b", "value 1", "gradient ?", "w + b", "value 3", "gradient 1"]
    assert {"× 1", "× 0.5"} <= set(texts(ax))
    w, b, both = (box.get_bbox() for box in ax.patches[:3])
    assert w.x1 < both.x0 and b.x1 < both.x0 and w.y0 > b.y1  # what is made stands to the right


def test_decision_boundary():
    ax = first("decision_boundary")
    area = ax.images[0].get_array()
    side = np.linspace(-1.1, 1.1, 150)
    np.testing.assert_array_equal(area[0], side + 0.2 > 0)
    circles, squares = (group.get_offsets() for group in ax.collections[-2:])
    np.testing.assert_array_equal(circles, CORNERS[[0, 3]])
    np.testing.assert_array_equal(squares, CORNERS[[1, 2]])


def test_word_map():
    ax = first("word_map")
    np.testing.assert_array_equal(ax.images[0].get_array(), [[0, 1], [0.5, 0.7]])
    assert texts(ax) == ["a", "b", "c", "d"] and ax.images[0].get_clim() == (0, 1)


def test_wiring():
    ax = first("wiring")
    assert texts(ax) == ["LayerNorm", "attention", "+", "MLP", "x", "y"]
    heights = [text.get_position()[1] for text in ax.texts[:4]]
    assert heights == sorted(heights, reverse=True)
    assert [text.get_position()[0] > 0 for text in ax.texts[:4]] == [True, True, False, False]


def test_choices():
    ax = first("choices")
    names = ["mat", "sofa", "bed", "hat"]
    assert ticks(ax.yaxis) == names
    says, drawn, by_k, by_p = ([bar.get_width() for bar in bars] for bars in ax.containers)
    np.testing.assert_allclose(says, [0.4, 0.3, 0.2, 0.1])
    roots = np.sqrt([0.4, 0.3])  # temperature 2 takes square roots; two of the three left reach 0.7
    np.testing.assert_allclose(drawn, [*roots / roots.sum(), 0, 0])
    np.testing.assert_allclose([by_k, by_p], [[0, 0, 0, 0.1], [0, 0, 0.2, 0]])
    labels = [label.get_text() for label in ax.get_legend().get_texts()]
    assert labels == ["the model says", "drawn from", "1 cut by top-k", "1 cut by top-p"]


def test_no_filter_is_said_to_cut_what_was_cut_before():
    for settings, banned in ((SamplingSettings(temperature=0, top_k=2), 0), (SamplingSettings(top_p=0.9999), 2)):
        logits = np.array([3.0, 2.0, 1.0, 0.5])
        logits[:banned] = -np.inf
        ax = plots.choices(trace(logits, settings), str, title="x")
        assert "0 cut by" in ax.get_legend().get_texts()[-1].get_text()


def test_coverage():
    ax = first("coverage")
    roots = np.sqrt([0.4, 0.3, 0.2, 0.1])
    says, held = (line.get_ydata() for line in ax.lines[:2])
    np.testing.assert_allclose(says, [0.4, 0.7, 0.9, 1.0])
    np.testing.assert_allclose(held, (roots / roots.sum()).cumsum())
    assert [line.get_xdata()[0] for line in ax.lines[2:]] == [3, 2]
    assert texts(ax) == ["top-k leaves 3", "top-p leaves 2"]


def test_more_curves_than_colours_are_all_drawn():
    curves = {f"curve {i}": [i, i + 1] for i in range(8)}
    assert len(plots.lines([0, 1], curves, **TITLE, xlabel="x", ylabel="y").get_lines()) == 8


def test_coverage_adds_up_what_it_draws_from_also_where_a_penalty_has_changed_the_order():
    t = trace([3.0, 2.0, 1.0, 0.0], SamplingSettings(repetition_penalty=10, top_p=0.5), seen=[0])
    held, cut = plots.coverage(t, **TITLE).get_lines()[1:3]
    np.testing.assert_allclose(held.get_ydata(), np.sort(t.scaled)[::-1].cumsum())
    assert cut.get_ydata()[1] == t.scaled[1] == max(t.scaled)  # the one token that is left
