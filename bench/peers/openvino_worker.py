"""The peer OpenVINO GenAI as a child process to alternate with: continuous batching over a GGUF file,
greedy, every sequence a prompt of random tokens. Development only: needs openvino-genai.

Each line of standard input is a command, each line of standard output its answer:

    decode BATCH STEPS BEHIND     {"op": "decode", "ms": [each step after the prompts]}
    prefill BATCH LENGTH          {"op": "prefill", "ms": [the step that takes all prompts]}

    python openvino_worker.py model.gguf --threads 2
"""

import argparse
import json
import sys
import time

import numpy
import openvino
import openvino_genai


def pipeline(path, threads):
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size = 2
    scheduler.max_num_seqs = 64
    # All prompts in one step, and no prefix taken from a run before.
    scheduler.max_num_batched_tokens = 1 << 16
    scheduler.dynamic_split_fuse = False
    scheduler.enable_prefix_caching = False
    properties = {"INFERENCE_NUM_THREADS": threads}
    return openvino_genai.ContinuousBatchingPipeline(path, scheduler, "CPU", properties)


def run(pipe, batch, steps, length):
    """Milliseconds of each step: the prompts', then one for each token."""
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = steps + 1
    config.ignore_eos = True
    config.do_sample = False
    handles = []
    for i in range(batch):
        ids = numpy.random.randint(100, 2000, (1, length), dtype=numpy.int64)
        handles.append(pipe.add_request(i, openvino.Tensor(ids), config))
    times = []
    while pipe.has_non_finished_requests():
        start = time.perf_counter()
        pipe.step()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def main():
    flags = argparse.ArgumentParser()
    flags.add_argument("model")
    flags.add_argument("--threads", type=int, default=2)
    args = flags.parse_args()
    pipe = pipeline(args.model, args.threads)
    print(json.dumps({"op": "ready"}), flush=True)
    for line in sys.stdin:
        op, *numbers = line.split()
        numbers = [int(number) for number in numbers]
        if op == "decode":
            batch, steps, behind = numbers
            ms = run(pipe, batch, steps, behind)[1:]
        else:
            batch, length = numbers
            ms = run(pipe, batch, 0, length)[:1]
        print(json.dumps({"op": op, "ms": ms}), flush=True)


main()
