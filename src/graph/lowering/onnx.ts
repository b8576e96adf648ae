/**
 * Writes ONNX models: nodes, small constants inside the model, large weights outside it (shared
 * memory that sessions take by name), inputs and outputs.
 */
import { create, toBinary } from "@bufbuild/protobuf";
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
}

/** A model under construction. Names are the caller's; "" leaves an optional input or output out. */
export class OnnxWriter {
  readonly #nodes: NodeProto[] = [];
  readonly #initializers = new Map<string, TensorProto>();
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
    { domain = "", attributes = {} }: NodeOptions = {},
  ): void {
    this.#nodes.push(create(NodeProtoSchema, {
      name: outputs.find((name) => name !== "") ?? op,
      opType: op,
      domain,
      input: [...inputs],
      output: [...outputs],
      attribute: Object.entries(attributes).map(([name, value]) => attribute(name, value)),
    }));
  }

  /** A constant inside the model; the same name is written once. */
  constant<T extends DType>(
    name: string,
    dtype: T,
    shape: readonly number[],
    data: TypedArrayOf<T>,
  ): string {
    if (!this.#initializers.has(name)) {
      const rawData = new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
      this.#initializers.set(name, tensor(name, dtype, shape, { rawData }));
    }
    return name;
  }

  /** A constant whose data the session gets by name, from memory. */
  external(name: string, dtype: DType, shape: readonly number[]): string {
    if (!this.#initializers.has(name)) {
      const location = create(StringStringEntryProtoSchema, { key: "location", value: "memory" });
      this.#initializers.set(
        name,
        tensor(name, dtype, shape, {
          dataLocation: DataLocation.EXTERNAL,
          externalData: [location],
        }),
      );
    }
    return name;
  }

  /** The serialised ModelProto. */
  finish(name: string): Uint8Array {
    const graph = create(GraphProtoSchema, {
      name,
      node: this.#nodes,
      initializer: [...this.#initializers.values()],
      input: this.#inputs,
      output: this.#outputs,
    });
    const opsetImport = OPSETS.map((set) => create(OperatorSetIdProtoSchema, set));
    const model = { irVersion: IR_VERSION, producerName: "lembas", opsetImport, graph };
    return toBinary(ModelProtoSchema, create(ModelProtoSchema, model));
  }
}

/** Data of a weight that stands outside the model. */
export interface Weight {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: TypedArray;
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
