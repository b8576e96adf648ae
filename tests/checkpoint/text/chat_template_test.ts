/** Chat templates, rendered beside what transformers made of the same messages. */

import { assertEquals, assertThrows } from "@std/assert";
import { JinjaChatTemplate } from "../../../src/checkpoint/text/chat_template.ts";
import type { ChatMessage } from "../../../src/checkpoint/checkpoint.ts";
import { strftime } from "../../../src/checkpoint/jinja/python/strftime.ts";
import { fixtureJson } from "../fixtures.ts";

interface TemplateFixture {
  readonly templates: Readonly<Record<string, string>>;
  readonly cases: readonly {
    readonly template: string;
    readonly messages: readonly ChatMessage[];
    readonly tools: readonly unknown[] | null;
    readonly addGenerationPrompt: boolean;
    readonly text?: string;
    readonly error?: string;
  }[];
}

const TOKENS = Object.fromEntries([["bos_token", "<s>"], ["eos_token", "</s>"]]);
const HELLO: readonly ChatMessage[] = [{ role: "user", content: "Hello" }];

Deno.test("templates render as transformers renders them", () => {
  const { templates, cases } = fixtureJson<TemplateFixture>("templates.json");
  for (const { template, messages, tools, addGenerationPrompt, text, error } of cases) {
    const source = templates[template] ?? "";
    const chat = new JinjaChatTemplate(source, TOKENS);
    // transformers leaves out what a template does not read; here it is told in words
    const shown = tools === null || !source.includes("tools") ? {} : { tools };
    const render = (): string =>
      chat.render(messages, {
        addGenerationPrompt,
        date: "1 May 2025",
        ...shown,
      });
    if (text === undefined) assertThrows(render, TypeError, error ?? "no error given");
    else assertEquals(render(), text, template);
  }
});

Deno.test("a template's own refusal is the error's message", () => {
  const chat = new JinjaChatTemplate("{{ raise_exception('Only users here') }}", {});
  assertThrows(
    () => chat.render(HELLO),
    TypeError,
    "Cannot apply the chat template: Only users here",
  );
});

Deno.test("a template that is no Jinja is refused when it is read", () => {
  assertThrows(() => new JinjaChatTemplate("{% for %}", {}), SyntaxError, "chat template");
});

Deno.test("a template tells the date by the clock it is given", () => {
  const clock = (): Date => new Date(2025, 2, 7, 15, 4, 5);
  const chat = new JinjaChatTemplate("{{ strftime_now('%d %B %Y') }}", {}, clock);
  assertEquals(chat.render(HELLO), "07 March 2025");
});

Deno.test("one render leaves nothing behind for the next", () => {
  const source =
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}" +
    "{{ ns.n }}{% set bos_token = 'changed' %}{{ extra is defined }}";
  const chat = new JinjaChatTemplate(source, TOKENS);
  assertEquals(chat.render(HELLO, { extra: 1 }), "1True");
  assertEquals(chat.render(HELLO), "1False");
});

Deno.test("strftime knows the usual conversions and refuses others", () => {
  const date = new Date(2024, 11, 1, 0, 9, 8);
  assertEquals(
    strftime(date, "%a %A %b %B %d %-d %e|%H %I %j %m %M %p %S %y %Y %F %T %%"),
    "Sun Sunday Dec December 01 1  1|00 12 336 12 09 AM 08 24 2024 2024-12-01 00:09:08 %",
  );
  assertThrows(() => strftime(date, "%Q"), TypeError, "%Q");
});
