/** Reads Jinja's expressions, with the precedence of Jinja's own parser. */

import type {
  Arguments,
  BinaryOperator,
  Comparison,
  Expression,
  FilterCall,
  Target,
} from "./nodes.ts";
import type { TokenStream, TokenType } from "./token_stream.ts";

type Read = (tokens: TokenStream) => Expression;

const NO_ARGUMENTS: Arguments = {
  positional: [],
  named: [],
  rest: undefined,
  namedRest: undefined,
};
const CONSTANTS: ReadonlyMap<string, boolean | null> = new Map([
  ["true", true],
  ["True", true],
  ["false", false],
  ["False", false],
  ["none", null],
  ["None", null],
]);
/** Tokens that may begin the one argument of a test without parentheses. */
const TEST_ARGUMENTS: readonly TokenType[] = [
  "Identifier",
  "StringLiteral",
  "NumericLiteral",
  "OpenSquareBracket",
  "OpenCurlyBracket",
];

export function readExpression(tokens: TokenStream): Expression {
  let value = readOr(tokens);
  while (tokens.takeWord("if")) {
    const test = readOr(tokens);
    const no = tokens.takeWord("else") ? readExpression(tokens) : undefined;
    value = { kind: "choice", test, yes: value, no };
  }
  return value;
}

/** One expression, or a tuple of several with commas between. */
export function readTuple(tokens: TokenStream, read: Read = readExpression): Expression {
  const items = [read(tokens)];
  if (!tokens.is("Comma")) return items[0] as Expression;
  while (tokens.take("Comma") !== undefined) {
    if (tokens.is("CloseStatement") || tokens.is("CloseExpression") || tokens.is("CloseParen")) {
      break;
    }
    items.push(read(tokens));
  }
  return { kind: "tuple", items };
}

export function readOr(tokens: TokenStream): Expression {
  let left = readAnd(tokens);
  while (tokens.takeWord("or")) left = { kind: "or", left, right: readAnd(tokens) };
  return left;
}

const readAnd: Read = (tokens) => {
  let left = readNot(tokens);
  while (tokens.takeWord("and")) left = { kind: "and", left, right: readNot(tokens) };
  return left;
};

const readNot: Read = (tokens) =>
  tokens.takeWord("not") ? { kind: "not", of: readNot(tokens) } : readComparison(tokens);

const readComparison: Read = (tokens) => {
  const first = readSum(tokens);
  const rest: (readonly [Comparison, Expression])[] = [];
  for (;;) {
    const operator = takeComparison(tokens);
    if (operator === undefined) break;
    rest.push([operator, readSum(tokens)]);
  }
  return rest.length === 0 ? first : { kind: "compare", first, rest };
};

function takeComparison(tokens: TokenStream): Comparison | undefined {
  if (tokens.takeWord("in")) return "in";
  if (tokens.takeWord("not")) {
    tokens.expect("Identifier", "in");
    return "not in";
  }
  return tokens.take("ComparisonBinaryOperator") as Comparison | undefined;
}

/** Left-associative operators of one precedence. */
function chain(read: Read, type: TokenType, ...operators: readonly BinaryOperator[]): Read {
  return (tokens) => {
    let left = read(tokens);
    for (;;) {
      const operator = operators.find((one) => tokens.take(type, one) !== undefined);
      if (operator === undefined) return left;
      left = { kind: "binary", operator, left, right: read(tokens) };
    }
  };
}

const readUnary: Read = (tokens) => readFilters(tokens, readSigned(tokens));
const readPower = chain(readUnary, "ExponentiationBinaryOperator", "**");
const readProduct = chain(readPower, "MultiplicativeBinaryOperator", "*", "/", "//", "%");
const readConcatenation = chain(readProduct, "AdditiveBinaryOperator", "~");
const readSum = chain(readConcatenation, "AdditiveBinaryOperator", "+", "-");

