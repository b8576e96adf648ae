"""Decode and prefill of a decoder of the 135M and 1.5B shapes in PyTorch, with random weights.

The peer of bench/gpu/main.ts, where PyTorch is installed: float16 on a CUDA device, else float32 on the
CPU. Static shapes, scaled_dot_product_attention over a cache; no adapters. Prints one line of JSON.

    python bench/gpu/torch_decode.py [--tiny]
"""

import json
import sys
import time

import torch
import torch.nn.functional as F

TINY = "--tiny" in sys.argv[1:]
# vocabulary, width, inner, layers, heads, key-value heads, head's width
SHAPES = {"tiny": (512, 128, 256, 2, 4, 2, 32)} if TINY else {
    "135M": (49152, 576, 1536, 30, 9, 3, 64),
    "1.5B": (151936, 1536, 8960, 28, 12, 2, 128),
}
BATCHES = (1, 3) if TINY else (1, 8, 32, 128, 256)
PROMPTS = (24,) if TINY else (512, 2048)
STEPS, BEHIND = (3, 6) if TINY else (16, 16)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPE = torch.float16 if DEVICE == "cuda" else torch.float32


def norm(x):
    return F.rms_norm(x, x.shape[-1:], eps=1e-5)


class Decoder:
    def __init__(self, vocabulary, width, inner, layers, heads, kv, head):
        def weight(rows, columns):
            return torch.randn(rows, columns, device=DEVICE, dtype=DTYPE) * 0.02

        self.heads, self.kv, self.head = heads, kv, head
        self.table = weight(vocabulary, width)
        self.layers = [
            (
                weight((heads + 2 * kv) * head, width),
                weight(width, heads * head),
                weight(2 * inner, width),
                weight(width, inner),
            )
            for _ in range(layers)
        ]

    def cache(self, batch, room):
        shape = (2, batch, self.kv, room, self.head)
        return [torch.zeros(shape, device=DEVICE, dtype=DTYPE) for _ in self.layers]

    def step(self, ids, caches, past):
        batch, time_ = ids.shape
        x = F.embedding(ids, self.table)
        for (qkv, out, gate_up, down), cache in zip(self.layers, caches):
            parts = F.linear(norm(x), qkv).view(batch, time_, -1, self.head).transpose(1, 2)
            q, k, v = parts.split([self.heads, self.kv, self.kv], dim=1)
            cache[0, :, :, past : past + time_] = k
            cache[1, :, :, past : past + time_] = v
            seen = cache[:, :, :, : past + time_]
            y = F.scaled_dot_product_attention(
                q, seen[0], seen[1], is_causal=past == 0 and time_ > 1, enable_gqa=True
            )
            x = x + F.linear(y.transpose(1, 2).reshape(batch, time_, -1), out)
            gate, up = F.linear(norm(x), gate_up).chunk(2, dim=-1)
            x = x + F.linear(F.silu(gate) * up, down)
        return F.linear(norm(x[:, -1]), self.table).argmax(-1, keepdim=True)


def seconds(run):
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(shape):
    model = Decoder(*shape)
    figures = {"decode": [], "prefill": []}
    for batch in BATCHES:
        caches = model.cache(batch, BEHIND + STEPS)
        ids = torch.zeros(batch, BEHIND, device=DEVICE, dtype=torch.long)
        ids = model.step(ids, caches, 0)
        times = [seconds(lambda: model.step(ids, caches, BEHIND + i)) for i in range(STEPS)]
        ms = sorted(times)[len(times) // 2] * 1000
        figures["decode"].append({"batch": batch, "ms": ms, "tokensPerSecond": batch / ms * 1000})
    for tokens in PROMPTS:
        ids = torch.zeros(1, tokens, device=DEVICE, dtype=torch.long)
        caches = model.cache(1, tokens)
        ms = min(seconds(lambda: model.step(ids, caches, 0)) for _ in range(3)) * 1000
        figures["prefill"].append({"tokens": tokens, "ms": ms, "tokensPerSecond": tokens / ms * 1000})
    return figures


with torch.inference_mode():
    print(json.dumps({
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu",
        "shapes": {name: measure(shape) for name, shape in SHAPES.items()},
    }))
