"""Two settings side by side, and the map of temperature against top-p, as panels."""

import html

import ipywidgets as widgets

from tinygpt_lib.generation import encoding_of

from .background import Background
from .comparison import MEASURES, TEMPERATURES, TOP_PS, comparing, measure_map, measuring
from .comparison_pictures import describe_map, draw_map, draw_table, draw_text, last_words, words_on_parting
from .controls import PRESETS, SettingsControls, buttons
from .drawing import legend, paper

WRAP = {"flex_flow": "row wrap", "align_items": "center"}
LABEL = {"description_width": "7em"}
STALE = "<b>This was measured before: {} have changed since.</b>"


class Job(widgets.HBox):
    """A button that starts something long, one that cancels it, a bar and words on how far it is.

    begin() gives an iterator of (share done, found so far); show(found) is called as it goes on.
    """

    def __init__(self, verb, begin, show):
        self._begin, self._show, self.work = begin, show, Background()
        self.start = widgets.Button(description=verb, layout={"width": "auto"})
        self.cancel = widgets.Button(description="cancel", layout={"width": "auto"})
        self.bar, self.said = widgets.IntProgress(max=100, layout={"width": "12em"}), widgets.HTML()
        self.start.on_click(lambda _: self.go())
        self.cancel.on_click(lambda _: self.stop())
        super().__init__([self.start, self.cancel, self.bar, self.said], layout=WRAP)

    def go(self):
        """Begin, or begin anew."""
        self._advance((0, []))
        self.work.start(self._begin(), self._advance, self._end)

    def stop(self):
        """Leave it at what was found so far."""
        if self.work.busy:
            self.work.cancel()
            self.said.value = f"cancelled at {self.bar.value} %"

    def _advance(self, item):
        share, found = item
        self.bar.value = round(100 * share)
        self.said.value = f"{self.bar.value} %"
        self._show(found)

    def _end(self, error):
        self.said.value = html.escape(str(error)) if error else "done"


class ComparisonPanel(widgets.VBox):
    """Settings A and B, the text that each writes under the same luck, and what both do to many texts.

    `a` and `b` are the SettingsControls, `comparison` what was written last, `found` what `of_each` says of A and of B.
    """

    def __init__(self, model, encoding=None, ids=(), n_tokens=60, n_texts=32):
        self.model, self.encoding, self.ids, self.n_tokens = model, encoding_of(model, encoding), list(ids), n_tokens
        self.comparison, self.found, self._writing = None, [], Background()
        self._asked = self._measured = None  # what is being measured, and what the table is of
        self.a, self.b = (SettingsControls(PRESETS[name], model.config.vocab_size) for name in ("balanced", "creative"))
        self.text_a, self.text_b, self.parting, self.table = (widgets.HTML() for _ in range(4))
        self.seed = widgets.BoundedIntText(value=0, max=2**31 - 1, description="seed", style=LABEL, layout={"width": "15em"})
        self.n_texts = _texts_each(n_texts)
        self.job, self.stale = Job("measure A and B", self._measure, self._take), widgets.HTML()
        settings = _side_by_side(_named("A", self.a), _named("B", self.b))
        texts = _side_by_side(self.text_a, self.text_b)
        super().__init__([self.seed, settings, self.parting, texts, self.n_texts, self.job, self.stale, self.table])
        for controls in (self.a, self.b):
            controls.observe_settings(lambda _: self._write())
        self.seed.observe(lambda _: self._write(), "value")
        self._write()

    def set_text(self, model, encoding, ids):
        """Go on from another text, perhaps another model's."""
        if model is not self.model:
            for controls in (self.a, self.b):
                controls.set_vocabulary(model.config.vocab_size)
        if model is not self.model or list(ids) != self.ids:
            self.model, self.encoding, self.ids = model, encoding_of(model, encoding), list(ids)
            self._write()

    def __repr__(self):
        return "ComparisonPanel: run this cell to set A and B, and see where their texts part"

    def _choice(self):
        """All that the texts depend on."""
        return self.model, self.ids, self.a.settings, self.b.settings, self.seed.value

    def _write(self):
        self._mark_stale()
        model, ids, a, b, seed = self._choice()
        growing = comparing(model, ids, a, b, seed=seed, n_tokens=self.n_tokens, encoding=self.encoding)
        self._writing.start(growing, self._grow, self._written)

    def _grow(self, comparison):
        self.comparison = comparison
        if len(comparison.a) % 10 == 0:  # so that something is seen soon, and the browser isn't kept busy
            self._draw_texts()

    def _draw_texts(self):
        both, begin = self.comparison, last_words(self.encoding, self.ids)
        for name, steps, shown in (("A", both.a, self.text_a), ("B", both.b, self.text_b)):
            shown.value = paper(f"<b>{name}</b>{draw_text(begin, steps, self.encoding, both.parting)}")

    def _written(self, error):
        if error:
            self.text_a.value, self.text_b.value, self.parting.value = "", "", paper(html.escape(str(error)))
        else:
            self._draw_texts()
            self.parting.value = paper(words_on_parting(self.comparison, self.encoding) + legend("◆: here A and B part."))

    def _measure(self):
        self._asked = model, ids, a, b, seed = self._choice()
        return measuring(
            model, ids, [a, b], seed=seed, n_texts=self.n_texts.value, n_tokens=self.n_tokens, encoding=self.encoding
        )

    def _take(self, found):
        if len(found) == 2:
            self.found, self._measured = found, self._asked
            self._mark_stale()
            self.table.value = paper(draw_table(*found, self.n_tokens))

    def _mark_stale(self):
        old = self._measured and self._measured != self._choice()
        self.stale.value = STALE.format("settings, seed or text") if old else ""


