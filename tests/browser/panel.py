"""What the tests of all panels do with one: find its controls, work them, and wait for what is to be seen."""

import re


class Panel:
    """A panel of ipywidgets in a notebook: that with the first text box."""

    def __init__(self, lab):
        self.page = lab.page
        self.root = self.page.locator(".jp-OutputArea-output:has(.widget-textarea)").first
        self.root.scroll_into_view_if_needed()

    def button(self, name):
        return self.root.locator("button").filter(has_text=re.compile(rf"^\s*{re.escape(name)}\s*$")).first

    def slider(self, label):
        return self.root.locator(".widget-slider").filter(has=self.page.locator(f"label:text-is('{label}')")).first

    def handle(self, label):
        return self.slider(label).locator(".noUi-handle")

    def press(self, label, key, times=1):
        """Press a key on a slider's handle."""
        self.handle(label).focus()
        for _ in range(times):
            self.page.keyboard.press(key)

    def drag(self, label, share):
        """Drag a slider's handle to a share of its track, 0 to 1."""
        handle, track = self.handle(label).bounding_box(), self.slider(label).locator(".noUi-base").bounding_box()
        y = handle["y"] + handle["height"] / 2
        self.page.mouse.move(handle["x"] + handle["width"] / 2, y)
        self.page.mouse.down()
        self.page.mouse.move(track["x"] + share * track["width"], y, steps=6)
        self.page.mouse.up()

    def said(self):
        return self.root.inner_text()

    def wait(self, condition, seconds=60):
        for _ in range(10 * seconds):
            if condition():
                return
            self.page.wait_for_timeout(100)
        assert condition(), self.said()

    def wait_for(self, text):
        self.wait(lambda: text in self.said())
