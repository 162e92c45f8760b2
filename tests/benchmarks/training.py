"""A training step against PyTorch eager: python -m tests.benchmarks.training"""

import statistics
import sys

import numpy as np

from tests.benchmarks.turns import Worker, in_turns, machine, paired_ratio

CONFIGURATIONS = {
    # name: ((batch, vocabulary, context, layers, heads, channels), the most that our time may be of PyTorch's)
    "nanoGPT's CPU configuration": ((12, 65, 64, 4, 4, 128), 1.0),
    "the shipped configuration": ((32, 1024, 128, 6, 6, 192), 1.1),
}


def flops(B, V, T, n_layer, n_head, n_embd):
    """Of the matrix products of a step: 2 a weight and token forward, twice that backward, and attention's own."""
    weights = 12 * n_layer * n_embd**2 + V * n_embd
    return 3 * B * T * (2 * weights + 4 * n_layer * T * n_embd)


def large_product():
    """A product that nothing but the processor's speed limits, of PEAK_SIZE cubed."""
    a = np.random.default_rng(0).standard_normal((PEAK_SIZE, PEAK_SIZE), dtype=np.float32)
    return lambda: a @ a


PEAK_SIZE = 2048


def random_batches(B, V, T):
    rng = np.random.default_rng(0)
    while True:
        ids = rng.integers(0, V, (B, T + 1))
        yield ids[:, :-1], ids[:, 1:]


def our_step(B, V, T, n_layer, n_head, n_embd):
    """Forward, backward, clipping and AdamW, as `train` does them."""
    from tinygpt_lib import GPT, GPTConfig
    from tinygpt_lib.training import TrainState, keep_freed_memory, train_step

    model = GPT(GPTConfig(V, T, n_layer, n_head, n_embd, dropout=0.0))
    state, data = TrainState(model), random_batches(B, V, T)
    memory = keep_freed_memory()
    memory.__enter__()  # for as long as the process lives
    return lambda memory=memory: train_step(model, state.optimizer, *next(data))


def torch_step(B, V, T, n_layer, n_head, n_embd):
    """The same model and step as one writes them in PyTorch."""
    import torch
    import torch.nn.functional as F

    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.ln_1, self.ln_2 = torch.nn.LayerNorm(n_embd), torch.nn.LayerNorm(n_embd)
            self.c_attn, self.c_proj = torch.nn.Linear(n_embd, 3 * n_embd), torch.nn.Linear(n_embd, n_embd)
            self.fc, self.proj = torch.nn.Linear(n_embd, 4 * n_embd), torch.nn.Linear(4 * n_embd, n_embd)

        def forward(self, x):
            heads = [t.view(B, T, n_head, -1).transpose(1, 2) for t in self.c_attn(self.ln_1(x)).split(n_embd, dim=2)]
            y = F.scaled_dot_product_attention(*heads, is_causal=True)
            x = x + self.c_proj(y.transpose(1, 2).reshape(B, T, n_embd))
            return x + self.proj(F.gelu(self.fc(self.ln_2(x)), approximate="tanh"))

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.wte, self.wpe = torch.nn.Embedding(V, n_embd), torch.nn.Embedding(T, n_embd)
            self.h = torch.nn.Sequential(*(Block() for _ in range(n_layer)))
            self.ln_f = torch.nn.LayerNorm(n_embd)

        def forward(self, idx):
            x = self.wte(idx) + self.wpe(torch.arange(T))
            return F.linear(self.ln_f(self.h(x)), self.wte.weight)

    model, data = Model(), random_batches(B, V, T)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1)

    def step():
        inputs, targets = (torch.from_numpy(a) for a in next(data))
        loss = F.cross_entropy(model(inputs).view(-1, V), targets.reshape(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step


def compare(configuration, rounds=9, calls=10):
    """A row of figures by name, medians of paired rounds: times in ms, memory in MB, the share of the products' peak."""
    makers = {"ours": (our_step, *configuration), "torch": (torch_step, *configuration), "peak": (large_product,)}
    workers = {name: Worker(*maker) for name, maker in makers.items()}
    times = in_turns(workers, rounds, calls, warm_up=10)
    memory = {name: worker.finish() for name, worker in workers.items()}
    needed = flops(*configuration) * statistics.median(times["peak"]) / (2 * PEAK_SIZE**3)  # seconds at the peak
    return {
        "ours": statistics.median(times["ours"]) * 1e3,
        "torch": statistics.median(times["torch"]) * 1e3,
        "ratio": paired_ratio(times["ours"], times["torch"]),
        "share": needed / statistics.median(times["ours"]),
        "our memory": memory["ours"],
        "torch memory": memory["torch"],
    }


def main():
    """Print the table; exit status 1 if a ratio is above twice its bound, which no noise explains."""
    print(machine())
    print("| step of | this library, ms | PyTorch eager, ms | ratio | bound | share of peak | this library, MB | PyTorch, MB |")
    print("|---|---|---|---|---|---|---|---|")
    too_slow = False
    for name, (configuration, bound) in CONFIGURATIONS.items():
        row = compare(configuration)
        times = f"{row['ours']:.1f} | {row['torch']:.1f} | {row['ratio']:.2f} | {bound} | {row['share']:.0%}"
        print(f"| {name} | {times} | {row['our memory']:.0f} | {row['torch memory']:.0f} |", flush=True)
        too_slow |= row["ratio"] > 2 * bound
    return int(too_slow)


if __name__ == "__main__":
    sys.exit(main())
