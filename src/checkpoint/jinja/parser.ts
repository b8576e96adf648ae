/** Reads a chat template: text, expressions and the statements that transformers' Jinja knows. */

import { readExpression, readFilter, readOr, readTarget, readTuple } from "./expressions.ts";
import type { Expression, FilterCall, Macro, Statement, Target } from "./nodes.ts";
import { TokenStream } from "./token_stream.ts";

/** @throws {SyntaxError} saying what was not understood */
export function parseTemplate(source: string): readonly Statement[] {
  const tokens = new TokenStream(source);
  const body = readBody(tokens);
  if (!tokens.done) throw new SyntaxError(`unexpected statement '${nameOfNext(tokens)}'`);
  return body;
}

/** Statements up to one of these names, which is left to be read. */
function readBody(tokens: TokenStream, ...ends: readonly string[]): readonly Statement[] {
  const body: Statement[] = [];
  while (!tokens.done && !tokens.isStatement(...ends)) {
    const text = tokens.take("Text");
    if (text !== undefined) body.push({ kind: "text", text });
    else if (tokens.take("Comment") !== undefined) continue;
    else if (tokens.take("OpenExpression") !== undefined) {
      body.push({ kind: "output", value: readTuple(tokens) });
      tokens.expect("CloseExpression");
    } else body.push(readStatement(tokens));
  }
  return body;
}

function readStatement(tokens: TokenStream): Statement {
  tokens.expect("OpenStatement");
  const name = tokens.expect("Identifier");
  const read = STATEMENTS.get(name);
  if (read === undefined) throw new SyntaxError(`the tag '${name}' is not supported`);
  return read(tokens);
}

const STATEMENTS: ReadonlyMap<string, (tokens: TokenStream) => Statement> = new Map([
  ["if", readIf],
  ["for", readFor],
  ["set", readSet],
  ["with", readWith],
  ["filter", readFilterBlock],
  ["macro", readMacro],
  ["call", readCallBlock],
  ["break", (tokens) => alone(tokens, { kind: "break" })],
  ["continue", (tokens) => alone(tokens, { kind: "continue" })],
]);

function alone(tokens: TokenStream, statement: Statement): Statement {
  tokens.expect("CloseStatement");
  return statement;
}

/** The rest of a statement's tag, its body and its end tag. */
function readBlock(tokens: TokenStream, end: string): readonly Statement[] {
  tokens.expect("CloseStatement");
  const body = readBody(tokens, end);
  endTag(tokens, end);
  return body;
}

function endTag(tokens: TokenStream, name: string): void {
  tokens.expect("OpenStatement");
  tokens.expect("Identifier", name);
  // `{% endmacro name %}` is allowed.
  if (name === "endmacro") tokens.take("Identifier");
  tokens.expect("CloseStatement");
}

function readIf(tokens: TokenStream): Statement {
  const test = readTuple(tokens, readExpression);
  tokens.expect("CloseStatement");
  const body = readBody(tokens, "elif", "else", "endif");
  if (tokens.isStatement("elif")) {
    tokens.expect("OpenStatement");
    tokens.expect("Identifier", "elif");
    return { kind: "if", test, body, otherwise: [readIf(tokens)] };
  }
  const otherwise = readElse(tokens, "endif");
  endTag(tokens, "endif");
  return { kind: "if", test, body, otherwise };
}

function readElse(tokens: TokenStream, end: string): readonly Statement[] {
  if (!tokens.isStatement("else")) return [];
  tokens.expect("OpenStatement");
  tokens.expect("Identifier", "else");
  tokens.expect("CloseStatement");
  return readBody(tokens, end);
}

function readFor(tokens: TokenStream): Statement {
  const target = readTarget(tokens);
  tokens.expect("Identifier", "in");
  // No choice here: its `if` would take the loop's own.
  const items = readTuple(tokens, readOr);
  const test = tokens.takeWord("if") ? readExpression(tokens) : undefined;
  if (tokens.takeWord("recursive")) throw new SyntaxError("recursive loops are not supported");
  tokens.expect("CloseStatement");
  const body = readBody(tokens, "endfor", "else");
  const otherwise = readElse(tokens, "endfor");
  endTag(tokens, "endfor");
  return { kind: "for", target, items, test, body, otherwise };
}

function readSet(tokens: TokenStream): Statement {
  const target = readTarget(tokens);
  if (tokens.take("Equals") !== undefined) {
    return alone(tokens, { kind: "set", target, value: readTuple(tokens) });
  }
  const filters: FilterCall[] = [];
  while (tokens.is("Pipe")) filters.push(readFilter(tokens));
  return { kind: "set block", target, filters, body: readBlock(tokens, "endset") };
}

function readWith(tokens: TokenStream): Statement {
  const values: (readonly [Target, Expression])[] = [];
  while (!tokens.is("CloseStatement")) {
    if (values.length > 0) tokens.expect("Comma");
    const name = tokens.expect("Identifier");
    tokens.expect("Equals");
    values.push([{ kind: "name", name }, readExpression(tokens)]);
  }
  return { kind: "with", values, body: readBlock(tokens, "endwith") };
}

function readFilterBlock(tokens: TokenStream): Statement {
  const filters = [readFilter(tokens)];
  while (tokens.is("Pipe")) filters.push(readFilter(tokens));
  return { kind: "filter block", filters, body: readBlock(tokens, "endfilter") };
}

function readMacro(tokens: TokenStream): Statement {
  const name = tokens.expect("Identifier");
  const signature = readSignature(tokens);
  return { kind: "macro", name, ...signature, body: readBlock(tokens, "endmacro") };
}

function readCallBlock(tokens: TokenStream): Statement {
  const signature = tokens.is("OpenParen")
    ? readSignature(tokens)
    : { parameters: [], defaults: [] };
  const call = readExpression(tokens);
  if (call.kind !== "call") throw new SyntaxError("a call block calls nothing");
  return { kind: "call block", call, ...signature, body: readBlock(tokens, "endcall") };
}

function readSignature(tokens: TokenStream): Omit<Macro, "body"> {
  const parameters: string[] = [];
  const defaults: Expression[] = [];
  tokens.expect("OpenParen");
  while (tokens.take("CloseParen") === undefined) {
    if (parameters.length > 0) {
      tokens.expect("Comma");
      if (tokens.take("CloseParen") !== undefined) break;
    }
    parameters.push(tokens.expect("Identifier"));
    if (tokens.take("Equals") !== undefined) defaults.push(readExpression(tokens));
    else if (defaults.length > 0) {
      throw new SyntaxError("a parameter without a default follows one that has it");
    }
  }
  return { parameters, defaults };
}

function nameOfNext(tokens: TokenStream): string {
  tokens.expect("OpenStatement");
  return tokens.next().value;
}
