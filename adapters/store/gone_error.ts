/** That what is asked for, or what it would belong to, is not there, or not any more. */

export class GoneError extends RangeError {
  override readonly name = "GoneError";
}
