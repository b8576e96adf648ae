"""Sixteen real LoRAs by PEFT, each of a small task of our own (`lora_tasks.py`): what LoRAs that are
served, compressed together or distilled are measured on. Development only: needs torch, transformers,
peft and gguf.

Writes OUT/tasks/TASK.{train,test}.jsonl, a PEFT directory OUT/adapters/TASK, and OUT/accuracy.json:
for each task the LoRA's shape and the share of test rows whose greedy answer is equal, in float32.
Ranks are 8 and 16 by turns, on q and v and on all linears by turns of two; a task whose line is in
OUT/tasks is not trained again. The same seeds give the same rows everywhere, and the same weights on
one machine. On a machine that is busy with other work OMP_NUM_THREADS=1 is the fastest.

    python peft_loras.py model.gguf --out DIR
"""

import argparse
import json
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model

import lora_tasks
from peft_train import load, packed_of, parts, render, train

QUERY_VALUE = ["q_proj", "v_proj"]
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def shape_of(place):
    """Rank and target modules of the task at this place."""
    return (8, 16)[place % 2], (QUERY_VALUE, ALL)[place // 2 % 2]


@torch.no_grad()
def accuracy(model, pairs):
    """Share of rows whose greedy answer is the row's own: those of which each token, given those before
    it, is the likeliest."""
    decoder, head = parts(model)
    right = 0
    for at in range(0, len(pairs), 20):
        chosen = pairs[at:at + 20]
        ids, positions, mask, places, targets = packed_of(chosen)
        hidden = decoder(input_ids=ids, position_ids=positions, attention_mask=mask).last_hidden_state
        hits = head(hidden[0, places]).argmax(1) == targets
        right += sum(bool(row.all()) for row in hits.split([len(answer) for _, answer in chosen]))
    return right / len(pairs)


def learn(base, tokenizer, place, task, args):
    """Trains and writes one LoRA; its line of the report."""
    rank, targets = shape_of(place)
    torch.manual_seed(args.seed + place)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=targets,
                        task_type="CAUSAL_LM")
    model = get_peft_model(base, config)
    model.peft_config["default"].base_model_name_or_path = args.base
    rows, test = lora_tasks.rows(task, args.rows + args.valid, args.test)
    for part, content in (("train", rows[:args.rows]), ("test", test)):
        lora_tasks.write(args.out / "tasks" / f"{task}.{part}.jsonl", content)
    pairs = [render(tokenizer, row) for row in rows]
    losses, seconds = train(model, pairs[:args.rows], pairs[args.rows:], args)
    model.eval()
    share = accuracy(model, [render(tokenizer, row) for row in test])
    model.save_pretrained(args.out / "adapters" / task)
    model.unload()
    return {"task": task, "rank": rank, "modules": targets, "accuracy": share,
            "validation": losses, "seconds": round(seconds, 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a GGUF file")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", default="HuggingFaceTB/SmolLM2-135M-Instruct",
                        help="what the adapters say they are of")
    parser.add_argument("--tasks", default=",".join(lora_tasks.TASKS))
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--valid", type=int, default=12)
    parser.add_argument("--test", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    args.packed = True
    for folder in ("tasks", "adapters"):
        (args.out / folder).mkdir(parents=True, exist_ok=True)
    base, tokenizer = load(args.model)
    for place, task in enumerate(lora_tasks.TASKS):
        line = args.out / "tasks" / f"{task}.json"
        if task in args.tasks.split(",") and not line.exists():
            line.write_text(json.dumps(learn(base, tokenizer, place, task, args)) + "\n")
            print(line.read_text(), end="", flush=True)
    lines = [json.loads(path.read_text()) for path in sorted((args.out / "tasks").glob("*.json"))]
    (args.out / "accuracy.json").write_text(json.dumps(lines, indent=1) + "\n")


if __name__ == "__main__":
    main()
