/**
 * Renders a template's statements. Scopes are Jinja's: a loop's turn, a macro and a block of text
 * have their own, an `if` has none, and what a turn sets is gone in the next.
 */

import { applyFilter, evaluate, evaluateArguments, Scope } from "./evaluate.ts";
import type { Macro, Statement, Target } from "./nodes.ts";
import { str } from "./python/show.ts";
import {
  Callable,
  equal,
  iterate,
  type Named,
  Namespace,
  orElse,
  truth,
  tuple,
  typeName,
  Undefined,
  type Value,
} from "./python/values.ts";

/** How a body ended: through, or by a `break` or `continue` that its loop has to heed. */
type End = "through" | "break" | "continue";

/** @throws {TypeError | RangeError} where Python or Jinja would raise */
export function render(body: readonly Statement[], scope: Scope): string {
  const out: string[] = [];
  run(body, scope, out);
  return out.join("");
}

function run(body: readonly Statement[], scope: Scope, out: string[]): End {
  for (const statement of body) {
    const end = step(statement, scope, out);
    if (end !== "through") return end;
  }
  return "through";
}

function step(node: Statement, scope: Scope, out: string[]): End {
  switch (node.kind) {
    case "text":
      out.push(node.text);
      return "through";
    case "output":
      out.push(str(evaluate(node.value, scope)));
      return "through";
    case "if":
      return run(truth(evaluate(node.test, scope)) ? node.body : node.otherwise, scope, out);
    case "for":
      return loop(node, scope, out);
    case "set":
      assign(node.target, evaluate(node.value, scope), scope);
      return "through";
    case "set block": {
      const text = render(node.body, new Scope(scope));
      assign(node.target, filtered(text, node.filters, scope), scope);
      return "through";
    }
    case "with": {
      const inner = new Scope(scope);
      for (const [target, value] of node.values) assign(target, evaluate(value, scope), inner);
      return run(node.body, inner, out);
    }
    case "filter block":
      out.push(str(filtered(render(node.body, new Scope(scope)), node.filters, scope)));
      return "through";
    case "macro":
      scope.set(node.name, macro(node.name, node, scope));
      return "through";
    case "call block":
      out.push(str(callBlock(node, scope)));
      return "through";
    case "break":
    case "continue":
      return node.kind;
  }
}

function filtered(
  text: string,
  filters: (Statement & { kind: "filter block" })["filters"],
  scope: Scope,
): Value {
  return filters.reduce((value: Value, filter) => applyFilter(value, filter, scope), text);
}

function loop(node: Statement & { kind: "for" }, scope: Scope, out: string[]): End {
  const all = iterate(evaluate(node.items, scope));
  const { test } = node;
  const items = test === undefined ? all : all.filter((item) => {
    const inner = new Scope(scope);
    assign(node.target, item, inner);
    return truth(evaluate(test, inner));
  });
  if (items.length === 0) return run(node.otherwise, new Scope(scope), out);
  const state = new LoopState(items);
  for (const [i, item] of items.entries()) {
    const turn = new Scope(scope);
    turn.set("loop", state.at(i));
    assign(node.target, item, turn);
    if (run(node.body, turn, out) === "break") break;
  }
  return "through";
}

/** What `loop` is within a loop. */
class LoopState {
  readonly #items: readonly Value[];
  #last: readonly Value[] | undefined;

  constructor(items: readonly Value[]) {
    this.#items = items;
  }

