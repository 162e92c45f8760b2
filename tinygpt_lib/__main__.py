"""The command line: python -m tinygpt_lib generate, train, info."""

import argparse
import os
import shlex
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

from . import archive
from .checkpoint import checkpoint_path, load_pretrained, read_checkpoint, save_checkpoint
from .data import encode, load_corpus, sha256, split
from .generation import GPT2_VOCABULARY, encode_prompt, encoding_of, generate_text, stream
from .gpt import GPT, GPTConfig
from .sampling import SamplingSettings
from .tokenizer import END_OF_TEXT, train_bpe
from .training import TrainSettings, TrainState, estimate_loss, load_training, save_training, train

# What `train` uses where no option says otherwise. A text of your own gets the play's sizes.
RECIPES = {
    "play": (
        GPTConfig(vocab_size=1024, block_size=128, n_layer=4, n_head=4, n_embd=128, dropout=0.2),
        TrainSettings(steps=1000, batch_size=16, learning_rate=2e-3, min_learning_rate=1e-4, warmup_steps=50, eval_every=100),
    ),
    "shakespeare": (
        GPTConfig(),
        # So strong a decay, and a mean of the weights, because the text is read 32 times: without them it's learned by heart.
        TrainSettings(3500, 32, 2e-3, min_learning_rate=2e-5, warmup_steps=200, weight_decay=1.0, average=0.995, eval_every=250),
    ),
}
_SETTINGS = (
    "vocab_size", "block_size", "n_layer", "n_head", "n_embd", "dropout", "steps", "batch_size", "learning_rate",
    "min_learning_rate", "warmup_steps", "weight_decay", "average", "eval_every", "seed",
)  # fmt: skip


def main(arguments=None):
    """Run a command; a mistake of the user's ends in one sentence and exit status 2."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except BrokenPipeError:  # `generate ... | head` has read enough; training isn't done
        sys.stderr.close()
        return int(options.command is _train)
    except (ValueError, TypeError, OSError, FloatingPointError, MemoryError) as error:
        print(f"tinygpt_lib: {error}", file=sys.stderr)
        return 2
    return 0


# ---- generate


def _generate(options):
    model, encoding = load_pretrained(options.model)
    if encoding is None and model.config.vocab_size != GPT2_VOCABULARY:
        raise ValueError(
            f"{options.model} comes without an encoding, and its {model.config.vocab_size:,} tokens aren't GPT-2's: "
            "use it from Python, where generate_text takes one"
        )
    encoding = encoding_of(model, encoding)
    chosen = {field.name: getattr(options, field.name) for field in fields(SamplingSettings)}
    settings = SamplingSettings(**chosen)
    ids = encode_prompt(encoding, options.prompt)
    steps = stream(
        model, ids, settings, max_new_tokens=options.max_tokens, seed=options.seed, encoding=encoding, stop_at_eot=True
    )
    print(options.prompt, end="", flush=True)
    for step in steps:
        print(step.text, end="", flush=True)
    print()


# ---- train


def _train(options):
    if options.resume is not None:
        given = [name for name in ("corpus", "out", *_SETTINGS) if getattr(options, name) is not None]
        if given:
            raise ValueError(f"--resume takes everything from the file: leave out {', '.join(map(_flag, given))}")
        state, info = load_training(options.resume)
        text, out = _corpus_of(info, options.resume), Path(options.resume)
        encoding = encoding_of(state.model)
        train_text, val_text = split(text)
    else:
        name = options.corpus = "play" if options.corpus is None else options.corpus
        text = load_corpus(name)
        out = Path(options.out or f"gpt_{Path(name).stem}.npz")
        if str(out) in archive.SHIPPED:
            raise ValueError(f"--out {out} is the name of a model that is there already: call it {out}.npz")
        if out.is_dir():
            raise IsADirectoryError(f"--out {out} is a folder: name a file in it")
        if out.exists() and not options.force:
            go_on = f"go on with it (--resume {_quoted(str(out))})"
            raise ValueError(f"{out} exists: {go_on}, replace it (--force) or name another --out")
        if not out.parent.is_dir():
            raise FileNotFoundError(f"there is no folder {out.parent} for --out: make it first")
        config, settings = _recipe(options)
        train_text, val_text = split(text)
        print(f"Learning {config.vocab_size} tokens from {len(train_text):,} characters of {name} ...", flush=True)
        encoding = train_bpe(train_text, config.vocab_size, name=Path(name).stem)
        info = {"corpus": name, "corpus_sha256": sha256(text), "command": _command(options, out)}
        state = TrainState(GPT(config, seed=settings.seed), settings)
        state.model.encoding = encoding
    ids, val_ids = encode(encoding, train_text), encode(encoding, val_text)
    print(
        f"Training {state.model.num_parameters():,} parameters ({_sizes(state.model.config)}) on {len(ids):,} tokens; "
        f"saving to {out}. Ctrl-C stops and saves.",
        flush=True,
    )
    finished = _run(state, ids, val_ids, out, info)
    if not finished:
        print(f"Stopped after step {state.step} and saved. Go on with:")
        print(f"  python -m tinygpt_lib train --resume {_quoted(str(out))}")
        return
    info |= {"seed": state.settings.seed, "steps": state.step, "seconds": round(state.seconds, 1)}
    info |= {"batch_size": state.settings.batch_size, "learning_rate": state.settings.learning_rate}
    model = state.result()
    save_checkpoint(out, model, history=state.history, info=info)
    print(f"\n{_validation_line(state.history[-1]['val_loss'], val_ids, val_text)}\n\nA sample:\n")
    first = _first_line(val_text)
    print(generate_text(model, first, max_tokens=150, seed=state.settings.seed))
    print(f"\nMore of it:\n  python -m tinygpt_lib generate {_quoted(first.strip() or 'O')} --model {_quoted(str(out))}")


def _run(state, ids, val_ids, out, info):
    """Train with a progress bar, saving at each evaluation; False if Ctrl-C stopped it, which `train` lets in between steps."""
    from tqdm import tqdm

    val_loss = state.history[-1]["val_loss"] if state.history else None
    records = train(state, ids, val_ids)
    with tqdm(total=state.settings.steps, initial=state.step, unit="step") as bar:
        try:
            for record in records:
                val_loss = record.val_loss or val_loss
                shown = {"loss": f"{record.loss:.3f}", "tokens/s": f"{record.tokens_per_second:,.0f}"}
                bar.set_postfix({**shown, **({"validation": f"{val_loss:.3f}"} if val_loss else {})}, refresh=False)
                bar.update()
                if record.val_loss is not None:
                    save_training(out, state, info=info)
        except KeyboardInterrupt:
            save_training(out, state, info=info)
    return state.step == state.settings.steps


def _recipe(options):
    """The corpus's recipe with what the options change."""
    config, settings = RECIPES.get(options.corpus, RECIPES["play"])
    given = {name: value for name, value in vars(options).items() if value is not None}
    config = replace(config, **{f.name: given[f.name] for f in fields(config) if f.name in given})
    settings = replace(settings, **{f.name: given[f.name] for f in fields(settings) if f.name in given})
    return config, settings


