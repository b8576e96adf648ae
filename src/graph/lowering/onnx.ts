/**
 * Writes ONNX models: nodes, small constants inside the model, large weights outside it (shared
 * memory that sessions take by name), inputs and outputs.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type AttributeProto,
  AttributeProto_AttributeType as AttributeType,
  AttributeProtoSchema,
  GraphProtoSchema,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  StringStringEntryProtoSchema,
  type TensorProto,
  TensorProto_DataLocation as DataLocation,
  TensorProto_DataType as DataType,
  TensorProtoSchema,
  TensorShapeProto_DimensionSchema,
  TensorShapeProtoSchema,
  TypeProto_TensorSchema,
  TypeProtoSchema,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from "onnx-buf";
import type { DType, TypedArray, TypedArrayOf } from "../../runtime/device.ts";
import type { Shape } from "../ops.ts";

/** The operator sets the lowerings use. */
const OPSETS = [{ domain: "", version: 21n }, { domain: "com.microsoft", version: 1n }];
const IR_VERSION = 10n;

/** ONNX Runtime's own operators (contrib ops). */
export const MICROSOFT = "com.microsoft";

const CODES: { readonly [K in DType]: DataType } = {
  float32: DataType.FLOAT,
  float16: DataType.FLOAT16,
  bfloat16: DataType.BFLOAT16,
  int64: DataType.INT64,
  int32: DataType.INT32,
  int8: DataType.INT8,
  uint8: DataType.UINT8,
  bool: DataType.BOOL,
};

/** The element type's number in ONNX, for `Cast` and its like. */
export function onnxType(dtype: DType): number {
  return CODES[dtype];
}

/** A node's attribute: whole numbers become INT(S), `{ float }` FLOAT, text STRING. */
export type Attribute = number | readonly number[] | string | { readonly float: number };

export interface NodeOptions {
  readonly domain?: string;
  readonly attributes?: Readonly<Record<string, Attribute>>;
  /** Of a MatMulNBits whose packed form is to have the blocks' offsets. */
  readonly sums?: BlockSums;
}

/** What stands in a MatMulNBits' packed form in place of `-middle · scale` of each block. */
export interface BlockSums {
  readonly bits: 4 | 8;
  readonly size: number;
  readonly outputs: number;
  readonly perRow: number;
  /** Scales [out, in/size] and offsets [in/size, out]: w = scale · (q - middle) + offset. */
  readonly make: () => Promise<{ readonly scales: Float32Array; readonly offsets: Float32Array }>;
}

/** A model under construction. Names are the caller's; "" leaves an optional input or output out. */
export class OnnxWriter {
  readonly #nodes: NodeProto[] = [];
  readonly #sums = new Map<NodeProto, BlockSums>();
  readonly #constants = new Map<string, TensorProto>();
  readonly #external = new Map<string, Pick<Weight, "dtype" | "shape">>();
  readonly #inputs: ValueInfoProto[] = [];
  readonly #outputs: ValueInfoProto[] = [];

  input(name: string, dtype: DType, shape: Shape): string {
    this.#inputs.push(valueInfo(name, dtype, shape));
    return name;
  }

  output(name: string, dtype: DType, shape: Shape): string {
    this.#outputs.push(valueInfo(name, dtype, shape));
    return name;
  }

  /** A node with one output, whose name it returns. */
  node(op: string, inputs: readonly string[], output: string, options: NodeOptions = {}): string {
    this.nodes(op, inputs, [output], options);
    return output;
  }

  /** A node with several outputs. */
  nodes(
    op: string,
    inputs: readonly string[],
    outputs: readonly string[],
    { domain = "", attributes = {}, sums }: NodeOptions = {},
  ): void {
    const node = create(NodeProtoSchema, {
      name: outputs.find((name) => name !== "") ?? op,
      opType: op,
      domain,
      input: [...inputs],
      output: [...outputs],
      attribute: Object.entries(attributes).map(([name, value]) => attribute(name, value)),
    });
    this.#nodes.push(node);
    if (sums !== undefined) this.#sums.set(node, sums);
  }

  /** A constant inside the model; the same name is written once. */
  constant<T extends DType>(
    name: string,
    dtype: T,
    shape: readonly number[],
    data: TypedArrayOf<T>,
  ): string {
    if (!this.#constants.has(name)) {
      const rawData = new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
      this.#constants.set(name, tensor(name, dtype, shape, { rawData }));
    }
    return name;
  }

  /** A constant whose data stands outside the model, where `finish` places it. */
  external(name: string, dtype: DType, shape: readonly number[]): string {
    this.#external.set(name, { dtype, shape });
    return name;
  }