  at(i: number): Namespace {
    const { length } = this.#items;
    const state = new Namespace();
    const values: Readonly<Record<string, Value>> = {
      index: BigInt(i + 1),
      index0: BigInt(i),
      revindex: BigInt(length - i),
      revindex0: BigInt(length - i - 1),
      first: i === 0,
      last: i === length - 1,
      length: BigInt(length),
      depth: 1n,
      depth0: 0n,
      previtem: orElse(this.#items[i - 1], new Undefined("there is no previous item")),
      nextitem: orElse(this.#items[i + 1], new Undefined("there is no next item")),
      cycle: new Callable("cycle", (args) => args[i % args.length] ?? null),
      changed: new Callable("changed", (args) => this.#changed(args)),
    };
    for (const [name, value] of Object.entries(values)) state.values.set(name, value);
    return state;
  }

  #changed(args: readonly Value[]): boolean {
    const same = this.#last !== undefined && equal([...this.#last], [...args]);
    this.#last = args;
    return !same;
  }
}

function assign(target: Target, value: Value, scope: Scope): void {
  switch (target.kind) {
    case "name":
      return scope.set(target.name, value);
    case "member": {
      const of = scope.get(target.of);
      if (!(of instanceof Namespace)) {
        throw new TypeError("cannot assign attribute on non-namespace object");
      }
      return void of.values.set(target.name, value);
    }
    case "targets": {
      const items = iterate(value);
      const wanted = target.targets.length;
      if (items.length !== wanted) {
        throw new RangeError(
          items.length < wanted
            ? `not enough values to unpack (expected ${wanted}, got ${items.length})`
            : `too many values to unpack (expected ${wanted})`,
        );
      }
      target.targets.forEach((one, i) => assign(one, items[i] ?? null, scope));
    }
  }
}

function macro(name: string, node: Macro, scope: Scope): Callable {
  const takesMore = mentions(node.body, "varargs");
  const takesNamed = mentions(node.body, "kwargs");
  return new Callable(name, (args, named) => {
    const inner = new Scope(scope);
    const rest = bindParameters(name, node, args, named, inner);
    if (takesMore) inner.set("varargs", tuple(...args.slice(node.parameters.length)));
    else if (args.length > node.parameters.length) {
      throw new TypeError(
        `macro '${name}' takes not more than ${node.parameters.length} argument(s)`,
      );
    }
    const [unknown] = rest.keys();
    if (takesNamed) inner.set("kwargs", new Map(rest));
    else if (unknown !== undefined) {
      throw new TypeError(`macro '${name}' takes no keyword argument '${unknown}'`);
    }
    return render(node.body, inner);
  });
}

/** Sets a macro's parameters. @returns named arguments that are no parameters */
function bindParameters(
  name: string,
  { parameters, defaults }: Macro,
  args: readonly Value[],
  named: Named,
  scope: Scope,
): Named {
  const rest = new Map(named);
  const caller = rest.get("caller");
  if (caller !== undefined) scope.set("caller", caller);
  rest.delete("caller");
  const first = parameters.length - defaults.length;
  for (const [i, parameter] of parameters.entries()) {
    if (i < args.length && rest.has(parameter)) {
      throw new TypeError(`macro '${name}' got multiple values for argument '${parameter}'`);
    }
    const given = i < args.length ? args[i] : rest.get(parameter);
    rest.delete(parameter);
    const otherwise = defaults[i - first];
    if (given !== undefined) scope.set(parameter, given);
    else if (otherwise !== undefined) scope.set(parameter, evaluate(otherwise, scope));
    else scope.set(parameter, new Undefined(`parameter '${parameter}' was not provided`));
  }
  return rest;
}

function callBlock(node: Statement & { kind: "call block" }, scope: Scope): Value {
  const { call } = node;
  if (call.kind !== "call") throw new TypeError("internal: a call block without a call");
  const callee = evaluate(call.callee, scope);
  if (!(callee instanceof Callable)) {
    throw new TypeError(
      callee instanceof Undefined ? callee.hint : `'${typeName(callee)}' object is not callable`,
    );
  }
  const { args, named } = evaluateArguments(call.args, scope);
  return callee.call(args, new Map([...named, ["caller", macro("caller", node, scope)]]));
}

/** Whether a name is read anywhere in a body. */
function mentions(node: unknown, name: string): boolean {
  if (typeof node !== "object" || node === null) return false;
  if (Reflect.get(node, "kind") === "name" && Reflect.get(node, "name") === name) return true;
  return Object.values(node).some((part) => mentions(part, name));
}
