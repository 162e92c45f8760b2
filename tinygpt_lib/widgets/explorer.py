"""The sampling explorer: a panel that binds `ExplorerState`, its pictures and the controls."""

import asyncio
import html
from dataclasses import replace

import ipywidgets as widgets

from tinygpt_lib import validate
from tinygpt_lib.archive import SHIPPED
from tinygpt_lib.checkpoint import load_pretrained
from tinygpt_lib.data import encode
from tinygpt_lib.generation import encoding_of
from tinygpt_lib.tokenizer import END_OF_TEXT, show_token

from .background import END, next_item
from .comparison_panel import ComparisonPanel, MapPanel
from .controls import DEFAULT, LABEL, SettingsControls, buttons, in_words
from .drawing import paper, percent
from .explorer_pictures import draw_bars, draw_curve, draw_text, figures
from .explorer_state import ExplorerState

GIVEN, FROM_PATH = "the one given", "from a path"
ONE, PARTS = "one text", {"A and B": ComparisonPanel, "map": MapPanel}
OTHERS = 12  # tokens to choose among
PAUSE = 0.05  # seconds after each token of a run, in which the other controls have their turn
WIDE, NARROW, WRAP = {"width": "96%"}, {"width": "auto"}, {"flex_flow": "row wrap"}


class SamplingExplorer(widgets.VBox):
    """A panel: type a prompt, set the dials, see the distribution of the next token, and draw a text from it.

    `settings`, `prompt`, `seed` and `state` can be read and set; `trace` is of the token that is looked at,
    `ids` are the prompt's and the text's, `text` is what was drawn.
    """

    def __init__(self, model, encoding=None, prompt="My lord, I", settings=None, seed=0):
        validate.string("the prompt", prompt)
        self.model, self.encoding = model, encoding_of(model, encoding)
        self._models = {GIVEN: (self.model, self.encoding)}
        self._run, self._failed = None, ""  # why the model that was asked for last can't be had
        self._make_controls(prompt, settings or DEFAULT, seed)
        self._bind()
        self._panels = {}
        self.state = self._begin(prompt, seed)

    # ---- what can be read and set

    @property
    def settings(self):
        return self.controls.settings

    @settings.setter
    def settings(self, settings):
        self.controls.settings = settings

    @property
    def prompt(self):
        return self._prompt.value

    @prompt.setter
    def prompt(self, prompt):
        validate.string("the prompt", prompt)
        self._prompt.value = prompt

    @property
    def seed(self):
        return self.state.seed

    @seed.setter
    def seed(self, seed):
        validate.whole_number("seed", seed)
        if seed > self._seed.max:
            raise ValueError(f"seed must be at most {self._seed.max:,} here, got {seed:,}")
        self._seed.value = seed

    @property
    def state(self):
        return self._state

    @state.setter
    def state(self, state):
        self._state = state
        self._show_text()

    @property
    def trace(self):
        return self.state.trace(self.settings)

    @property
    def ids(self):
        return self.state.ids

    @property
    def text(self):
        return self.encoding.decode([token.id for token in self.state.tokens])

    def set_model(self, model, encoding=None):
        """Go on with another model, from the same prompt."""
        self.model, self.encoding, self._failed = model, encoding_of(model, encoding), ""
        self.controls.set_vocabulary(model.config.vocab_size)
        self._read_prompt()

    def __repr__(self):
        return "SamplingExplorer: run this cell to move the dials, and see the distribution and the text change"

    # ---- the controls

    def _make_controls(self, prompt, settings, seed):
        self.chooser = buttons("model", [GIVEN, *SHIPPED, FROM_PATH])
        wanted = "a checkpoint (.npz), or a folder of GPT-2's"
        self.path = widgets.Text(description="path", placeholder=wanted, style=LABEL, layout=WIDE, continuous_update=False)
        self._prompt = widgets.Textarea(value=prompt, description="prompt", rows=2, style=LABEL, layout=WIDE)
        self.message = widgets.HTML()
        self.part = buttons("show", [ONE, *PARTS])
        self.controls = SettingsControls(settings, self.model.config.vocab_size)
        self.picture, self.words = widgets.HTML(layout=WIDE), widgets.HTML(layout=WIDE)
        self.next, self.next_20 = _button("next", "draw one token"), _button("next 20", "draw twenty tokens")
        self.run = widgets.ToggleButton(description="run", tooltip="draw tokens until stopped", layout=NARROW)
        self.undo = _button("undo", "take back the last change of the text")
        self.again = _button("again", "draw a text as long, from the prompt, under the present settings")
        self._seed = widgets.BoundedIntText(
            value=seed, max=2**31 - 1, description="seed", style={"description_width": "3em"}, layout={"width": "9em"}
        )
        self.place = widgets.SelectionSlider(options=[("0 next", 0)], description="look at", style=LABEL, layout=WIDE)
        self.others = buttons("choose")
        self.branch = buttons("branch")
        acts = widgets.HBox([self.next, self.next_20, self.run, self.undo, self.again, self._seed], layout=WRAP)
        self._one = widgets.VBox([self.controls, self.picture, acts, self.place, self.others, self.branch, self.words])
        self._below = widgets.VBox([self._one])
        super().__init__([self.chooser, self.path, self._prompt, self.message, self.part, self._below])

    def _bind(self):
        self.path.layout.display = "none"
        self.chooser.observe(self._choose_model, "value")
        self.path.observe(lambda _: self._load(), "value")
        self._prompt.observe(lambda _: self._read_prompt(), "value")
        self.part.observe(lambda _: self._show_part(), "value")
        self.controls.observe_settings(lambda _: self._show_picture())
        self.next.on_click(lambda _: self._grow(1))
        self.next_20.on_click(lambda _: self._grow(20))
        self.undo.on_click(lambda _: self._change(self.state.undo()))
        self.again.on_click(lambda _: self._change(self.state.again(self.settings)))
        self.run.observe(self._start_or_stop, "value")
        self._seed.observe(self._reseed, "value")
        self.place.observe(self._look, "value")
        self.others.observe(self._choose, "value")
        self.branch.observe(self._switch, "value")

    # ---- what the reader does

    def _choose_model(self, change):
        self.path.layout.display = None if change.new == FROM_PATH else "none"
        if change.new != FROM_PATH or self.path.value:
            self._load()

    def _load(self):
        """Take the model that was chosen, or say why it can't be had; then the one before goes on."""
        source = self.path.value.strip() if self.chooser.value == FROM_PATH else self.chooser.value
        self.message.value = paper(f"Loading {html.escape(source)} …")
        try:
            if source not in self._models:
                model, encoding = load_pretrained(source)
                self._models[source] = model, encoding_of(model, encoding)
            self.set_model(*self._models[source])
        except (OSError, ValueError, TypeError) as error:
            self._failed = f"{error} (the model is still the one before)"
            self.message.value = paper(html.escape(self._failed))

    def _read_prompt(self):
        self._change(self._begin(self.prompt, self._seed.value))

    def _begin(self, prompt, seed):
        """A state that begins with the prompt, or with something near to it, and a sentence on what isn't as it looks."""
        ids, room = encode(self.encoding, prompt), self.model.config.block_size
        said = ""
        if not len(ids):
            ids = encode(self.encoding, "\n")
            said = "The prompt is empty and the model must start from something: this is what follows a newline."
        elif len(ids) > room:
            said = f"The prompt has {len(ids):,} tokens and the model reads {room:,} at once: it sees the last {room:,}."
        elif END_OF_TEXT in prompt:
            said = f"The model reads {END_OF_TEXT} as one token, the end of a text, and not as letters."
        elif "\ufffd" in "".join(self.encoding.decode([i]) for i in ids):
            said = "This model has no token for one of the characters: it reads it as single bytes, such as <f0>."
        said = " ".join(filter(None, (self._failed, said)))
        self.message.value = paper(html.escape(said)) if said else ""
        return ExplorerState.begin(self.model, ids, seed, end=self.encoding.eot_token)

    def _grow(self, count):
        self._change(self.state.pick(None).steps(self.settings, count))

    def _change(self, state):
        """Take a state that the reader asked for, which ends a run."""
        self.run.value = False
        self.state = state

    def _reseed(self, change):
        if change.new != self.state.seed:
            self._change(self.state.again(self.settings, change.new))

    def _look(self, change):
        self.state = self.state.pick(change.new if change.new < len(self.state.tokens) else None)

    def _choose(self, change):
        if change.new is not None:
            self._change(self.state.choose(change.new))

    def _switch(self, change):
        self._change(self.state.switch(change.new))

    def _show_part(self):
        self._below.children = [self._one if self.part.value == ONE else self._panel(self.part.value)]

    def _panel(self, name):
        ids = self.state.prompt.tolist()
        if name not in self._panels:
            self._panels[name] = PARTS[name](self.model, self.encoding, ids)
        self._panels[name].set_text(self.model, self.encoding, ids)
        return self._panels[name]

    # ---- a run: tokens come one after the other, and the other controls answer in between

    def _start_or_stop(self, change):
        self.run.description = "stop" if change.new else "run"
        if change.new:
            self._run = asyncio.ensure_future(self.running())

    async def running(self):
        """Draw tokens until `run` is switched off or the text is over, always under the present settings."""
        self.state = start = self.state.pick(None)
        state = settings = growing = None
        while self.run.value:
            if state is not self.state or settings is not self.settings:  # the reader looked elsewhere, or moved a dial
                state, settings = self.state, self.settings
                growing = state.grow(settings)
            grown = await asyncio.to_thread(next_item, growing)
            if grown is END:
                self.run.value = False
            elif self.run.value and state is self.state:
                self.state = state = replace(grown, past=start)
            await asyncio.sleep(PAUSE)

    # ---- what the panel shows

    def _name(self, token):
        return show_token(self.encoding, token)

    def _show_text(self):
        """Draw all that depends on the text."""
        state = self.state
        self.words.value = paper(draw_text(state, self._name))
        tokens = [(f"{place} {self._name(token.id)}", place) for place, token in enumerate(state.tokens)]
        _offer(self.place, [*tokens, (f"{len(tokens)} next", len(tokens))], state.place, self._look)
        likeliest = self.trace.order[:OTHERS].tolist()
        _offer(self.others, self._named_others(likeliest), None, self._choose)
        _offer(self.branch, [(self._named_branch(i), i) for i in range(len(state.branches))], state.current, self._switch)
        self.branch.layout.display = "grid" if len(state.branches) > 1 else "none"
        self._seed.value = state.seed
        self.undo.disabled = state.past is None
        for button in (self.next, self.next_20, self.run):
            button.disabled = state.is_over
        for panel in self._panels.values():
            panel.set_text(self.model, self.encoding, state.prompt.tolist())
        self._show_picture()

    def _show_picture(self):
        """Draw all that depends on the settings, as one text: it takes a few milliseconds and is done before the next event
        comes in, so nothing queues up; while it's under way the browser keeps the last value that a slider was moved to."""
        trace, token = self.trace, self.state.looked_at
        shown = token and token.id
        pictures = draw_bars(trace, self._name, shown) + draw_curve(trace)
        pictures = f'<div style="display:flex;flex-wrap:wrap;gap:6px 24px">{pictures}</div>'
        self.picture.value = paper(f"{figures(trace, self._name)}{self._sentence(trace, token)}{pictures}")

    def _sentence(self, trace, token):
        """What is looked at, in words."""
        place = self.state.place
        after = f"after {place} token{'s' * (place != 1)}"
        if token is None and self.state.is_over:
            ended = self.state.tokens[-1].id == self.state.end
            said = "The text has ended" if ended else "There is no room for more, though the text hasn't ended,"
            said += f" {after}; this would have come next."
        elif token is None:
            said = f"{after.capitalize()}: the next." if place else "After the prompt: the first token."
        else:
            how = f"drawn under {in_words(token.settings)}" if token.settings else "chosen by hand"
            said = f"Token {place}, <b>{html.escape(self._name(token.id))}</b>, was {how}; "
            said += f"under the present settings it has {percent(trace.final[token.id])}."
        return f'<div style="font-size:13px;margin:4px 0">{said}</div>'

    def _named_others(self, ids):
        raw = self.trace.raw
        return [(f"{self._name(i)} {percent(raw[i])}", i) for i in ids]

    def _named_branch(self, i):
        branch = self.state.branches[i]
        if branch.origin is None:
            return str(i)
        parent, place = branch.origin
        return f"{i}: {self._name(branch.tokens[place].id)} at {place} of {parent}"


def _button(name, tooltip):
    return widgets.Button(description=name, tooltip=tooltip, layout=NARROW)


def _offer(selection, options, value, handler):
    """Give a selection other options without its handler being called (new options choose the first, for a moment)."""
    selection.unobserve(handler, "value")
    if list(selection.options) != options:
        selection.options = options
    selection.value = value
    selection.observe(handler, "value")
