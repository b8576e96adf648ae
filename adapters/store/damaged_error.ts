/** That content is not what was stored: whoever owns it sets it aside. */
export class DamagedError extends TypeError {
  override readonly name = "DamagedError";
}