def _command(options, out):
    changed = [(name, getattr(options, name)) for name in _SETTINGS]
    words = ["python", "-m", "tinygpt_lib", "train", "--corpus", options.corpus, "--out", str(out)]
    words += [word for name, value in changed if value is not None for word in (_flag(name), str(value))]
    return _quoted(*words)


def _flag(name):
    return f"--{name.replace('_', '-')}"


def _quoted(*words):
    """Words as one types them into this system's shell."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def _first_line(text):
    """The first line of a text that ends with a colon, a speaker's name in a play, or else the start of its first whole line."""
    lines = text.replace(END_OF_TEXT, "").splitlines()[1:] or [text]
    return next((line for line in lines if line.endswith(":")), next(filter(str.strip, lines), ""))[:60] + "\n"


# ---- info


def _info(options):
    if Path(options.model).is_dir():
        raise IsADirectoryError(f"{options.model} is a folder: info reads checkpoints, only generate takes GPT-2's form")
    checkpoint = read_checkpoint(options.model)
    model = checkpoint.model()
    path, config = checkpoint_path(options.model), checkpoint.config
    rows = [
        ("file", f"{path} ({path.stat().st_size / 1e6:.1f} MB)"),
        ("parameters", f"{model.num_parameters():,}"),
        ("sizes", _sizes(config)),
        ("vocabulary", f"{config.vocab_size:,} tokens"),
        ("dropout", f"{config.dropout}"),
        *((name.replace("_", " "), f"{value}") for name, value in checkpoint.info.items()),
    ]
    for record in (last for last in checkpoint.history[-1:] if isinstance(last, dict)):
        kinds = {"training": record.get("train_loss"), "validation": record.get("val_loss")}
        losses = [f"{name} {loss:.3f}" for name, loss in kinds.items() if loss]
        rows.append(("last losses", f"{', '.join(losses)} (nats per token)"))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:{width}}  {value}")
    if options.evaluate:
        _, val_text = split(_corpus_of(checkpoint.info, options.model))
        val_ids = encode(encoding_of(model, checkpoint.encoding), val_text)
        print(_validation_line(estimate_loss(model, val_ids), val_ids, val_text))


