"""Rewrites a GGUF file's linears in another block format, so that llama.cpp can be measured with its
fastest kernels on the very weights that lembas serves. Development only: needs the `gguf` package.

Every 2-D weight of the blocks is dequantised and quantised anew; norms stay float32; the embedding
(tied to the output) becomes Q8_0, as llama-quantize has it where rows are no multiple of 256, or
what --embedding says. Metadata, tokenizer included, is copied.

    python requantise.py model.gguf out.gguf --type Q4_0
"""

import argparse
import sys

try:
    import gguf
except ModuleNotFoundError:
    sys.exit("its Python has no package gguf (pip install gguf); --types shipped needs none")

FILE_TYPES = {
    "Q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
    "Q4_1": gguf.LlamaFileType.MOSTLY_Q4_1,
    "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}
COUNTED = {"GGUF.version", "GGUF.tensor_count", "GGUF.kv_count"}
REPLACED = {"general.architecture", "general.file_type"}


def copy_metadata(reader, writer, file_type):
    """Copies every key but those the writer makes itself."""
    for name, field in reader.fields.items():
        if name in COUNTED or name in REPLACED:
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, sub_type=inner)
    writer.add_file_type(FILE_TYPES[file_type])


def target(tensor, linear, embedding):
    """The block format a tensor gets: float32 for vectors, `embedding` for the tables."""
    if len(tensor.shape) < 2:
        return gguf.GGMLQuantizationType.F32
    table = tensor.name in ("token_embd.weight", "output.weight")
    return gguf.GGMLQuantizationType[embedding if table else linear]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("destination")
    parser.add_argument("--type", choices=sorted(FILE_TYPES), default="Q4_0")
    parser.add_argument("--embedding", choices=sorted(FILE_TYPES), default="Q8_0")
    args = parser.parse_args()

    reader = gguf.GGUFReader(args.source)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(args.destination, architecture)
    copy_metadata(reader, writer, args.type)
    for tensor in reader.tensors:
        kind = target(tensor, args.type, args.embedding)
        data = tensor.data
        if kind != tensor.tensor_type:
            data = gguf.quants.quantize(gguf.quants.dequantize(data, tensor.tensor_type), kind)
        writer.add_tensor(tensor.name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file(progress=False)
    writer.close()
    print(f"wrote {args.destination}: linears {args.type}, embedding {args.embedding}")


if __name__ == "__main__":
    main()
