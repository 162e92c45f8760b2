"""Models on disk: our .npz checkpoints, and GPT-2's form as Hugging Face's transformers keeps it."""

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from . import archive
from .gpt import GPT, GPTConfig
from .tokenizer import pack_encoding, unpack_encoding


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds: weights by name, and how they came about."""

    weights: dict
    config: GPTConfig
    encoding: object  # a tiktoken.Encoding, or None
    history: list  # a dict for each evaluation: step, train_loss, val_loss, ...
    info: dict  # corpus, its hash, seed, steps, wall time, versions
    extra: dict  # other entries under meta/, such as the state of a training run

    def model(self):
        """The GPT of its configuration with its weights and encoding."""
        model = GPT(self.config)
        model.load_state_dict(self.weights)
        model.encoding = self.encoding
        return model


def save_checkpoint(path, model, *, encoding=None, history=(), info=None, dtype=np.float16, extra=None):
    """Write the model, its configuration and encoding (default: its own) to an .npz file.

    dtype: of the weights on disk; float16 halves the file and moves logits by about 0.001.
    """
    encoding = model.encoding if encoding is None else encoding
    weights = model.state_dict()
    if wild := [name for name, array in weights.items() if not (np.abs(array) <= np.finfo(dtype).max).all()]:
        raise ValueError(f"{', '.join(wild)} doesn't fit {np.dtype(dtype)}: has training diverged? dtype=np.float32 holds more")
    entries = {name: array.astype(dtype) for name, array in weights.items()}
    entries |= {
        archive.CONFIG: archive.pack(asdict(model.config)),
        archive.HISTORY: archive.pack(list(history)),
        archive.INFO: archive.pack({**(info or {}), "numpy": np.__version__, "python": platform.python_version()}),
        **(extra or {}),
    }
    if encoding is not None:
        entries[archive.ENCODING] = pack_encoding(encoding)
    archive.write(path, entries)


def read_checkpoint(source):
    """A Checkpoint from a shipped name ("play") or a path, refused as a whole if it is damaged."""
    path = checkpoint_path(source)
    entries = archive.read(path)
    if archive.CONFIG not in entries or archive.HASH not in entries:
        raise ValueError(f"{path} lacks a configuration or a hash: build GPT(GPTConfig(...)) and call load_state_dict")
    known = {archive.CONFIG, archive.ENCODING, archive.HISTORY, archive.INFO, archive.HASH}
    return Checkpoint(
        weights=archive.without_meta(entries),
        config=GPTConfig(**archive.unpack(entries[archive.CONFIG])),
        encoding=unpack_encoding(entries[archive.ENCODING]) if archive.ENCODING in entries else None,
        history=archive.unpack(entries[archive.HISTORY]) if archive.HISTORY in entries else [],
        info=archive.unpack(entries[archive.INFO]) if archive.INFO in entries else {},
        extra={name: entries[name] for name in entries.keys() - known if name.startswith(archive.META)},
    )


def checkpoint_path(source):
    """The file of a shipped model's name or a path; a folder of GPT-2's form is none."""
    if source in archive.SHIPPED:
        return archive.asset(source)
    if not os.path.isfile(source):
        raise FileNotFoundError(f"there is no model {str(source)[:99]!r}: use 'shakespeare', 'play' or a path")
    return Path(source)


def load_pretrained(source):
    """(model, encoding) of a shipped name, a checkpoint's path, or a folder in GPT-2's form (encoding None)."""
    if isinstance(source, (str, Path)) and source not in archive.SHIPPED and os.path.isdir(source):
        return load_gpt2(source), None
    checkpoint = read_checkpoint(source)
    return checkpoint.model().eval(), checkpoint.encoding


# ---- GPT-2's form: config.json and model.safetensors

# Their names for our sizes, and what must hold for the architecture to be ours.
_SIZES = {"vocab_size": "vocab_size", "block_size": "n_positions", "n_layer": "n_layer", "n_head": "n_head", "n_embd": "n_embd"}
_FIXED = {
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "tie_word_embeddings": True,
    "add_cross_attention": False,
}
# Their Conv1D keeps matrices as (n_in, n_out), our Linear as (n_out, n_in).
_TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


def save_gpt2(model, path):
    """Write the model as a folder that transformers' GPT2LMHeadModel.from_pretrained opens."""
    from safetensors.numpy import save_file

    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    end = model.config.vocab_size - 1  # of our encodings and of GPT-2's, end-of-text is the last token
    settings = {theirs: getattr(model.config, ours) for ours, theirs in _SIZES.items()} | _FIXED
    settings |= dict(n_inner=None, bos_token_id=end, eos_token_id=end, model_type="gpt2", architectures=["GPT2LMHeadModel"])
    settings |= {name: model.config.dropout for name in ("embd_pdrop", "attn_pdrop", "resid_pdrop")}
    arrays = {name: array.T if name.endswith(_TRANSPOSED) else array for name, array in model.state_dict().items()}
    tensors = {f"transformer.{name}": np.ascontiguousarray(array) for name, array in arrays.items()}
    (folder / "config.json").write_text(json.dumps(settings, indent=2, default=np.generic.item), encoding="utf-8")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def load_gpt2(path):
    """A GPT from a folder with transformers' config.json and model.safetensors of a GPT-2."""
    folder = Path(path)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no {name}: a GPT-2 folder holds config.json and model.safetensors")
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder / 'config.json'} isn't whole JSON ({error}): copy it again") from error
    model = GPT(_config_of_gpt2(settings))
    model.load_state_dict(_weights_of_gpt2(folder / "model.safetensors"))
    return model.eval()