def _sizes(config):
    return f"{config.n_layer} layers, {config.n_head} heads, {config.n_embd} channels, context {config.block_size}"


def _corpus_of(info, path):
    """The corpus that a checkpoint names, refused if it is no longer the same text."""
    if not {"corpus", "corpus_sha256"} <= info.keys():
        raise ValueError(f"{path} doesn't say which corpus it was trained on: it can only be used from Python")
    text = load_corpus(info["corpus"])
    if sha256(text) != info["corpus_sha256"]:
        raise ValueError(f"the corpus {info['corpus']} has changed since this model's training: put the old text back")
    return text


def _validation_line(loss, ids, text):
    losses = f"{loss:.4f} nats per token, {loss * len(ids) / len(text):.4f} nats per character"
    return f"Validation loss: {losses} ({len(ids):,} tokens, {len(text):,} characters)"


# ---- options


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m tinygpt_lib", description="A GPT in NumPy: let it write, train one, or see what a checkpoint holds."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    shipped = " or ".join(archive.SHIPPED)

    generate = commands.add_parser(
        "generate",
        help="continue a text",
        description="Continue a text, printed as it is made, up to the model's end of text.",
    )
    generate.set_defaults(command=_generate)
    generate.add_argument("prompt", help='how the text begins, such as "To be or not to be"')
    generate.add_argument(
        "--model", default=archive.SHIPPED[0], help=f"{shipped}, a checkpoint's file or a GPT-2 folder (default: %(default)s)"
    )
    for name, type_, default, text in (
        ("max_tokens", int, 100, "at most so many new tokens (default: %(default)s)"),
        ("seed", int, None, "the same seed gives the same text (default: another text each time)"),
        ("temperature", float, 0.8, "below 1 safer, above 1 wilder, 0 always the likeliest (default: %(default)s)"),
        ("top_k", int, 50, "only the N likeliest tokens, 0 for all (default: %(default)s)"),
        ("top_p", float, 0.9, "only the likeliest tokens that reach probability N together, 1 for all (default: %(default)s)"),
        ("min_p", float, 0.0, "only tokens at least N times as likely as the likeliest (default: off)"),
        ("typical_p", float, 1.0, "only the most typical tokens that reach probability N together (default: off)"),
        ("repetition_penalty", float, 1.0, "above 1 makes tokens that were there before less likely (default: off)"),
    ):
        generate.add_argument(_flag(name), type=type_, default=default, metavar="N", help=text)

    training = commands.add_parser(
        "train",
        help="train a model from text",
        description="Train a tokenizer and a model; it saves as it goes, and Ctrl-C loses nothing.",
    )
    training.set_defaults(command=_train)
    training.add_argument("--corpus", help="play (bundled), shakespeare (fetched once) or a UTF-8 text file (default: play)")
    training.add_argument("--out", metavar="FILE", help="where to save (default: gpt_CORPUS.npz here)")
    training.add_argument("--resume", metavar="FILE", help="go on with a run that was stopped; everything else is in the file")
    training.add_argument("--force", action="store_true", help="replace FILE if it exists")
    for name, type_, text in (
        ("vocab_size", int, "tokens to learn"),
        ("block_size", int, "context, in tokens"),
        ("n_layer", int, "layers"),
        ("n_head", int, "heads of attention"),
        ("n_embd", int, "channels, a multiple of the heads"),
        ("dropout", float, "probability of dropping an activation"),
        ("steps", int, "updates of the weights"),
        ("batch_size", int, "windows a step"),
        ("learning_rate", float, "the highest, after warm-up"),
        ("min_learning_rate", float, "the last"),
        ("warmup_steps", int, "steps until the highest rate"),
        ("weight_decay", float, "pull of the matrices towards 0"),
        ("average", float, "decay of the running mean of the weights that is kept, 0 for the last weights"),
        ("eval_every", int, "steps between evaluations and saves"),
        ("seed", int, "of the weights, the batches and the dropout"),
    ):
        recipes = {corpus: vars(config) | vars(settings) for corpus, (config, settings) in RECIPES.items()}
        defaults = ", ".join(f"{corpus} {recipe[name]}" for corpus, recipe in recipes.items())
        training.add_argument(_flag(name), type=type_, metavar="N", help=f"{text} (default: {defaults})")

    info = commands.add_parser(
        "info", help="what a checkpoint is", description="Print what a checkpoint holds and how it was trained."
    )
    info.set_defaults(command=_info)
    info.add_argument(
        "model", nargs="?", default=archive.SHIPPED[0], help=f"{shipped}, or a checkpoint's file (default: %(default)s)"
    )
    info.add_argument("--evaluate", action="store_true", help="compute its loss on the validation part of its corpus")
    return parser


if __name__ == "__main__":
    sys.exit(main())
