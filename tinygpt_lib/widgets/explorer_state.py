"""What the sampling explorer knows: branches of tokens that grow from a prompt. No widgets, no drawing.

The token at place n of a text is drawn with the n-th random number of the seed, whatever came before
it: two settings have the same luck place by place, and what was taken back comes again.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice, pairwise

import numpy as np

from tinygpt_lib import sampling, validate
from tinygpt_lib.generation import stream
from tinygpt_lib.gpt import GPT
from tinygpt_lib.sampling import SamplingSettings

LONGEST = 300  # tokens of one branch


@dataclass(frozen=True, eq=False)
class Token:
    """One token of a text: the logits (V,) that it was taken from, and the settings, None for one chosen by hand."""

    id: int
    logits: np.ndarray
    settings: SamplingSettings | None = None

    @cached_property
    def probability(self):
        """The model's own, whatever the settings."""
        return float(sampling.softmax(self.logits)[self.id])


@dataclass(frozen=True, eq=False)
class Branch:
    """The tokens after the prompt, and the logits (V,) for the one after them. origin: (branch, place) where it forked."""

    tokens: tuple
    logits: np.ndarray
    origin: tuple | None = None


@dataclass(frozen=True, eq=False)
class ExplorerState:
    """A text and its branches; each method gives a new state and leaves this one as it was. `begin` makes the first."""

    model: GPT
    prompt: np.ndarray
    seed: int
    branches: tuple
    current: int = 0
    picked: int | None = None  # the place in the branch that is looked at; None is the token to come
    end: int | None = None  # the id of end-of-text, after which nothing grows
    past: "ExplorerState | None" = field(default=None, repr=False)

    @classmethod
    def begin(cls, model, prompt, seed=0, end=None):
        """The state before anything was drawn after prompt, ids (T,)."""
        validate.whole_number("seed", seed)
        return cls(model, np.array(prompt), seed, (Branch((), next_logits(model, prompt)),), end=end)

    @property
    def branch(self):
        return self.branches[self.current]

    @property
    def tokens(self):
        """The tokens after the prompt, on this branch."""
        return self.branch.tokens

    @property
    def place(self):
        """The place that is looked at, 0 for the first token after the prompt."""
        return len(self.tokens) if self.picked is None else self.picked

    @property
    def looked_at(self):
        """The token that is picked, or None where none stands yet."""
        return None if self.picked is None else self.tokens[self.picked]

    @property
    def ids(self):
        """Prompt and text."""
        return self._ids_before(len(self.tokens))

    @property
    def is_over(self):
        """Whether the text has ended, or is as long as one can be here."""
        return len(self.tokens) >= LONGEST or bool(self.tokens) and self.tokens[-1].id == self.end

    def trace(self, settings):
        """What `settings` make of the distribution at the place that is looked at: a sampling.Trace."""
        logits = self.branch.logits if self.picked is None else self.looked_at.logits
        return sampling.trace(logits, settings, self._ids_before(self.place))

    def grow(self, settings):
        """Yield states ever longer by a token that is drawn under `settings`, until the text is over."""
        if self.is_over:
            return
        luck = np.random.default_rng(self.seed)
        luck.random(len(self.tokens))  # what the tokens that are there have used up
        state = self
        for step, following in pairwise(stream(self.model, self.ids, settings, rng=luck)):
            token = Token(step.token, step.logits, settings)
            branch = replace(state.branch, tokens=(*state.tokens, token), logits=following.logits)
            state = self._with(branch)  # all have the same past: one undo takes back all that grew
            yield state
            if state.is_over:
                return

    def steps(self, settings, count=1):
        """This state and `count` more tokens, fewer if the text is over before."""
        state = self
        for state in islice(self.grow(settings), count):
            pass
        return state

    def choose(self, token):
        """Put a token of one's own at the place that is looked at.

        At the end it is the next, elsewhere a new branch begins with it.
        """
        token = int(validate.token_ids("token", [token], self.model.config.vocab_size)[0])
        if self.picked is None:
            if self.is_over:
                return self
            return self._with(self._continued(token))
        if token == self.looked_at.id:
            return self
        branch = replace(self._continued(token), origin=(self.current, self.place))
        return replace(self, branches=(*self.branches, branch), current=len(self.branches), picked=None, past=self)

    def fork(self, place, token):
        """`choose` at a place of the text."""
        return self.pick(place).choose(token)

    def pick(self, place):
        """Look at the token at a place of the text, or with None at the one to come."""
        if place is not None and not 0 <= place < len(self.tokens):
            raise ValueError(f"place must lie from 0 to {len(self.tokens) - 1}, the text's tokens, or be None, got {place}")
        return replace(self, picked=place)

    def switch(self, branch):
        """Go on with another branch."""
        if not 0 <= branch < len(self.branches):
            raise ValueError(f"branch must lie from 0 to {len(self.branches) - 1}, got {branch}")
        return self if branch == self.current else replace(self, current=branch, picked=None, past=self)

    def again(self, settings, seed=None):
        """A text as long, drawn anew from the prompt under these settings, and another seed if one is given."""
        first = self.begin(self.model, self.prompt, self.seed if seed is None else seed, self.end)
        return replace(first.steps(settings, len(self.tokens)), past=self)

    def undo(self):
        """The state before the last change (looking somewhere else is none)."""
        return self.past or self

    def _ids_before(self, place):
        return np.concatenate([self.prompt, np.array([token.id for token in self.tokens[:place]], dtype=np.int64)])

    def _with(self, branch):
        """This state with its branch exchanged."""
        branches = (*self.branches[: self.current], branch, *self.branches[self.current + 1 :])
        return replace(self, branches=branches, past=self)

    def _continued(self, token):
        """The branch up to the place that is looked at, and there `token`."""
        ids = self._ids_before(self.place)
        logits = self.branch.logits if self.picked is None else self.looked_at.logits
        return Branch(
            (*self.tokens[: self.place], Token(token, logits)), next_logits(self.model, [*ids, token]), self.branch.origin
        )


def next_logits(model, ids):
    """The model's logits (V,) for the token after ids (T,)."""
    return next(stream(model, ids, SamplingSettings(temperature=0))).logits
