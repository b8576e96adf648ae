/** Models that the writer makes: read back as ONNX messages, and run. */
import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { fromBinary } from "@bufbuild/protobuf";
import {
  AttributeProto_AttributeType as AttributeType,
  ModelProtoSchema,
  TensorProto_DataLocation as DataLocation,
  TensorProto_DataType as DataType,
} from "onnx-buf";
import { MICROSOFT, onnxType, OnnxWriter } from "../../../src/graph/lowering/onnx.ts";
import { DEVICE } from "../device.ts";

/** `y = (x + 1) · w`, w outside the model; also puts out x's two halves. */
function sample(): OnnxWriter {
  const writer = new OnnxWriter();
  writer.input("x", "float32", ["rows", 2]);
  const one = writer.constant("one", "float32", [], Float32Array.of(1));
  writer.node("Add", ["x", one], "sum");
  writer.node("MatMul", ["sum", writer.external("w", "float32", [2, 3])], "y");
  writer.nodes("Split", ["x"], ["left", "right"], { attributes: { axis: 1, "num_outputs": 2 } });
  writer.output("y", "float32", ["rows", 3]);
  writer.output("right", "float32", ["rows", 1]);
  return writer;
}

function parsed(writer: OnnxWriter) {
  const model = fromBinary(ModelProtoSchema, writer.finish("sample"));
  if (model.graph === undefined) throw new Error("the model has no graph");
  return { model, graph: model.graph };
}

Deno.test("a model names its operator sets, inputs, outputs and nodes", () => {
  const { model, graph } = parsed(sample());
  assertEquals(model.opsetImport.map(({ domain }) => domain), ["", MICROSOFT]);
  assertEquals(graph.node.map(({ opType }) => opType), ["Add", "MatMul", "Split"]);
  assertEquals(graph.node[2].output, ["left", "right"]);
  assertEquals(graph.input.map(({ name }) => name), ["x"]);
  assertEquals(graph.output.map(({ name }) => name), ["y", "right"]);
  const type = graph.input[0].type?.value;
  assertEquals(type?.case, "tensorType");
  if (type?.case !== "tensorType") return;
  const dims = type.value.shape?.dim.map(({ value }) => value.value);
  assertEquals(dims, ["rows", 2n]);
  assertEquals(type.value.elemType, DataType.FLOAT);
});

Deno.test("a constant lies inside the model, a weight outside, each once", () => {
  const writer = sample();
  writer.constant("one", "float32", [], Float32Array.of(1));
  writer.external("w", "float32", [2, 3]);
  const [one, w, ...rest] = parsed(writer).graph.initializer;
  assertEquals(rest, []);
  assertEquals(new Float32Array(one.rawData.slice().buffer), Float32Array.of(1));
  assertEquals([w.name, w.dims], ["w", [2n, 3n]]);
  assertEquals([w.dataLocation, w.rawData.length], [DataLocation.EXTERNAL, 0]);
  assertEquals(w.externalData.map(({ key }) => key), ["location"]);
});

Deno.test("a constant is its part of a larger buffer", () => {
  const writer = new OnnxWriter();
  const numbers = Int32Array.of(1, 2, 3, 4).subarray(1, 3);
  writer.constant("some", "int32", [2], numbers);
  const [some] = parsed(writer).graph.initializer;
  assertEquals(new Int32Array(some.rawData.slice().buffer), Int32Array.of(2, 3));
});

Deno.test("attributes have the type of their value", () => {
  const writer = new OnnxWriter();
  const attributes = { whole: 3, real: { float: 0.5 }, list: [1, 2], text: "none" };
  writer.node("Anything", ["", "a"], "out", { domain: MICROSOFT, attributes });
  const [node] = parsed(writer).graph.node;
  assertEquals([node.domain, node.input], [MICROSOFT, ["", "a"]]);
  const [whole, real, list, text] = node.attribute;
  assertEquals([whole.type, whole.i], [AttributeType.INT, 3n]);
  assertEquals([real.type, real.f], [AttributeType.FLOAT, 0.5]);
  assertEquals([list.type, list.ints], [AttributeType.INTS, [1n, 2n]]);
  assertEquals([text.type, new TextDecoder().decode(text.s)], [AttributeType.STRING, "none"]);
});

Deno.test("each element type has ONNX's number", () => {
  const numbers = (["float32", "uint8", "int8", "int32", "int64", "bool", "float16"] as const)
    .map(onnxType);
  assertEquals(numbers, [1, 2, 3, 6, 7, 9, 10]);
});

Deno.test("a written model runs, with its weight taken from memory", async () => {
  const device = DEVICE;
  const w = device.tensor("float32", [2, 3], Float32Array.of(1, 2, 3, 4, 5, 6));
  using session = await device.session(sample().finish("sample"), { initializers: { w } });
  const x = device.tensor("float32", [2, 2], Float32Array.of(0, 1, 2, 3));
  const [y, right] = [device.tensor("float32", [2, 3]), device.tensor("float32", [2, 1])];
  using binding = session.bind({ x }, { y, right });
  await binding.run();
  assertEquals(y.data, Float32Array.of(9, 12, 15, 19, 26, 33));
  assertEquals(right.data, Float32Array.of(1, 3));
});

Deno.test("a model whose weight is not given does not load", async () => {
  const device = DEVICE;
  const { message } = await assertRejects(
    () => device.session(sample().finish("sample")),
    Error,
  );
  assertStringIncludes(message, "w");
});
