/**
 * The graphs that CUDA is to serve, without a GPU: every node has a kernel of the provider's for its
 * types, by the table that was read from the provider's library. With `LEMBAS_TEST_LONG` the table is
 * read again where `deno task setup:cuda` has fetched the library.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { type GraphProto, ModelProtoSchema, type NodeProto, TensorProto_DataType } from "onnx-buf";
import onnxruntime from "onnxruntime-node/package.json" with { type: "json" };
import { openCheckpoint } from "../../../src/checkpoint/open.ts";
import { rowGraph } from "../../../src/executor/device/row_graphs.ts";
import { buildDeviceGraph, type DeviceGraph } from "../../../src/executor/device/sampler_graphs.ts";
import { devicePlan, type ServingDtype } from "../../../src/executor/plan/serving_plan.ts";
import { lower, type LoweringPlan } from "../../../src/graph/lowering/lowering.ts";
import { buildDecoder } from "../../../src/models/decoder.ts";
import { MODULES } from "../../../src/models/hook.ts";
import { DecoderParameters } from "../../../src/models/parameters.ts";
import { cudaFolder } from "../../../src/runtime/cuda/layout.ts";
import type { FloatType } from "../../../src/util/floats.ts";
import { factorsOf } from "../../engine/tiny.ts";
import table from "../../fixtures/runtime/cuda_kernels.json" with { type: "json" };
import { LONG } from "../../long.ts";
import { FIXTURES, pathOf } from "../../models/webgpu/compare.ts";
import { isFile, needing } from "../../programs/needing.ts";
import { type KernelTable, readKernels } from "./kernels.ts";

const KERNELS: KernelTable = table.kernels;
const LIBRARY = `${cudaFolder(onnxruntime.version)}/libonnxruntime_providers_cuda.so`;

/** The library's names of element types. */
const NAMES: Readonly<Record<number, string>> = {
  [TensorProto_DataType.FLOAT]: "float",
  [TensorProto_DataType.FLOAT16]: "MLFloat16",
  [TensorProto_DataType.BFLOAT16]: "BFloat16",
  [TensorProto_DataType.UINT8]: "uint8",
  [TensorProto_DataType.INT8]: "int8",
  [TensorProto_DataType.INT32]: "int32",
  [TensorProto_DataType.INT64]: "int64",
};

/** A node's class, template arguments and outputs' type. */
interface Wanted {
  readonly kernel: string;
  readonly types: readonly string[];
  readonly out: string;
}

/** By a node's inputs' types; an operator that is not here is computed by a class of its name and type. */
const OPERATORS: Readonly<Record<string, (types: readonly string[], node: NodeProto) => Wanted>> = {
  Concat: ([first]) => ({ kernel: "Concat", types: [], out: first }),
  Reshape: ([first]) => ({ kernel: "Reshape", types: [], out: first }),
  Gather: ([first]) => ({ kernel: "Gather", types: [], out: first }),
  Split: ([first]) => ({ kernel: "Split_18", types: [], out: first }),
  Slice: ([first]) => ({ kernel: "Slice", types: ["true"], out: first }),
  GatherBlockQuantized: ([data, ids, scales]) => ({
    kernel: "GatherBlockQuantized",
    types: [data, scales, ids],
    out: scales,
  }),
  GroupQueryAttention: ([qkv, , , keys]) => ({
    kernel: "GroupQueryAttention",
    types: [qkv, keys],
    out: qkv,
  }),
  SimplifiedLayerNormalization: ([x, gamma]) => ({
    kernel: "LayerNorm",
    types: [x, "float", gamma, "true"],
    out: x,
  }),
  SkipSimplifiedLayerNormalization: ([x]) => ({
    kernel: "SkipLayerNorm",
    types: [x, "true"],
    out: x,
  }),
  ArgMax: ([first]) => ({ kernel: "ArgMax", types: [first], out: "int64" }),
  CumSum: ([first]) => ({ kernel: "CumSum", types: [], out: first }),
  Equal: ([first]) => ({ kernel: "Equal", types: [first], out: "bool" }),
  LessOrEqual: ([first]) => ({ kernel: "LessOrEqual", types: [first], out: "bool" }),
  ScatterND: ([first]) => ({ kernel: "ScatterNDWithAtomicReduction", types: [], out: first }),
  // the number of the largest is an input
  TopK: ([first]) => ({ kernel: "TopK", types: ["true"], out: first }),
  Where: ([, first]) => ({ kernel: "Where", types: [first], out: first }),
  Cast: ([from], { attribute }) => {
    const to = NAMES[Number(attribute.find(({ name }) => name === "to")?.i)];
    return { kernel: "Cast", types: [from], out: to };
  },
};

/** Inputs that must be of the first one's type, as well as the first. */
const ALIKE: ReadonlySet<string> = new Set([
  ...[
    "Add",
    "Sub",
    "Min",
    "Max",
    "Mul",
    "LessOrEqual",
    "Equal",
    "MatMul",
    "Gemm",
    "Concat",
    "GroupQueryAttention",
  ],
  "SkipSimplifiedLayerNormalization",
]);
const COUNTS: ReadonlySet<string> = new Set(["int32", "int64"]);

