/** From a JSON schema to the grammar of its values, in the library's EBNF. */
import { checkShapes, possibleShapes } from "./schema/check_shapes.ts";
import { readSchema } from "./schema/read_schema.ts";
import { writeGrammar, type WrittenGrammar } from "./write_grammar.ts";

/**
 * A grammar whose rule `root` allows exactly the schema's values, as JSON text.
 * @throws {SchemaError} naming the keyword that a grammar cannot hold, and where it stands.
 */
export function compileSchema(schema: unknown): WrittenGrammar {
  const shapes = readSchema(schema);
  const possible = possibleShapes(shapes);
  checkShapes(shapes, possible);
  return writeGrammar(shapes, possible);
}