class MapPanel(widgets.VBox):
    """A map of temperature against top-p, coloured by one of the measures of what they make the model write.

    `cells` is what `measure_map` has yielded so far; the other settings are off.
    """

    def __init__(self, model, encoding=None, ids=(), n_tokens=40, n_texts=12, temperatures=TEMPERATURES, top_ps=TOP_PS):
        self.model, self.encoding, self.ids, self.n_tokens = model, encoding_of(model, encoding), list(ids), n_tokens
        self.cells, self._axes, self._about, self._measured = [], (temperatures, top_ps), "", None
        self.measure = buttons("coloured by", MEASURES, value="distinct-2", tooltips=list(MEASURES.values()))
        self.n_texts, self.job = _texts_each(n_texts), Job("draw the map", self._begin, self._take)
        self.stale, self.picture, self.words = widgets.HTML(), widgets.HTML(), widgets.HTML()
        super().__init__([self.n_texts, self.job, self.measure, self.stale, self.picture, self.words])
        self.measure.observe(lambda _: self._draw(), "value")
        self._draw()

    def set_text(self, model, encoding, ids):
        """Let the next map be of another text, perhaps another model's; the one that is there says what it was of."""
        self.model, self.encoding, self.ids = model, encoding_of(model, encoding), list(ids)
        self._mark_stale()

    def _mark_stale(self):
        old = self._measured and self._measured != (self.model, self.ids)
        self.stale.value = STALE.format("model or text") if old else ""

    def __repr__(self):
        return "MapPanel: run this cell to see what temperature and top-p do to the texts, on a map"

    def _begin(self):
        n_texts, begin, self._measured = self.n_texts.value, last_words(self.encoding, self.ids), (self.model, self.ids)
        self._mark_stale()
        self._about = f"Each cell: {n_texts} texts of up to {self.n_tokens} tokens after “{begin}”, top-k and min-p off, seed 0."
        options = {"seed": 0, "n_texts": n_texts, "n_tokens": self.n_tokens, "encoding": self.encoding}
        return measure_map(self.model, self.ids, *self._axes, **options)

    def _take(self, cells):
        if len(cells) != len(self.cells):
            self.cells = cells
            self._draw()

    def _draw(self):
        self.picture.value = paper(draw_map(self.cells, self.measure.value, *self._axes))
        self.words.value = paper(html.escape(f"{describe_map(self.cells, self.measure.value, *self._axes)} {self._about}"))


def _named(name, controls):
    """The controls below their name, which each slider's label has, too, for those who hear it."""
    for slider in controls.sliders.values():
        slider.description, slider.style.description_width = f"{name}: {slider.description}", "8em"
    for box in controls.boxes.values():
        box.description = f"{name}: {box.description}"
    return widgets.VBox([widgets.HTML(f'<b style="font-size:16px">{name}</b>'), controls])


def _side_by_side(*columns):
    """Columns of one width, or below each other where there is no room."""
    for column in columns:
        column.layout = {"flex": "1 1 30em", "min_width": "0"}
    return widgets.Box(columns, layout={"flex_flow": "row wrap"})


def _texts_each(n):
    return widgets.IntSlider(value=n, min=4, max=64, step=4, description="texts each", style=LABEL)
