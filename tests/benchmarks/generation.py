"""Generation and sampling against transformers and PyTorch: python -m tests.benchmarks.generation"""

import statistics
import sys
import tempfile

import numpy as np

from tinygpt_lib.archive import SHIPPED
from tests.benchmarks.turns import Worker, in_turns, machine, paired_ratio

NEW_TOKENS = 100
PROMPT = "To be or not to be"
SAMPLING = {"temperature": 0.8, "top_k": 50, "top_p": 0.9}
GPT2_VOCABULARY = 50257
BOUNDS = {"transformers": 4, "PyTorch, no cache": 6}  # how many times as fast we must be
LEAST_SPEED = {"this library, 16 prompts": 4000}  # tokens a second
MOST_SECONDS = 0.3e-3  # for a draw


def _model_and_ids(name):
    from tinygpt_lib import load_pretrained

    model, encoding = load_pretrained(name)
    return model, encoding.encode(PROMPT)


def our_generation(name, batch):
    """100 tokens for each of `batch` prompts, with the cache."""
    from tinygpt_lib import SamplingSettings, stream

    model, ids = _model_and_ids(name)
    rng, settings = np.random.default_rng(0), SamplingSettings(**SAMPLING)
    prompts = np.array(ids if batch == 1 else [ids] * batch)
    return lambda: [step.token for step in stream(model, prompts, settings, max_new_tokens=NEW_TOKENS, rng=rng)]


def our_uncached_generation(name):
    """The same without the cache: every step reads the whole text again."""
    from tinygpt_lib import SamplingSettings, no_grad
    from tinygpt_lib.sampling import sample

    model, ids = _model_and_ids(name)
    rng, settings = np.random.default_rng(0), SamplingSettings(**SAMPLING)

    @no_grad()
    def run():
        text = list(ids)
        for _ in range(NEW_TOKENS):
            logits, _ = model([text])
            text.append(sample(logits.data[0, -1], settings, rng))

    return run


def _transformers_model(name):
    import torch
    from transformers import GPT2LMHeadModel, logging

    from tinygpt_lib import save_gpt2

    logging.disable_progress_bar()
    model, ids = _model_and_ids(name)
    with tempfile.TemporaryDirectory() as folder:
        save_gpt2(model, folder)
        return GPT2LMHeadModel.from_pretrained(folder).eval(), torch.tensor([ids])


def transformers_generation(name):
    """generate() of transformers with its cache, on the same weights."""
    model, ids = _transformers_model(name)
    options = dict(
        do_sample=True, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, use_cache=True, pad_token_id=0, **SAMPLING
    )
    return lambda: model.generate(ids, attention_mask=ids >= 0, **options)


def torch_uncached_generation(name):
    """The loop that one writes first in PyTorch: the whole text through the model for every token."""
    import torch

    model, ids = _transformers_model(name)

    @torch.no_grad()
    def run():
        text = ids
        for _ in range(NEW_TOKENS):
            logits = model(text, use_cache=False).logits[:, -1] / SAMPLING["temperature"]
            top, where = torch.topk(logits, SAMPLING["top_k"])
            probs = torch.softmax(top, dim=-1)
            probs[probs.cumsum(dim=-1) - probs > SAMPLING["top_p"]] = 0
            text = torch.cat([text, where.gather(1, torch.multinomial(probs, 1))], dim=1)

    return run


def _logits():
    return np.random.default_rng(0).normal(0, 3, GPT2_VOCABULARY).astype(np.float32)


def our_sampling():
    """From 50,257 logits to a token."""
    from tinygpt_lib.sampling import SamplingSettings, sample

    logits, rng, settings = _logits(), np.random.default_rng(0), SamplingSettings(**SAMPLING)
    return lambda: sample(logits, settings, rng)


def transformers_sampling():
    """The same by transformers' processors, softmax and multinomial."""
    import torch
    from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    warpers = (TemperatureLogitsWarper(0.8), TopKLogitsWarper(50), TopPLogitsWarper(0.9))
    processors, logits = LogitsProcessorList(warpers), torch.from_numpy(_logits())[None]
    ids = torch.zeros((1, 1), dtype=torch.long)
    return lambda: torch.multinomial(torch.softmax(processors(ids, logits.clone()), dim=-1), 1).item()


def compare_generation(name, rounds=7):
    """{way: (tokens a second, median ratio of our cached speed to it)}"""
    ways = {
        "this library": (Worker(our_generation, name, 1), 1),
        "this library, 16 prompts": (Worker(our_generation, name, 16), 16),
        "this library, no cache": (Worker(our_uncached_generation, name), 1),
        "transformers": (Worker(transformers_generation, name), 1),
        "PyTorch, no cache": (Worker(torch_uncached_generation, name), 1),
    }
    times = in_turns({way: worker for way, (worker, _) in ways.items()}, rounds, calls=3, warm_up=2)
    for worker, _ in ways.values():
        worker.finish()
    ours = times["this library"]
    return {
        way: (batch * NEW_TOKENS / statistics.median(times[way]), paired_ratio(times[way], ours) / batch)
        for way, (_, batch) in ways.items()
    }


def compare_sampling(rounds=9):
    """Seconds for a draw from 50,257 logits: ours and transformers'."""
    workers = {"this library": Worker(our_sampling), "transformers": Worker(transformers_sampling)}
    times = in_turns(workers, rounds, calls=200, warm_up=50)
    for worker in workers.values():
        worker.finish()
    return {name: statistics.median(values) for name, values in times.items()}


def main(name=SHIPPED[0]):
    """Print the tables; exit status 1 if a figure is worse than half as good as its bound, which no noise explains."""
    print(machine())
    print("| generation | tokens/s | this library is faster by | bound |")
    print("|---|---|---|---|")
    too_slow = False
    for way, (speed, ratio) in compare_generation(name).items():
        bound = f"{BOUNDS[way]} x" if way in BOUNDS else f"{LEAST_SPEED[way]:,} tokens/s" if way in LEAST_SPEED else ""
        faster = f"{ratio:.1f} x" if ratio > 1 else ""  # itself, and itself with many prompts
        print(f"| {way} | {speed:,.0f} | {faster} | {bound} |")
        too_slow |= 2 * ratio < BOUNDS.get(way, 0) or 2 * speed < LEAST_SPEED.get(way, 0)
    print(f"\n| a draw from {GPT2_VOCABULARY:,} logits | ms |")
    print("|---|---|")
    draws = compare_sampling()
    for way, seconds in draws.items():
        print(f"| {way} | {seconds * 1e3:.3f} |")
    return int(too_slow or draws["this library"] > 2 * min(MOST_SECONDS, draws["transformers"]))


if __name__ == "__main__":
    sys.exit(main())