/** What is wrong with a graph's nodes for CUDA, a line each. */
function lacks(graph: GraphProto): readonly string[] {
  const types = typesGiven(graph);
  return graph.node.flatMap((node) => {
    const given = node.input.map((name) => name === "" ? "" : types.get(name) ?? "unknown");
    const simple = { kernel: node.opType, types: [given[0]], out: given[0] };
    const wanted = OPERATORS[node.opType]?.(given, node) ?? simple;
    for (const name of node.output) types.set(name, wanted.out);
    if (node.opType === "TopK") types.set(node.output[1], "int64");
    const mixed = ALIKE.has(node.opType) &&
      given.some((type) => type !== "" && type !== given[0] && !COUNTS.has(type));
    const known = KERNELS[wanted.kernel]?.includes(wanted.types.join(" ")) ?? false;
    return known && !mixed ? [] : [`${node.opType} of ${given.join(", ")}`];
  });
}

function typesGiven(graph: GraphProto): Map<string, string> {
  const types = new Map<string, string>();
  for (const { name, dataType } of graph.initializer) types.set(name, NAMES[dataType]);
  for (const { name, type } of graph.input) {
    if (type?.value.case === "tensorType") types.set(name, NAMES[type.value.value.elemType]);
  }
  return types;
}

async function graphOf(name: string, plan: LoweringPlan): Promise<GraphProto> {
  using checkpoint = await openCheckpoint(pathOf(name));
  const hook = factorsOf(checkpoint, await checkpoint.digest(), { rank: 8, modules: MODULES });
  const parameters = new DecoderParameters(checkpoint, 32, { hook });
  const lowered = lower(buildDecoder(checkpoint.config, 32, { hook }), parameters, plan);
  return graphIn(lowered.model());
}

function graphIn(model: Uint8Array): GraphProto {
  const { graph } = fromBinary(ModelProtoSchema, model);
  assert(graph !== undefined);
  return graph;
}

const DTYPES: readonly ServingDtype[] = ["fp16", "int8", "int4", "file"];
const FLOATS: readonly FloatType[] = ["float16", "bfloat16"];

Deno.test("the table is of the ONNX Runtime that serves", () => {
  assertEquals(table.onnxruntime, onnxruntime.version);
});

for (const name of [...FIXTURES, "llama.gguf"]) {
  Deno.test(`${name}: CUDA has a kernel for every node, whatever the weights and activations`, async () => {
    for (const dtype of DTYPES) {
      for (const floats of FLOATS) {
        const graph = await graphOf(name, devicePlan("cuda", { dtype }, floats));
        assertEquals(lacks(graph), [], `${dtype} in ${floats}`);
      }
    }
  });
}

Deno.test("CUDA has a kernel for every node that draws tokens and moves keys and values", () => {
  const vocabSize = 1000;
  const drawing: readonly DeviceGraph[] = [
    ...[{ kind: "best" }, { kind: "drawn", vocabSize }, { kind: "fed", vocabSize }] as const,
    ...[{ kind: "most", vocabSize, count: 256 }, { kind: "rows" }] as const,
  ];
  for (const graph of drawing) {
    assertEquals(lacks(graphIn(buildDeviceGraph(graph))), [], graph.kind);
  }
  const shape = { layers: 2, slots: 4, kvHeads: 2, capacity: 33, headDim: 16 };
  for (const dtype of FLOATS) {
    for (const kind of ["take", "place", "save", "load"] as const) {
      assertEquals(lacks(graphIn(rowGraph(kind, { ...shape, dtype }))), [], `${kind} in ${dtype}`);
    }
  }
});

Deno.test("nodes are told that CUDA has no kernel for: attention in float32, rounded embeddings", async () => {
  const webgpu = await graphOf("qwen3", devicePlan("webgpu", { dtype: "fp32" }, "float32"));
  const [attention, ...others] = new Set(lacks(webgpu));
  assertMatch(attention, /^GroupQueryAttention of float, /);
  assertEquals(others, []);
  const plain = devicePlan("cpu", { dtype: "fp32" }, "float32");
  const cpu = await graphOf("qwen3", { ...plain, embedding: "int8" });
  assertEquals(lacks(cpu)[0], "DequantizeLinear of int8, float");
});

Deno.test("float32 on CUDA is refused by the name of what lacks it", async () => {
  using checkpoint = await openCheckpoint(pathOf("qwen3"));
  const parameters = new DecoderParameters(checkpoint, 8);
  const graph = buildDecoder(checkpoint.config, 8);
  const plan = devicePlan("cuda", { dtype: "fp32" }, "float32");
  assertThrows(() => lower(graph, parameters, plan), RangeError, "attention takes float16");
});

Deno.test({
  ...needing(
    "the provider's library still has the kernels of the table",
    !LONG
      ? "LEMBAS_TEST_LONG is not set"
      : isFile(LIBRARY)
      ? undefined
      : "deno task setup:cuda was not run",
    "LEMBAS_TEST_CUDA",
  ),
  fn: async () => assertEquals(await readKernels(LIBRARY), KERNELS),
});
