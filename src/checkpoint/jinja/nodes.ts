/** What a chat template is once it is read: Jinja's statements and expressions. */

export type Statement =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "output"; readonly value: Expression }
  | {
    readonly kind: "if";
    readonly test: Expression;
    readonly body: readonly Statement[];
    readonly otherwise: readonly Statement[];
  }
  | {
    readonly kind: "for";
    readonly target: Target;
    readonly items: Expression;
    readonly test: Expression | undefined;
    readonly body: readonly Statement[];
    readonly otherwise: readonly Statement[];
  }
  | { readonly kind: "set"; readonly target: Target; readonly value: Expression }
  | {
    readonly kind: "set block";
    readonly target: Target;
    readonly filters: readonly FilterCall[];
    readonly body: readonly Statement[];
  }
  | {
    readonly kind: "with";
    readonly values: readonly (readonly [Target, Expression])[];
    readonly body: readonly Statement[];
  }
  | {
    readonly kind: "filter block";
    readonly filters: readonly FilterCall[];
    readonly body: readonly Statement[];
  }
  | ({ readonly kind: "macro"; readonly name: string } & Macro)
  | ({ readonly kind: "call block"; readonly call: Expression } & Macro)
  | { readonly kind: "break" }
  | { readonly kind: "continue" };

/** Parameters and a body; `defaults` belong to the last parameters. */
export interface Macro {
  readonly parameters: readonly string[];
  readonly defaults: readonly Expression[];
  readonly body: readonly Statement[];
}

/** What can be assigned to. */
export type Target =
  | { readonly kind: "name"; readonly name: string }
  | { readonly kind: "member"; readonly of: string; readonly name: string }
  | { readonly kind: "targets"; readonly targets: readonly Target[] };

/** Arguments as they are written; those of `*` and `**` come from one expression each. */
export interface Arguments {
  readonly positional: readonly Expression[];
  readonly named: readonly (readonly [string, Expression])[];
  readonly rest: Expression | undefined;
  readonly namedRest: Expression | undefined;
}

export interface FilterCall {
  readonly name: string;
  readonly args: Arguments;
}

/** Operators of two operands that are evaluated both. */
export type BinaryOperator = "+" | "-" | "~" | "*" | "/" | "//" | "%" | "**";
export type Comparison = "==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "not in";

export type Expression =
  | { readonly kind: "constant"; readonly value: string | bigint | number | boolean | null }
  | { readonly kind: "name"; readonly name: string }
  | { readonly kind: "list" | "tuple"; readonly items: readonly Expression[] }
  | { readonly kind: "dict"; readonly entries: readonly (readonly [Expression, Expression])[] }
  | { readonly kind: "attribute"; readonly of: Expression; readonly name: string }
  | { readonly kind: "item"; readonly of: Expression; readonly index: Expression }
  | {
    readonly kind: "slice";
    readonly of: Expression;
    readonly bounds: readonly [start?: Expression, stop?: Expression, step?: Expression];
  }
  | { readonly kind: "call"; readonly callee: Expression; readonly args: Arguments }
  | { readonly kind: "filter"; readonly of: Expression; readonly filter: FilterCall }
  | {
    readonly kind: "test";
    readonly of: Expression;
    readonly name: string;
    readonly args: Arguments;
    readonly negated: boolean;
  }
  | { readonly kind: "not" | "negative" | "positive"; readonly of: Expression }
  | { readonly kind: "and" | "or"; readonly left: Expression; readonly right: Expression }
  | {
    readonly kind: "binary";
    readonly operator: BinaryOperator;
    readonly left: Expression;
    readonly right: Expression;
  }
  | {
    readonly kind: "compare";
    readonly first: Expression;
    readonly rest: readonly (readonly [Comparison, Expression])[];
  }
  | {
    readonly kind: "choice";
    readonly test: Expression;
    readonly yes: Expression;
    readonly no: Expression | undefined;
  };