def _config_of_gpt2(settings):
    if settings.get("model_type") != "gpt2":
        raise ValueError(f"only a model_type of 'gpt2' can be read, got {settings.get('model_type')!r}")
    for name, want in _FIXED.items():
        if settings.get(name, want) != want:
            raise ValueError(f"this GPT-2 has {name}={settings[name]!r} and only {want!r} can be represented here")
    if missing := [theirs for theirs in _SIZES.values() if theirs not in settings]:
        raise ValueError(f"config.json lacks {', '.join(missing)}")
    if settings.get("n_inner") not in (None, 4 * settings["n_embd"]):
        raise ValueError(f"this GPT-2 has n_inner={settings['n_inner']!r} and only 4 * n_embd can be represented here")
    rates = {settings.get(name, 0.1) for name in ("embd_pdrop", "attn_pdrop", "resid_pdrop")}
    return GPTConfig(**{ours: settings[theirs] for ours, theirs in _SIZES.items()}, dropout=max(rates))


def _weights_of_gpt2(path):
    from safetensors import SafetensorError, deserialize

    try:
        stored = deserialize(path.read_bytes())
    except SafetensorError as error:
        raise ValueError(f"{path} isn't a whole safetensors file ({error}): copy it again") from error
    weights = {}
    for name, entry in stored:
        name = name.removeprefix("transformer.")
        if name.endswith((".attn.bias", ".attn.masked_bias")) or name == "lm_head.weight":
            continue  # the causal mask, and the head that is tied to wte
        array = _to_array(name, entry)
        weights[name] = array.T if name.endswith(_TRANSPOSED) else array
    return weights


def _to_array(name, entry):
    """The array of a safetensors entry; bfloat16, which NumPy lacks, is the upper half of float32."""
    if entry["dtype"] == "BF16":
        flat = (np.frombuffer(entry["data"], "<u2").astype("<u4") << 16).view("<f4")
    elif entry["dtype"] in ("F16", "F32", "F64"):
        flat = np.frombuffer(entry["data"], f"<f{int(entry['dtype'][1:]) // 8}")
    else:
        raise ValueError(f"{name} is stored as {entry['dtype']}: only float16, bfloat16, float32 and float64 can be read")
    return flat.reshape(entry["shape"])
