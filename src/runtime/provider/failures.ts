/**
 * What a device reports when it can no longer be used. Dawn, which the WebGPU provider stands on, hands
 * out buffers without memory where there is none left, says so at their use alone, and from then on
 * refuses runs whose inputs are their outputs; a CUDA context is lost with the first kernel that fails:
 * after such a failure the process has to start again.
 */
import { DeviceFailedError } from "../../util/errors.ts";
import type { RuntimeError } from "../device.ts";

/** What ONNX Runtime's messages say, and what it means. */
const SIGNS: readonly (readonly [RegExp, string])[] = [
  [/device[^.]{0,20}lost|lost device|instance reference no longer exists/i, "it was lost"],
  [
    /CUDA (?:failure|error) (?:4|46|7\d\d|999)\b|illegal memory access|unspecified launch failure/i,
    "CUDA lost it",
  ],
  [
    /out[ _]of[ _](?:device[ _])?memory|invalid due to a previous error|WebGPU validation failed|MapAsyncStatus|Failed to allocate memory for requested buffer/i,
    "its memory ran out, or a buffer was too large for it (lower --kv-memory, --max-batch or " +
    "--lane-memory)",
  ],
];

export class DeviceFailures {
  readonly #first = Promise.withResolvers<DeviceFailedError>();

  /** Resolves with the first failure. */
  get failed(): Promise<DeviceFailedError> {
    return this.#first.promise;
  }

  /** The error as it is, or as a failure of the device where it is one. */
  explain(error: RuntimeError): Error {
    const sign = SIGNS.find(([pattern]) => pattern.test(error.message));
    return sign === undefined ? error : this.fail(sign[1], error);
  }

  /** `cause`: what the provider said, which is for those who mend it. */
  fail(why: string, cause?: RuntimeError): DeviceFailedError {
    const failure = new DeviceFailedError(`The graphics device failed: ${why}`, { cause });
    this.#first.resolve(failure);
    return failure;
  }
}
