/** Whose adapters a name may stand for: others' are not even looked up, so nothing of them is loaded. */
import { assertEquals } from "@std/assert";
import type { CoreCatalog } from "../../../server/context.ts";
import { findCore } from "../../../server/generate/model_name.ts";
import { administrator } from "../../../server/access/access.ts";
import { FakeCatalog } from "../fake_context.ts";

/** A catalogue that keeps the names that it was asked for. */
function asking(): { readonly catalog: CoreCatalog; readonly asked: string[] } {
  const asked: string[] = [];
  const catalog = new FakeCatalog();
  return {
    asked,
    catalog: Object.assign(catalog, {
      find: (name: string) => {
        asked.push(name);
        return Promise.resolve(undefined);
      },
    }),
  };
}

const ACME = { tenant: "acme", scopes: new Set(["infer"] as const), keyId: "key_1" };
const OTHERS = ["globex/shelf", "ft:tiny:globex:notes:abcdefgh", "ft:tiny:globex::abcdefgh"];
const CHECKPOINT = "ft:tiny:globex:notes:abcdefgh:ckpt-step-4";

Deno.test("another tenant's name is refused before anything of it is looked up or loaded", async () => {
  const { catalog, asked } = asking();
  for (const name of [...OTHERS, CHECKPOINT, "ft:nonsense", "ft:"]) {
    assertEquals(await findCore(catalog, ACME, name), undefined);
  }
  assertEquals(asked, []);
});

Deno.test("its own names are looked up, and an administrator's are all", async () => {
  const own = ["shelf", "acme/shelf", "ft:tiny:acme:notes:abcdefgh"];
  const { catalog, asked } = asking();
  for (const name of own) await findCore(catalog, ACME, name);
  assertEquals(asked, ["acme/shelf", "acme/shelf", "ft:tiny:acme:notes:abcdefgh"]);
  asked.length = 0;
  for (const name of [...OTHERS, CHECKPOINT]) await findCore(catalog, administrator(), name);
  assertEquals(asked, [...OTHERS, CHECKPOINT]);
});
