"""The peer PEFT: a LoRA trained on a chat JSONL by PyTorch, and how fast. Development only: needs torch,
transformers, peft and gguf.

`quality` trains on the first rows of TASK.train.jsonl, keeps the epoch with the lowest validation
loss and prints one JSON line: accuracy on TASK.test.jsonl by greedy answer (the whole answer equal)
and by label (the first token of which label is the most likely), and each row's verdict, so that two
methods can be compared row by row. `--packed` lays a batch's rows behind their common beginning: the
same loss and gradients (cosine 1.0000 in float32), in less time. `speed` times training steps of
ROWS × TOKENS and prints tokens a second. In both, the output layer is applied only to positions that
carry loss.

    python peft_train.py quality model.gguf --data DIR --task question --rank 8 --rate 1e-3 --seed 0
    python peft_train.py speed model.gguf --rank 16 --rows 8 --tokens 128 --dtype bfloat16 --loss all
"""

import argparse
import contextlib
import json
import math
import os
import statistics
import time
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

END = "<|im_end|>"


def load(path):
    folder, name = os.path.split(os.path.abspath(path))
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    return model, tokenizer


def with_lora(model, rank):
    """LoRA on q and v, PEFT's own initialisation, alpha = rank."""
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0,
                                            target_modules=["q_proj", "v_proj"]))


def parts(model):
    """The decoder below the output layer, and the output layer."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return base.model, base.lm_head


def autocast(dtype):
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast("cpu", dtype=dtype)


def loss_of(model, ids, labels, mask):
    """Mean cross-entropy over the labels that are not -100."""
    decoder, head = parts(model)
    hidden = decoder(input_ids=ids, attention_mask=mask).last_hidden_state[:, :-1]
    wanted = labels[:, 1:] != -100
    return torch.nn.functional.cross_entropy(head(hidden[wanted]).float(), labels[:, 1:][wanted])


def read_rows(path):
    return [json.loads(line)["messages"] for line in path.read_text().splitlines()]


def render(tokenizer, messages):
    prompt = tokenizer.apply_chat_template(
        messages[:-1], add_generation_prompt=True, tokenize=False)
    return (tokenizer(prompt, add_special_tokens=False).input_ids,
            tokenizer(messages[-1]["content"] + END, add_special_tokens=False).input_ids)


def batch_of(pairs):
    longest = max(len(p) + len(a) for p, a in pairs)
    ids = torch.zeros((len(pairs), longest), dtype=torch.long)
    labels = torch.full((len(pairs), longest), -100)
    mask = torch.zeros((len(pairs), longest), dtype=torch.long)
    for i, (prompt, answer) in enumerate(pairs):
        end = len(prompt) + len(answer)
        ids[i, :end] = torch.tensor(prompt + answer)
        labels[i, len(prompt):end] = torch.tensor(answer)
        mask[i, :end] = 1
    return ids, labels, mask


def packed_of(pairs):
    """The rows' common beginning once, then their rests: ids and positions [1, T], who sees whom
    [1, 1, T, T], the places that predict answers and the answers' tokens, [A] both."""
    rows = [prompt + answer for prompt, answer in pairs]
    shared = len(os.path.commonprefix([prompt[:-1] for prompt, _ in pairs]))
    ids, positions, owner = rows[0][:shared], list(range(shared)), [-1] * shared
    places, targets = [], []
    for i, (prompt, answer) in enumerate(pairs):
        first = len(ids) + len(prompt) - 1 - shared
        places += range(first, first + len(answer))
        targets += answer
        rest = rows[i][shared:-1]
        ids, owner = ids + rest, owner + [i] * len(rest)
        positions += range(shared, shared + len(rest))
    owner = torch.tensor(owner)
    seen = (owner == -1) | (owner[:, None] == owner)
    mask = seen & torch.ones(len(ids), len(ids), dtype=torch.bool).tril()
    return (torch.tensor([ids]), torch.tensor([positions]), mask[None, None],
            torch.tensor(places), torch.tensor(targets))


def packed_loss_of(model, ids, positions, mask, places, targets):
    """Mean cross-entropy over the answers' tokens of packed rows."""
    decoder, head = parts(model)
    hidden = decoder(input_ids=ids, position_ids=positions, attention_mask=mask).last_hidden_state
    return torch.nn.functional.cross_entropy(head(hidden[0, places]).float(), targets)


def loss_of_pairs(model, pairs, packed):
    if packed:
        return packed_loss_of(model, *packed_of(pairs))
    return loss_of(model, *batch_of(pairs))


