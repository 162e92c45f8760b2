"""The settings of sampling as controls: a slider and a number box each, presets by name, a reset."""

from dataclasses import replace

import ipywidgets as widgets

from tinygpt_lib.sampling import SamplingSettings

PRESETS = {
    "greedy": SamplingSettings(temperature=0),
    "focused": SamplingSettings(temperature=0.5, top_k=20, top_p=0.8),
    "balanced": SamplingSettings(temperature=0.8, top_k=50, top_p=0.9),
    "creative": SamplingSettings(temperature=1.1, top_k=200, top_p=0.95),
    "wild": SamplingSettings(temperature=1.8),
}
DEFAULT = PRESETS["balanced"]
OFF = "off"
LABEL = {"description_width": "6.5em"}


def sayings(settings):
    """{name: a word or two on what its value means}, where that isn't plain from the number."""
    return {
        "temperature": {0: "greedy: the likeliest, always", 1: "as the model says"}.get(settings.temperature, ""),
        "top_k": "" if settings.top_k else OFF,
        "top_p": OFF if settings.top_p == 1 else "the likeliest alone" if settings.top_p == 0 else "",
        "min_p": "" if settings.min_p else OFF,
    }


def steps_of_k(vocab_size):
    """Where the slider of top-k can stand: each k below 20, ever fewer beyond, and last `OFF`, which keeps all."""
    decade = (*range(10, 20), *range(20, 50, 2), *range(50, 100, 5))
    steps = [*range(1, 10), *(k * 10**d for d in range(5) for k in decade)]
    return [*(k for k in steps if k < vocab_size), vocab_size, OFF]


class SettingsControls(widgets.VBox):
    """Temperature, top-k, top-p and min-p to be set; `settings` is what they say, and can be assigned.

    What else there is in `settings` (a repetition penalty, typical-p) stays as it was, until a preset or the reset.
    """

    def __init__(self, settings=DEFAULT, vocab_size=1024):
        self._settings, self._start, self._callbacks, self._showing = settings, settings, [], False
        self.presets = buttons("presets", PRESETS, index=None, tooltips=[in_words(s) for s in PRESETS.values()])
        narrow = {"width": "auto", "margin": "0 4px"}
        self.reset = widgets.Button(description="reset", tooltip="back to the first settings", layout=narrow)
        self.sliders = {
            "temperature": _slider("temperature", max=2.5, step=0.05),
            "top_k": widgets.SelectionSlider(options=steps_of_k(vocab_size), **_options("top-k")),
            "top_p": _slider("top-p", max=1, step=0.01),
            "min_p": _slider("min-p", max=1, step=0.01),
        }
        self.boxes = {name: _box(name) for name in self.sliders}
        self.notes = {name: widgets.HTML(layout={"width": "13em"}) for name in self.sliders}
        rows = [widgets.HBox([self.sliders[name], self.boxes[name], self.notes[name]]) for name in self.sliders]
        super().__init__([widgets.HBox([self.presets, self.reset], layout={"flex_flow": "row wrap"}), *rows])
        for name in self.sliders:
            self.sliders[name].observe(lambda change, name=name: self._set(name, change.new), "value")
            self.boxes[name].observe(lambda change, name=name: self._set(name, change.new), "value")
        self.presets.observe(self._take_preset, "value")
        self.reset.on_click(lambda _: setattr(self, "settings", self._start))
        self._show()

    @property
    def settings(self):
        return self._settings

    @settings.setter
    def settings(self, settings):
        if not isinstance(settings, SamplingSettings):
            raise TypeError(f"settings must be SamplingSettings, got {type(settings).__name__}")
        if settings != self._settings:
            self._settings = settings
            self._show()
            for callback in self._callbacks:
                callback(settings)

    def set_vocabulary(self, size):
        """Let top-k's slider end at `size` tokens."""
        self._showing = True  # new options choose the first, for a moment
        self.sliders["top_k"].options = steps_of_k(size)
        self._show()

    def observe_settings(self, callback):
        """Have callback(settings) called after each change."""
        self._callbacks.append(callback)

    def _set(self, name, value):
        """Take up what a slider or a box was moved to."""
        if not self._showing:
            value = None if name == "top_k" and value in (OFF, 0) else round(value, 4)
            self.settings = replace(self.settings, **{name: value})
            self._show()  # also where rounding has left the settings as they were, and not what was typed

    def _take_preset(self, change):
        if not self._showing:
            self.settings = PRESETS[change.new]

    def _show(self):
        """Make all controls say what the settings are."""
        self._showing = True
        said = sayings(self.settings)
        for name, slider in self.sliders.items():
            value = getattr(self.settings, name)
            self.boxes[name].value = value or 0
            slider.value = self._nearest_k() if name == "top_k" else _nearest_step(value, slider.step)
            self.notes[name].value = said[name]
        names = [name for name, preset in PRESETS.items() if preset == self.settings]
        self.presets.value = names[0] if names else None
        self._showing = False

    def _nearest_k(self):
        k, steps = self.settings.top_k, self.sliders["top_k"].options[:-1]
        return min(steps, key=lambda step: abs(step - k)) if k else OFF


def _nearest_step(value, step):
    """Where a slider stands for a value: between its steps the browser would move it, and send that back as if the reader had."""
    return round(step * round(value / step), 4)


def in_words(settings):
    said = (
        f"{name.replace('_', '-')} {value}" for name, value in vars(settings).items() if value != getattr(SamplingSettings, name)
    )
    return ", ".join(said) or "temperature 1, all filters off"


def buttons(label, options=(), **more):
    """Buttons of which one is pressed, beside their label. (JupyterLab takes the keys away from a Dropdown.)"""
    beside = {"display": "grid", "grid_template_columns": "6.5em fit-content(100%)", "justify_items": "flex-end"}
    style = {"description_width": "auto", "button_width": "auto"}
    return widgets.ToggleButtons(options=list(options), description=label, style=style, layout=beside, **more)


def _options(label):
    return {"description": label, "readout": False, "style": LABEL, "layout": {"width": "26em"}}


def _slider(label, **limits):
    return widgets.FloatSlider(min=0, **limits, **_options(label))


def _box(name):
    """A number box; its label takes no room, since the slider's stands beside it, and is there for those who can't see that."""
    options = {
        "description": f"{name.replace('_', '-')}, as a number",
        "style": {"description_width": "0"},
        "layout": {"width": "5.5em"},
    }
    if name == "top_k":
        return widgets.BoundedIntText(min=0, max=1_000_000, tooltip="0 is off", **options)
    most, step = (100, 0.05) if name == "temperature" else (1, 0.01)
    return widgets.BoundedFloatText(min=0, max=most, step=step, **options)
