"""A GPT in NumPy, from one number's gradient to generated text, small enough to be read in an afternoon."""

from .checkpoint import load_gpt2, load_pretrained, read_checkpoint, save_checkpoint, save_gpt2
from .data import batches, encode, load_corpus, split
from .functional import causal_attention, cross_entropy, dropout, embedding, gelu, layer_norm, linear, log_softmax, softmax
from .generation import generate, generate_text, generate_top_k, generate_top_p, generate_with_temperature, stream
from .gpt import GPT, GPTConfig, KVCache
from .gradcheck import gradcheck
from .optim import AdamW, clip_grad_norm, warmup_cosine
from .sampling import SamplingSettings, draw, trace
from .tensor import Tensor, no_grad
from .tokenizer import get_encoding, learn_merges, show_token, train_bpe
from .training import TrainSettings, TrainState, estimate_loss, load_training, save_training, train

__version__ = "0.1.0"
__all__ = [
    "AdamW", "batches", "causal_attention", "clip_grad_norm", "cross_entropy", "draw", "dropout", "embedding",
    "encode", "estimate_loss", "gelu", "generate", "generate_text", "generate_top_k", "generate_top_p",
    "generate_with_temperature", "get_encoding", "GPT", "GPTConfig", "gradcheck", "KVCache", "layer_norm",
    "learn_merges", "linear", "load_corpus", "load_gpt2", "load_pretrained", "load_training", "log_softmax",
    "no_grad", "read_checkpoint", "SamplingSettings", "save_checkpoint", "save_gpt2", "save_training",
    "show_token", "softmax", "split", "stream", "Tensor", "trace", "train", "train_bpe", "TrainSettings",
    "TrainState", "warmup_cosine",
]  # fmt: skip