def schedule(step, steps, warmup):
    """Linear warm-up, then a cosine to zero."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


@torch.no_grad()
def validation_loss(model, pairs, dtype, packed):
    total, count = 0.0, 0
    ordered = sorted(pairs, key=lambda pair: len(pair[0]))
    for at in range(0, len(ordered), 20):
        chosen = ordered[at:at + 20]
        with autocast(dtype):
            loss = loss_of_pairs(model, chosen, packed).item()
        tokens = sum(len(answer) for _, answer in chosen)
        total, count = total + loss * tokens, count + tokens
    return total / count


def trainable(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def train(model, pairs, valid, args):
    """Trains in place and restores the best epoch; returns validation losses and seconds of steps."""
    dtype = getattr(torch, args.dtype)
    parameters = trainable(model)
    optimizer = torch.optim.AdamW(parameters.values(), lr=args.rate, weight_decay=0.0)
    per_epoch = math.ceil(len(pairs) / args.batch)
    steps = args.epochs * per_epoch
    warmup = round(0.05 * steps)
    random = torch.Generator().manual_seed(args.seed)
    losses, seconds, best = [], 0.0, None
    for epoch in range(args.epochs):
        order = torch.randperm(len(pairs), generator=random).tolist()
        started = time.perf_counter()
        for i in range(per_epoch):
            for group in optimizer.param_groups:
                group["lr"] = args.rate * schedule(epoch * per_epoch + i, steps, warmup)
            chosen = [pairs[k] for k in order[i * args.batch:(i + 1) * args.batch]]
            with autocast(dtype):
                loss = loss_of_pairs(model, chosen, args.packed)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        seconds += time.perf_counter() - started
        losses.append(validation_loss(model, valid, dtype, args.packed))
        if losses[-1] == min(losses):
            best = {name: p.detach().clone() for name, p in parameters.items()}
    with torch.no_grad():
        for name, p in parameters.items():
            p.copy_(best[name])
    return losses, seconds


@torch.no_grad()
def answers(model, tokenizer, rows, dtype):
    """For each row whether the greedy answer is right, and whether the likeliest label is."""
    labels = sorted({row[-1]["content"] for row in rows})
    firsts = torch.tensor([tokenizer(label, add_special_tokens=False).input_ids[0]
                           for label in labels])
    assert len(set(firsts.tolist())) == len(labels), "two labels begin with the same token"
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or END
    end = tokenizer.convert_tokens_to_ids(END)
    exact, likeliest = [0] * len(rows), [0] * len(rows)
    prompts = [tokenizer.apply_chat_template(row[:-1], add_generation_prompt=True, tokenize=False)
               for row in rows]
    order = sorted(range(len(rows)), key=lambda i: len(prompts[i]))
    for at in range(0, len(rows), 25):
        chosen = order[at:at + 25]
        inputs = tokenizer([prompts[i] for i in chosen], return_tensors="pt", padding=True,
                           add_special_tokens=False)
        with autocast(dtype):
            out = model.generate(**inputs, max_new_tokens=8, do_sample=False, eos_token_id=end,
                                 pad_token_id=end, output_scores=True,
                                 return_dict_in_generate=True)
        texts = tokenizer.batch_decode(out.sequences[:, inputs.input_ids.shape[1]:],
                                       skip_special_tokens=True)
        best = out.scores[0][:, firsts].argmax(1).tolist()
        for i, text, label in zip(chosen, texts, best):
            exact[i] = int(text.strip() == rows[i][-1]["content"])
            likeliest[i] = int(labels[label] == rows[i][-1]["content"])
    return exact, likeliest


def quality(args):
    torch.manual_seed(args.seed)
    model, tokenizer = load(args.model)
    read = lambda part: read_rows(Path(args.data) / f"{args.task}.{part}.jsonl")
    dtype = getattr(torch, args.dtype)
    losses, seconds, tokens = [], 0.0, 0
    if args.rank > 0:
        model = with_lora(model, args.rank)
        pairs = [render(tokenizer, row) for row in read("train")[:args.rows]]
        valid = [render(tokenizer, row) for row in read("valid")]
        tokens = args.epochs * sum(len(p) + len(a) for p, a in pairs)
        losses, seconds = train(model, pairs, valid, args)
    model.eval()
    report = {"peer": f"PEFT LoRA r={args.rank}", "task": args.task, "rate": args.rate,
              "seed": args.seed, "parameters": sum(p.numel() for p in trainable(model).values())
              if args.rank > 0 else 0, "validation": losses,
              "tokensPerSecond": round(tokens / seconds, 1) if seconds else None}
    for part in ("valid", "test"):
        exact, likeliest = answers(model, tokenizer, read(part), dtype)
        report[part] = {"exact": sum(exact) / len(exact), "label": sum(likeliest) / len(exact)}
        if part == "test":
            report["rowsExact"] = "".join(map(str, exact))
            report["rowsLabel"] = "".join(map(str, likeliest))
    print(json.dumps(report), flush=True)


def speed(args):
    torch.manual_seed(args.seed)
    model, _ = load(args.model)
    model = with_lora(model, args.rank)
    dtype = getattr(torch, args.dtype)
    optimizer = torch.optim.AdamW(trainable(model).values(), lr=1e-3)
    ids = torch.randint(1000, 48000, (args.rows, args.tokens))
    labels = ids.clone()
    if args.loss == "assistant":
        labels[:, :args.tokens - args.answer] = -100
    mask = torch.ones_like(ids)
    times = []
    for step in range(args.steps + 1):
        started = time.perf_counter()
        with autocast(dtype):
            loss = loss_of(model, ids, labels, mask)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable(model).values(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step > 0:
            times.append(time.perf_counter() - started)
    rate = args.rows * args.tokens / statistics.median(times)
    print(json.dumps({"peer": f"PEFT {args.dtype}", "rank": args.rank, "rows": args.rows,
                      "tokens": args.tokens, "loss": args.loss,
                      "tokensPerSecond": round(rate, 1)}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    for name, run in (("quality", quality), ("speed", speed)):
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        command.add_argument("model", help="a GGUF file")
        command.add_argument("--rank", type=int, default=8, help="0 = the base alone")
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--dtype", default="bfloat16")
    command.add_argument("--rows", type=int, default=8)
    command.add_argument("--tokens", type=int, default=128)
    command.add_argument("--answer", type=int, default=16, help="tokens of a row that carry loss")
    command.add_argument("--steps", type=int, default=5)
    command.add_argument("--loss", choices=["all", "assistant"], default="all")
    command = commands.choices["quality"]
    command.add_argument("--data", required=True)
    command.add_argument("--task", required=True)
    command.add_argument("--rate", type=float, default=1e-3)
    command.add_argument("--rows", type=int, default=1000)
    command.add_argument("--epochs", type=int, default=3)
    command.add_argument("--batch", type=int, default=16)
    command.add_argument("--packed", action="store_true")
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