function readSigned(tokens: TokenStream): Expression {
  for (const type of ["UnaryOperator", "AdditiveBinaryOperator"] as const) {
    if (tokens.take(type, "-") !== undefined) return { kind: "negative", of: readSigned(tokens) };
    if (tokens.take(type, "+") !== undefined) return { kind: "positive", of: readSigned(tokens) };
  }
  return readPostfix(tokens, readPrimary(tokens));
}

function readPrimary(tokens: TokenStream): Expression {
  const token = tokens.next();
  switch (token.type) {
    case "Identifier": {
      const value = CONSTANTS.get(token.value);
      return value === undefined
        ? { kind: "name", name: token.value }
        : { kind: "constant", value };
    }
    case "StringLiteral": {
      let value = token.value;
      while (tokens.is("StringLiteral")) value += tokens.next().value;
      return { kind: "constant", value };
    }
    case "NumericLiteral":
      return { kind: "constant", value: readNumber(tokens, token.value) };
    case "OpenParen": {
      if (tokens.take("CloseParen") !== undefined) return { kind: "tuple", items: [] };
      const inner = readTuple(tokens);
      tokens.expect("CloseParen");
      return inner;
    }
    case "OpenSquareBracket":
      return { kind: "list", items: readUntil(tokens, "CloseSquareBracket", readExpression) };
    case "OpenCurlyBracket":
      return { kind: "dict", entries: readUntil(tokens, "CloseCurlyBracket", readEntry) };
    default:
      throw new SyntaxError(`unexpected '${token.value}'`);
  }
}

/** The lexer ends a number before an underscore or an exponent, and makes a name of the rest. */
function readNumber(tokens: TokenStream, start: string): bigint | number {
  const tail = tokens.takeLike(/^(_\d+)*(e\d*)?$/i) ?? "";
  const exponent = /e$/i.test(tail)
    ? tokens.expect("AdditiveBinaryOperator") + tokens.expect("NumericLiteral")
    : "";
  const text = (start + tail + exponent).replaceAll("_", "");
  if (/[.e]/i.test(text)) return Number(text);
  return text.startsWith("-") ? -BigInt(text.slice(1)) : BigInt(text.replace(/^\+/, ""));
}

function readEntry(tokens: TokenStream): readonly [Expression, Expression] {
  const key = readExpression(tokens);
  tokens.expect("Colon");
  return [key, readExpression(tokens)];
}

function readUntil<T>(
  tokens: TokenStream,
  end: TokenType,
  read: (tokens: TokenStream) => T,
): readonly T[] {
  const items: T[] = [];
  while (tokens.take(end) === undefined) {
    if (items.length > 0) {
      tokens.expect("Comma");
      if (tokens.take(end) !== undefined) break;
    }
    items.push(read(tokens));
  }
  return items;
}

function readPostfix(tokens: TokenStream, start: Expression): Expression {
  let of = start;
  for (;;) {
    if (tokens.take("Dot") !== undefined) of = readMember(tokens, of);
    else if (tokens.take("OpenSquareBracket") !== undefined) of = readSubscript(tokens, of);
    else if (tokens.is("OpenParen")) of = { kind: "call", callee: of, args: readArguments(tokens) };
    else return of;
  }
}

function readMember(tokens: TokenStream, of: Expression): Expression {
  const index = tokens.take("NumericLiteral");
  if (index === undefined) return { kind: "attribute", of, name: tokens.expect("Identifier") };
  return { kind: "item", of, index: { kind: "constant", value: BigInt(index) } };
}

