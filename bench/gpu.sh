#!/usr/bin/env bash
# One command for the first hour of a graphics card: measures lembas on it in under eight minutes,
# without a network, and ends in one line of JSON (kept in gpu-result.json beside this file).
#
#   bench/gpu.sh [--tiny] [--device webgpu:N|cuda:N] [--seconds N]
#
# What a folder beside it has is used (bench/gpu-files, or LEMBAS_GPU_FILES): weights (*.gguf) are
# measured, too, and wheels (*.whl) of PyTorch are installed into an environment of their own. A file in
# parts (NAME.part-000, NAME.part-001, …) is joined first. Without any, weights are random.
set -euo pipefail
deno=(${DENO:-deno})
if ! command -v "${deno[0]}" >/dev/null; then deno=(npx -y deno); fi
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/.."
files=${LEMBAS_GPU_FILES:-$here/gpu-files}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
began=$SECONDS

for arg in "$@"; do
  case $arg in --help | -h) exec "${deno[@]}" run -A bench/gpu/main.ts --help ;; esac
done

if [ -d "$files" ]; then
  for first in "$files"/*.part-000; do
    [ -e "$first" ] || continue
    name=$(basename "${first%.part-000}")
    echo "joining $name"
    cat "${first%.part-000}".part-* >"$work/$name"
  done
  for file in "$files"/*.gguf "$files"/*.whl; do
    if [ -e "$file" ]; then ln -s "$file" "$work/$(basename "$file")"; fi
  done
fi

args=()
models=("$work"/*.gguf)
if [ -e "${models[0]}" ]; then args+=(--model "${models[0]}"); fi

wheels=("$work"/torch-*.whl)
if [ -e "${wheels[0]}" ]; then
  echo "installing PyTorch"
  if python3 -m venv "$work/torch" &&
    "$work/torch/bin/pip" install -q --no-index --find-links "$work" torch numpy; then
    args+=(--python "$work/torch/bin/python")
  else
    echo "PyTorch's wheels could not be installed: it is left out"
  fi
elif python3 -c 'import torch' 2>/dev/null; then
  args+=(--python python3)
fi

left=$((470 - SECONDS + began))
timeout -k 5 "$left" "${deno[@]}" run -A bench/gpu/main.ts "${args[@]}" "$@" | tee "$work/out"
tail -n 1 "$work/out" >"$here/gpu-result.json"
