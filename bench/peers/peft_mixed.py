"""The peer PEFT: one batch whose rows each use another LoRA, decoded by transformers. Development only:
needs torch, transformers, peft and gguf.

Prints a JSON line for each batch: output tokens a second with the base and with a different LoRA in
every row, rank 16 on q and v, greedy, 64 prompt and 64 output tokens, key-value cache on.

    python peft_mixed.py model.gguf --batches 1,16,32
"""

import argparse
import json
import os
import statistics
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

PROMPT = 64


def load(path, dtype):
    folder, name = os.path.split(os.path.abspath(path))
    return AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=dtype).eval()


def with_adapters(model, count, rank):
    """Adds `count` random LoRAs named a0, a1, …"""
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=["q_proj", "v_proj"],
                        init_lora_weights=False)
    peft = get_peft_model(model, config, adapter_name="a0")
    for k in range(1, count):
        peft.add_adapter(f"a{k}", config)
    return peft.eval()


@torch.inference_mode()
def generate(model, batch, tokens, **extra):
    """Seconds of one generate call over random prompts."""
    ids = torch.randint(1000, 48000, (batch, PROMPT))
    start = time.perf_counter()
    model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False,
                   min_new_tokens=tokens, max_new_tokens=tokens, pad_token_id=0, **extra)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--batches", default="1,16,32")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--dtype", default="bfloat16")
    args = parser.parse_args()
    torch.manual_seed(0)
    batches = [int(n) for n in args.batches.split(",")]
    model = with_adapters(load(args.model, getattr(torch, args.dtype)), max(batches), args.rank)
    for batch in batches:
        base, mixed = [], []
        generate(model, batch, 4)
        for _ in range(args.rounds):
            with model.disable_adapter():
                base.append(generate(model, batch, args.tokens))
            names = [f"a{k}" for k in range(batch)]
            mixed.append(generate(model, batch, args.tokens, adapter_names=names))
        speeds = [batch * args.tokens / statistics.median(x) for x in (base, mixed)]
        print(json.dumps({"peer": f"PEFT {args.dtype}", "batch": batch,
                          "base": round(speeds[0], 1), "distinct": round(speeds[1], 1)}), flush=True)


if __name__ == "__main__":
    main()
