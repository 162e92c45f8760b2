"""Notebook 10: eight experiments, each answer tried out on the shipped models' own logits."""

from functools import cache, wraps

import numpy as np

from tinygpt_lib import validate
from tinygpt_lib.checkpoint import load_pretrained
from tinygpt_lib.data import encode, load_corpus
from tinygpt_lib.generation import encode_prompt, stream
from tinygpt_lib.sampling import SamplingSettings, trace
from tinygpt_lib.tensor import no_grad
from tinygpt_lib.tokenizer import show_token

from .judge import Exercise

LORD, KING = "My lord, I", "The king is"  # the prompts that the notebook names
SCENE_END, MID_SPEECH = "And so, good night.\n\nExeunt.\n", "My lord, the"

_pretrained = cache(load_pretrained)


def _experiment(title):
    """An Exercise of examine(given); what the library refuses is a hint, too."""

    def exercise(examine):
        @wraps(examine)
        def examined(given):
            try:
                return examine(given)
            except (TypeError, ValueError) as error:
                return f"This can't be tried out: {error}."

        return Exercise(title, examine=examined)

    return exercise


def _parts(given, names):
    if not isinstance(given, (tuple, list)) or len(given) != len(names):
        raise TypeError(f"the answer has {len(names)} parts, {', '.join(names)}, got {given!r:.80}")
    return given


def _steps(settings, prompt=LORD, count=1, seed=0, name="shakespeare"):
    """The Steps of a text of `count` tokens after a prompt."""
    model, encoding = _pretrained(name)
    return list(stream(model, encode_prompt(encoding, prompt), settings, max_new_tokens=count, seed=seed))


def _trace(prompt, name="shakespeare", **settings):
    """The Trace of the first token after a prompt."""
    return _steps(SamplingSettings(**settings), prompt, name=name)[0].trace


def _size(trace):
    """How many tokens are left, in each row."""
    return np.count_nonzero(trace.final, axis=-1)


def _tokens(n):
    return "1 token" if n == 1 else f"{n} tokens"


def _greedy(prompt, count):
    """Logits (count, V) along the greedy text, and its tokens (count,)."""
    steps = _steps(SamplingSettings(temperature=0), prompt, count)
    return np.stack([step.logits for step in steps]), np.array([step.token for step in steps])


@_experiment("One token here, fifty there")
def one_and_fifty(given):
    p, sure, unsure = _parts(given, ("p", "the sure prompt", "the unsure prompt"))
    few, many = _trace(sure, top_p=p), _trace(unsure, top_p=p)
    if _size(few) == 1 and _size(many) >= 50:
        return None
    if _size(many) == 1 and _size(few) >= 50:
        return "The prompts are exchanged: the sure one, with one token, comes first."
    if _size(few) > 1:
        return (
            f"After {sure!r} top-p {p} keeps {_tokens(_size(few))}, as the likeliest has a probability of only "
            f"{few.raw.max():.3f}: lower p, or look for a surer place."
        )
    if _size(many) == 1:
        return f"With p = {p} one token is left in both places: p is too low, or both places are sure."
    needed = np.sort(many.raw)[::-1][:49].sum()
    return (
        f"One token here is right, but after {unsure!r} it keeps {_size(many)}: "
        f"fifty need a p above {needed:.3f}, or a less sure place."
    )


@_experiment("Greedy at any heat")
def greedy_at_any_heat(given):
    all_settings = _parts(given, ("three SamplingSettings", "each with another filter", "at a temperature of 2 or more"))
    logits, tokens = _greedy(LORD, 60)
    used = set()
    for settings in all_settings:
        if not isinstance(settings, SamplingSettings):
            raise TypeError(f"each part is SamplingSettings, got {settings!r}")
        if settings.temperature < 2:
            return f"Temperature {settings.temperature} is too cold: this is about 2 and above, where a filter has to do it."
        tried = trace(logits, settings)
        if len(tried.kept) != 1 or settings.repetition_penalty != 1:
            return (
                f"{settings} has {len(tried.kept)} filters on: one alone shall do it each time, without a repetition penalty."
            )
        name = next(iter(tried.kept))
        what = f"{name.replace('_', '-')} {getattr(settings, name)}"
        if _size(tried).max() > 1:
            return (
                f"{what} leaves {_size(tried).max()} tokens at token {_size(tried).argmax()} of the text, "
                "so that chance decides there: one must be left everywhere."
            )
        if (tried.final.argmax(axis=-1) != tokens).any():
            return f"{what} leaves one token everywhere, but not always the likeliest."
        used.add(name.replace("_", "-"))
    if len(used) < 3:
        return f"They are greedy all three, but with {' and '.join(sorted(used))} only: use another filter in each."


@_experiment("Two roads to ten")
def two_roads_to_ten(given):
    T, p = _parts(given, ("the temperature", "p"))
    n, m = _size(_trace(LORD, temperature=T, top_p=0.9)), _size(_trace(LORD, top_p=p))
    if n != 10:
        return f"With p = 0.9, temperature {T} keeps {_tokens(n)}: it must be {'warmer' if n < 10 else 'colder'}."
    if m != 10:
        return f"The temperature is right. At temperature 1, p = {p} keeps {_tokens(m)}: {'raise' if m < 10 else 'lower'} it."