function readSubscript(tokens: TokenStream, of: Expression): Expression {
  const bounds: [Expression?, Expression?, Expression?] = [];
  let at: 0 | 1 | 2 = 0;
  let isSlice = false;
  while (tokens.take("CloseSquareBracket") === undefined) {
    if (tokens.take("Colon") !== undefined) {
      if (at === 2) throw new SyntaxError("a slice has three parts at most");
      at = at === 0 ? 1 : 2;
      isSlice = true;
    } else if (bounds[at] === undefined) bounds[at] = readExpression(tokens);
    else tokens.expect("CloseSquareBracket");
  }
  const [index] = bounds;
  if (isSlice) return { kind: "slice", of, bounds };
  if (index === undefined) throw new SyntaxError("a subscript is empty");
  return { kind: "item", of, index };
}

/** Filters, tests and calls of what they give. */
function readFilters(tokens: TokenStream, start: Expression): Expression {
  let of = start;
  for (;;) {
    if (tokens.is("Pipe")) of = { kind: "filter", of, filter: readFilter(tokens) };
    else if (tokens.takeWord("is")) of = readTest(tokens, of);
    else if (tokens.is("OpenParen")) of = { kind: "call", callee: of, args: readArguments(tokens) };
    else return of;
  }
}

/** One filter, its bar included where there is one. */
export function readFilter(tokens: TokenStream): FilterCall {
  tokens.take("Pipe");
  const name = tokens.expect("Identifier");
  return { name, args: tokens.is("OpenParen") ? readArguments(tokens) : NO_ARGUMENTS };
}

function readTest(tokens: TokenStream, of: Expression): Expression {
  const negated = tokens.takeWord("not");
  const name = tokens.expect("Identifier");
  return { kind: "test", of, name, negated, args: readTestArguments(tokens) };
}

function readTestArguments(tokens: TokenStream): Arguments {
  if (tokens.is("OpenParen")) return readArguments(tokens);
  const ends = tokens.isWord("else", "or", "and", "if", "is", "not", "in", "recursive");
  if (ends || !TEST_ARGUMENTS.some((type) => tokens.is(type))) return NO_ARGUMENTS;
  return { ...NO_ARGUMENTS, positional: [readPostfix(tokens, readPrimary(tokens))] };
}

export function readArguments(tokens: TokenStream): Arguments {
  const positional: Expression[] = [];
  const named: (readonly [string, Expression])[] = [];
  let rest: Expression | undefined;
  let namedRest: Expression | undefined;
  tokens.expect("OpenParen");
  while (tokens.take("CloseParen") === undefined) {
    if (positional.length + named.length > 0 || rest !== undefined || namedRest !== undefined) {
      tokens.expect("Comma");
      if (tokens.take("CloseParen") !== undefined) break;
    }
    if (tokens.take("ExponentiationBinaryOperator") !== undefined) {
      namedRest = readExpression(tokens);
    } else if (tokens.take("MultiplicativeBinaryOperator", "*") !== undefined) {
      rest = readExpression(tokens);
    } else {
      const value = readExpression(tokens);
      if (tokens.take("Equals") === undefined) {
        if (named.length > 0) throw new SyntaxError("a positional argument follows a named one");
        positional.push(value);
      } else if (value.kind === "name") named.push([value.name, readExpression(tokens)]);
      else throw new SyntaxError("the name of an argument is no name");
    }
  }
  return { positional, named, rest, namedRest };
}

/** Names, namespace members, or tuples of them. */
export function readTarget(tokens: TokenStream): Target {
  const targets = [readOneTarget(tokens)];
  let isTuple = false;
  while (tokens.take("Comma") !== undefined) {
    isTuple = true;
    if (tokens.is("Identifier") && !tokens.isWord("in")) targets.push(readOneTarget(tokens));
  }
  return isTuple ? { kind: "targets", targets } : targets[0] as Target;
}

function readOneTarget(tokens: TokenStream): Target {
  if (tokens.take("OpenParen") !== undefined) {
    const inner = readTarget(tokens);
    tokens.expect("CloseParen");
    return inner;
  }
  const name = tokens.expect("Identifier");
  if (tokens.take("Dot") === undefined) return { kind: "name", name };
  return { kind: "member", of: name, name: tokens.expect("Identifier") };
}
