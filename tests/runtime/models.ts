/**
 * Tiny ONNX models for the runtime's tests, written straight as protobuf messages so that these
 * tests stand on nothing but the runtime.
 */

import { create, toBinary } from "@bufbuild/protobuf";
import {
  type AttributeProto,
  AttributeProto_AttributeType,
  AttributeProtoSchema,
  type GraphProto,
  GraphProtoSchema,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  StringStringEntryProtoSchema,
  type TensorProto,
  TensorProto_DataLocation,
  TensorProtoSchema,
  TensorShapeProto_DimensionSchema,
  TensorShapeProtoSchema,
  TypeProto_TensorSchema,
  TypeProtoSchema,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from "onnx-buf";
import type { DType } from "../../src/runtime/device.ts";

const ELEMENT: Readonly<Record<DType | "double", number>> = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  bfloat16: 16,
  double: 11,
};

/** A dimension: a size, or the name of a dynamic one. */
export type Dim = number | string;

/** A graph's input or output. */
export function value(
  name: string,
  dtype: DType | "double",
  shape: readonly Dim[],
): ValueInfoProto {
  const dim = shape.map((size) =>
    create(TensorShapeProto_DimensionSchema, {
      value: typeof size === "number"
        ? { case: "dimValue", value: BigInt(size) }
        : { case: "dimParam", value: size },
    })
  );
  const tensor = create(TypeProto_TensorSchema, {
    elemType: ELEMENT[dtype],
    shape: create(TensorShapeProtoSchema, { dim }),
  });
  const type = create(TypeProtoSchema, { value: { case: "tensorType", value: tensor } });
  return create(ValueInfoProtoSchema, { name, type });
}

/** A node; its domain is ONNX's own unless `domain` says otherwise. */
export function node(
  opType: string,
  input: string[],
  output: string[],
  attribute: AttributeProto[] = [],
  domain = "",
): NodeProto {
  return create(NodeProtoSchema, {
    name: output[0] ?? opType,
    opType,
    input,
    output,
    attribute,
    domain,
  });
}

export function intAttribute(name: string, i: number): AttributeProto {
  const type = AttributeProto_AttributeType.INT;
  return create(AttributeProtoSchema, { name, type, i: BigInt(i) });
}

export function graphAttribute(name: string, g: GraphProto): AttributeProto {
  return create(AttributeProtoSchema, { name, type: AttributeProto_AttributeType.GRAPH, g });
}

/** An initializer whose bytes the session is given from outside. */
export function externalWeight(name: string, dtype: DType, shape: readonly number[]): TensorProto {
  const entry = (key: string, value: string) =>
    create(StringStringEntryProtoSchema, { key, value });
  return create(TensorProtoSchema, {
    name,
    dataType: ELEMENT[dtype],
    dims: shape.map(BigInt),
    dataLocation: TensorProto_DataLocation.EXTERNAL,
    externalData: [entry("location", "memory")],
  });
}

/** An initializer inside the model. */
export function inlineWeight(
  name: string,
  dtype: DType,
  shape: readonly number[],
  rawData: Uint8Array<ArrayBuffer>,
): TensorProto {
  return create(TensorProtoSchema, {
    name,
    dataType: ELEMENT[dtype],
    dims: shape.map(BigInt),
    rawData,
  });
}

export interface GraphParts {
  readonly nodes: NodeProto[];
  readonly inputs: ValueInfoProto[];
  readonly outputs: ValueInfoProto[];
  readonly weights?: TensorProto[];
}

export function graph({ nodes, inputs, outputs, weights = [] }: GraphParts): GraphProto {
  return create(GraphProtoSchema, {
    name: "g",
    node: nodes,
    input: inputs,
    output: outputs,
    initializer: weights,
  });
}

/** A serialised model. */
export function model(parts: GraphParts): Uint8Array {
  const opset = (domain: string, version: number) =>
    create(OperatorSetIdProtoSchema, { domain, version: BigInt(version) });
  return toBinary(
    ModelProtoSchema,
    create(ModelProtoSchema, {
      irVersion: 10n,
      opsetImport: [opset("", 21), opset("com.microsoft", 1)],
      graph: graph(parts),
    }),
  );
}

/** `y = x`, elementwise over a dynamic length. */
export function identityModel(dtype: DType): Uint8Array {
  return model({
    nodes: [node("Identity", ["x"], ["y"])],
    inputs: [value("x", dtype, ["n"])],
    outputs: [value("y", dtype, ["n"])],
  });
}

/** `y = x + x`. */
export function doublingModel(dtype: DType): Uint8Array {
  return model({
    nodes: [node("Add", ["x", "x"], ["y"])],
    inputs: [value("x", dtype, ["n"])],
    outputs: [value("y", dtype, ["n"])],
  });
}

/** `y = x · w` with an external weight `w` of shape [rows, columns]. */
export function linearModel(rows: number, columns: number, w = "w"): Uint8Array {
  return model({
    nodes: [node("MatMul", ["x", w], ["y"])],
    inputs: [value("x", "float32", ["n", rows])],
    outputs: [value("y", "float32", ["n", columns])],
    weights: [externalWeight(w, "float32", [rows, columns])],
  });
}

/** Adds 1 to `x` `count` times in a Loop: as long a run as wanted, with no memory to speak of. */
export function countingModel(): Uint8Array {
  const one = inlineWeight("one", "float32", [], new Uint8Array(new Float32Array([1]).buffer));
  const body = graph({
    nodes: [node("Identity", ["go"], ["again"]), node("Add", ["sum", "one"], ["next"])],
    inputs: [value("i", "int64", []), value("go", "bool", []), value("sum", "float32", ["n"])],
    outputs: [value("again", "bool", []), value("next", "float32", ["n"])],
  });
  return model({
    nodes: [node("Loop", ["count", "", "x"], ["y"], [graphAttribute("body", body)])],
    inputs: [value("count", "int64", []), value("x", "float32", ["n"])],
    outputs: [value("y", "float32", ["n"])],
    weights: [one],
  });
}
