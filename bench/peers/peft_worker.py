"""The peer PEFT as a child process to alternate with: trains on the token rows it is handed and says
how long each step took. Development only: needs torch, transformers, peft and gguf.

Each line of standard input is a JSON object, each line of standard output its answer:

    {"rank": 16, "dtype": "bfloat16", "rows": [{"tokens": [...], "loss": [...]}, ...],
     "batches": [[0, 1], [2, 3]]}
    {"seconds": [2.61, 2.58]}

`loss` is 1 for each token whose prediction counts. A step is a batch: forward, backward, clipping and
AdamW; rows are padded to the batch's longest, and the output layer is applied only to positions that
carry loss. `peft_train.py` beside it owns how the model is loaded and adapted.

    python peft_worker.py model.gguf
"""

import argparse
import copy
import json
import sys
import time

import torch

from peft_train import autocast, load, loss_of, trainable, with_lora


def batch_of(rows):
    longest = max(len(row["tokens"]) for row in rows)
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    labels = torch.full((len(rows), longest), -100)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for i, row in enumerate(rows):
        tokens, wanted = torch.tensor(row["tokens"]), torch.tensor(row["loss"])
        ids[i, :len(tokens)] = tokens
        labels[i, :len(tokens)] = torch.where(wanted > 0, tokens, -100)
        mask[i, :len(tokens)] = 1
    return ids, labels, mask


class Worker:
    """Keeps the adapted model of the last rank that was asked for."""

    def __init__(self, path):
        self.base, _ = load(path)
        self.rank, self.model = None, None

    def adapted(self, rank):
        if self.rank != rank:
            self.model = None
            self.model, self.rank = with_lora(copy.deepcopy(self.base), rank), rank
        return self.model

    def steps(self, rank, dtype, rows, batches):
        model = self.adapted(rank)
        dtype = getattr(torch, dtype)
        parameters = list(trainable(model).values())
        optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0)
        seconds = []
        for batch in batches:
            started = time.perf_counter()
            inputs = batch_of([rows[i] for i in batch])
            with autocast(dtype):
                loss = loss_of(model, *inputs)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            seconds.append(time.perf_counter() - started)
        return {"seconds": seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a GGUF file")
    worker = Worker(parser.parse_args().model)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = worker.steps(**command)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