@_experiment("The limit that isn't reached")
def limit_not_reached(given):
    prompt, p, k = _parts(given, ("the prompt", "p", "k"))
    validate.whole_number("k", k, 1)
    alone, both = _size(_trace(prompt, top_p=p)), _size(_trace(prompt, top_p=p, top_k=k))
    if p == 1:
        return "Top-p is off at 1, so nothing is left for k to change: lower p."
    if k < alone:
        return (
            f"Top-p alone keeps {_tokens(alone)}, so k = {k} reaches into the nucleus, and it's no surprise that some are lost. "
            f"Take a k of at least {alone}."
        )
    if both == alone:
        return (
            f"Top-p keeps {_tokens(alone)} with and without k = {k}: the tail behind k has too little mass to matter here. "
            f"Bring k nearer to {alone}, or raise p."
        )
    if 3 * both > 2 * alone:
        return (
            f"You have seen it: {_tokens(alone)} become {both}, though k = {k} cuts none of them. "
            "Now lose a third of them, with a k nearer to that number or a higher p."
        )


@_experiment("Luck isn't daring")
def luck_is_not_daring(seed):
    validate.whole_number("the seed", seed)
    cold, warm = (_steps(SamplingSettings(temperature=T), KING, 60, seed) for T in (0.5, 1))
    n = next((n for n in range(60) if cold[n].token != warm[n].token), None)
    if n is None:
        return f"With seed {seed} the two texts don't part within 60 tokens: try others."
    encoding, order = _pretrained("shakespeare")[1], cold[n].trace.order.tolist()  # by the model's own probabilities
    ranks = [order.index(steps[n].token) + 1 for steps in (cold, warm)]
    if ranks[0] < ranks[1]:
        a, b = (f"{show_token(encoding, steps[n].token)!r} (rank {rank})" for steps, rank in zip((cold, warm), ranks))
        said = f"the cold one takes the likelier: {a}, the warm one {b}"
        return f"With seed {seed} they part at token {n}, counted from 0, and {said}. Try others."


@_experiment("How cold is greedy?")
def half_life(T):
    if SamplingSettings(temperature=T).temperature == 0:
        return "Temperature 0 is greedy itself and never leaves its text: the question is how far above 0 you can go."
    logits, tokens = _greedy(LORD, 20)
    chance = trace(logits, SamplingSettings(temperature=T)).final[np.arange(20), tokens].prod()
    if chance > 2 / 3:
        return f"At temperature {T}, {chance:.0%} of the texts are greedy's for 20 tokens: you can go higher."
    if chance < 1 / 3:
        few = f"one text in {1 / chance:,.0f}" if chance > 1e-6 else "less than one text in a million"
        return f"At temperature {T}, greedy's 20 tokens come in {f'{chance:.0%} of the texts' if chance > 0.1 else few}: colder."


@_experiment("Hot, and still able to stop")
def hot_and_able_to_stop(settings):
    if not isinstance(settings, SamplingSettings):
        raise TypeError(f"the answer is SamplingSettings, got {settings!r:.80}")
    if settings.temperature < 2:
        return f"Temperature {settings.temperature} isn't hot: set it to 2 or more."
    at_end, mid = (_steps(settings, prompt, name="play")[0].trace for prompt in (SCENE_END, MID_SPEECH))
    end = _pretrained("play")[1].eot_token
    if mid.final[end]:
        return (
            f"After {MID_SPEECH!r} end-of-text is still possible, once in {1 / mid.final[end]:,.0f} tokens: "
            "a filter must cut the tail."
        )
    if at_end.final[end] < 0.5:
        return (
            f"After the last Exeunt end-of-text has {at_end.final[end]:.0%} and shares the rest with {_size(at_end) - 1} others: "
            "cut more of them."
        )
    if _size(mid) < 50:
        return (
            f"It stops where it should, but after {MID_SPEECH!r} only {_tokens(_size(mid))} can come. Fifty are wanted: "
            "is there a filter that tells the two places apart better?"
        )


@_experiment("One min-p for two temperatures")
def one_min_p(m):
    logits = _many_places()
    wanted = _size(trace(logits, SamplingSettings(min_p=0.09)))
    got = _size(trace(logits, SamplingSettings(temperature=2, min_p=m)))  # the same number is the same tokens, the likeliest
    if (wanted == got).all():
        return None
    few = got.sum() < wanted.sum()
    said = f"{got.mean():.1f} tokens are left on average, instead of {wanted.mean():.1f}"
    if m == 0.09:
        return f"Unchanged it keeps too many: {said}. Heat brings the unlikely nearer to the likeliest, so the bar must rise."
    if np.isclose(m, 0.18):
        return (
            f"Doubled it keeps too {'few' if few else 'many'}: {said}. "
            "Temperature doesn't multiply probabilities, it raises them to the power 1/T."
        )
    differs = f"At {(wanted != got).sum()} of {len(logits)} places the number of tokens differs"
    return f"{differs}, {said}: min-p is too {'high' if few else 'low'}."


@cache
def _many_places():
    """Logits (T, V) at every place of a passage as long as the model's context."""
    model, encoding = _pretrained("shakespeare")
    with no_grad():
        return model([encode(encoding, load_corpus("play")[:2000])[: model.config.block_size]])[0].data[0]


EXERCISES = [
    one_and_fifty, greedy_at_any_heat, two_roads_to_ten, limit_not_reached,
    luck_is_not_daring, half_life, hot_and_able_to_stop, one_min_p,
]  # fmt: skip
