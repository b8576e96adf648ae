/** The sign-in page: a key opens a session, signing out ends it. */
import type { JSX } from "hono/jsx/jsx-runtime";
import type { AppContext } from "../../context.ts";
import { ApiError } from "../../errors.ts";
import type { Principal } from "../../access/access.ts";
import type { ConsoleApp, Desk } from "../desk.ts";
import { Page } from "../parts.tsx";

export type KeyReader = (authorization: string) => Promise<Principal>;

export function registerSignIn(app: ConsoleApp, desk: Desk, principalOf: KeyReader): void {
  app.get("/sign-in", async (c) => {
    if (await desk.gate.principal(c) !== undefined) return c.redirect("/console", 303);
    return c.html(<Door desk={desk} c={c} problem={undefined} />);
  });
  app.post("/sign-in", async (c) => {
    const key = String((await c.req.formData()).get("key") ?? "").trim();
    try {
      desk.gate.open(c, await principalOf(`Bearer ${key}`));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const problem = key === "" || error.status === 401 ? "This key is not good." : error.message;
      return c.html(<Door desk={desk} c={c} problem={problem} />, error.status);
    }
    return c.redirect("/console", 303);
  });
}

/** Registered behind the gate: signing out needs a session. */
export function registerSignOut(app: ConsoleApp, desk: Desk): void {
  app.post("/sign-out", async (c) => {
    await desk.gate.form(c);
    desk.gate.close(c);
    return c.redirect("/console/sign-in", 303);
  });
}

interface DoorOptions {
  readonly desk: Desk;
  readonly c: AppContext;
  readonly problem: string | undefined;
}

function Door({ desk, c, problem }: DoorOptions) {
  return (
    <Page frame={desk.frame(c)} title="Sign in">
      <div class="card narrow">
        <h1>Sign in</h1>
        <p class="lead">With an API key of this server. Administrators' keys see every tenant.</p>
        {problem !== undefined && <p class="problem" role="alert">{problem}</p>}
        <form method="post" action="/console/sign-in">
          <div class="field">
            <label for="field-key">API key</label>
            <input
              id="field-key"
              name="key"
              type="password"
              autocomplete="current-password"
              required
              autofocus
              spellcheck={false}
            />
          </div>
          <button type="submit">Sign in</button>
        </form>
      </div>
    </Page>
  );
}

/** What went wrong, as a page. */
export function Problem({ desk, c, problem }: DoorOptions): JSX.Element {
  return (
    <Page frame={desk.frame(c)} title="Problem">
      <div class="head">
        <h1>That did not work</h1>
      </div>
      <p class="problem" role="alert">{problem}</p>
      <p>
        <a href="/console">To the overview</a>
      </p>
    </Page>
  );
}
