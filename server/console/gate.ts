/**
 * Who comes into the console: checks the session's cookie, and the token in each form that shows
 * it was made for this session. (Requests of other sites are refused before, in `sites.ts`.)
 */
import type { Next } from "hono";
import { deleteCookie, getCookie, setCookie } from "hono/cookie";
import type { AppContext } from "../context.ts";
import { ApiError } from "../errors.ts";
import { administrator, type Principal } from "../access/access.ts";
import { SESSION_SECONDS, type Sessions } from "./session.ts";

const COOKIE = "lembas_console";

export interface GateOptions {
  /** In open mode everyone is the administrator. */
  readonly mode: "open" | "keys";
  readonly sessions: Sessions;
}

export class Gate {
  readonly mode: GateOptions["mode"];
  readonly #sessions: Sessions;

  constructor({ mode, sessions }: GateOptions) {
    this.mode = mode;
    this.#sessions = sessions;
  }

  /** Middleware of pages that need a session: without one it redirects to the sign-in page. */
  async enter(c: AppContext, next: Next): Promise<Response | void> {
    const principal = await this.principal(c);
    if (principal === undefined) return c.redirect("/console/sign-in", 303);
    c.set("principal", principal);
    await next();
  }

  /** Whose session it is. */
  async principal(c: AppContext): Promise<Principal | undefined> {
    if (this.mode === "open") return administrator();
    const token = getCookie(c, COOKIE);
    return token === undefined ? undefined : await this.#sessions.principal(token);
  }

  /** Sets the session's cookie, hidden from scripts and other sites. */
  open(c: AppContext, principal: Principal): void {
    setCookie(c, COOKIE, this.#sessions.open(principal), {
      path: "/console",
      httpOnly: true,
      sameSite: "Strict",
      secure: c.req.header("x-forwarded-proto") === "https",
      maxAge: SESSION_SECONDS,
    });
  }

  close(c: AppContext): void {
    deleteCookie(c, COOKIE, { path: "/console" });
  }

  /** The token that this visitor's forms carry. */
  formToken(c: AppContext): string {
    return this.#sessions.formToken(getCookie(c, COOKIE) ?? "");
  }

  /**
   * A form's fields.
   * @throws {ApiError} 403 where it was not made for this session
   */
  async form(c: AppContext): Promise<FormData> {
    const form = await c.req.formData();
    const given = String(form.get("form_token") ?? "");
    if (this.#sessions.isForm(getCookie(c, COOKIE) ?? "", given)) return form;
    throw new ApiError(403, "This form is not of your session. Load the page again.", {
      code: "foreign_form",
    });
  }
}