  /** The serialised ModelProto. External constants without a place come from memory, by name. */
  finish(name: string, places: Places = new Map()): Uint8Array {
    const graph = create(GraphProtoSchema, {
      name,
      node: this.#nodes,
      initializer: [...this.#constants.values(), ...this.#placed(places)],
      input: this.#inputs,
      output: this.#outputs,
    });
    const opsetImport = OPSETS.map((set) => create(OperatorSetIdProtoSchema, set));
    const model = { irVersion: IR_VERSION, producerName: "lembas", opsetImport, graph };
    return toBinary(ModelProtoSchema, create(ModelProtoSchema, model));
  }

  /**
   * Each node that reads external constants and whose kernel packs them, as a model of its own over
   * the same constants: what a session of it packs, a session of the whole packs, too.
   */
  packing(): readonly PackingNode[] {
    return this.#nodes.flatMap((node) => {
      const first = PACKING_OPERATORS.get(node.opType);
      const weights = node.input.filter((input) => this.#external.has(input));
      if (first === undefined || weights.length === 0) return [];
      const model = this.#alone(node, first);
      return [{ operator: operatorOf(node), weights, model, sums: this.#sums.get(node) }];
    });
  }

  #alone(node: NodeProto, first: DType): Uint8Array {
    const writer = new OnnxWriter();
    writer.#nodes.push(node);
    node.input.forEach((name, i) => {
      const [constant, external] = [this.#constants.get(name), this.#external.get(name)];
      if (constant !== undefined) writer.#constants.set(name, constant);
      else if (external !== undefined) writer.#external.set(name, external);
      else if (name !== "") {
        writer.input(name, i === 0 ? first : "float32", [`${i}.rows`, `${i}.columns`]);
      }
    });
    for (const name of node.output) writer.output(name, "float32", ["rows", "columns"]);
    return writer.finish(node.name);
  }

  #placed(places: Places): TensorProto[] {
    const packed = new Set<string>();
    return [...this.#external].map(([name, { dtype, shape }]) => {
      const place = places.get(name) ?? { location: "memory" };
      const entries = Object.entries(place).filter(([key, value]) =>
        !key.startsWith("prepacked_") || isNew(packed, value.split("|")[0] ?? "")
      );
      return tensor(name, dtype, shape, {
        dataLocation: DataLocation.EXTERNAL,
        externalData: entries.map(([key, value]) =>
          create(StringStringEntryProtoSchema, { key, value })
        ),
      });
    });
  }
}

function operatorOf({ opType, attribute }: NodeProto): string {
  return [opType, ...attribute.map(({ name, i, f, ints }) => `${name}=${i},${f},${ints}`)].join(
    " ",
  );
}

/** ONNX Runtime refuses a packed form that it has met already: equal weights share the first's. */
function isNew(seen: Set<string>, key: string): boolean {
  return !seen.has(key) && seen.add(key).has(key);
}

/** Operators whose CPU kernels pack constant inputs, and the element type of their first input. */
const PACKING_OPERATORS: ReadonlyMap<string, DType> = new Map([
  ["MatMul", "float32"],
  ["FusedMatMul", "float32"],
  ["Gemm", "float32"],
  ["MatMulNBits", "float32"],
  ["MatMulIntegerToFloat", "uint8"],
]);

/** A node that packs weights, alone in a model. */
export interface PackingNode {
  /** What decides the packed form beside the weights. */
  readonly operator: string;
  /** Its constants, the one that it packs first. */
  readonly weights: readonly string[];
  readonly model: Uint8Array;
  readonly sums: BlockSums | undefined;
}

/** A weight that stands outside the model. */
export interface Weight {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Makes its data, newly allocated; may be called again. */
  readonly make: () => TypedArray | Promise<TypedArray>;
}

/** A weight's `external_data` (onnx.proto): location, offset, length, and ONNX Runtime's packed forms. */
export type Place = Readonly<Record<string, string>>;

/** Places of weights by name. */
export type Places = ReadonlyMap<string, Place>;

/** What an external tensor says of where it is. */
export function placesOf(model: Uint8Array): Places {
  const initializers = fromBinary(ModelProtoSchema, model).graph?.initializer ?? [];
  return new Map(
    initializers.filter(({ externalData }) => externalData.length > 0).map(
      ({ name, externalData }) => [
        name,
        Object.fromEntries(externalData.map(({ key, value }) => [key, value])),
      ],
    ),
  );
}

function tensor(
  name: string,
  dtype: DType,
  shape: readonly number[],
  rest: Partial<TensorProto>,
): TensorProto {
  return create(
    TensorProtoSchema,
    {
      name,
      dataType: CODES[dtype],
      dims: shape.map(BigInt),
      ...rest,
    } as Parameters<typeof create<typeof TensorProtoSchema>>[1],
  );
}

function valueInfo(name: string, dtype: DType, shape: Shape): ValueInfoProto {
  const dim = shape.map((size) =>
    create(TensorShapeProto_DimensionSchema, {
      value: typeof size === "number"
        ? { case: "dimValue", value: BigInt(size) }
        : { case: "dimParam", value: size },
    })
  );
  const value = create(TypeProto_TensorSchema, {
    elemType: CODES[dtype],
    shape: create(TensorShapeProtoSchema, { dim }),
  });
  const type = create(TypeProtoSchema, { value: { case: "tensorType", value } });
  return create(ValueInfoProtoSchema, { name, type });
}

function attribute(name: string, value: Attribute): AttributeProto {
  if (typeof value === "number") {
    const i = BigInt(value);
    return create(AttributeProtoSchema, { name, type: AttributeType.INT, i });
  }
  if (typeof value === "string") {
    const s = new TextEncoder().encode(value);
    return create(AttributeProtoSchema, { name, type: AttributeType.STRING, s });
  }
  if ("float" in value) {
    return create(AttributeProtoSchema, { name, type: AttributeType.FLOAT, f: value.float });
  }
  const ints = value.map(BigInt);
  return create(AttributeProtoSchema, { name, type: AttributeType.INTS, ints });
}
