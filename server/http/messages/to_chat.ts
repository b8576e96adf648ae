// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * A request of the Messages API as the chat that it stands for, so that prompt, sampling, tools and
 * grammar are the same. Turns of one side that follow each other are one; results of tools become
 * messages of their own.
 */
import type { Text } from "../../../src/checkpoint/text/prompt.ts";
import { type ApiError, invalid } from "../../errors.ts";
import type { ChatRequest, MessageBody } from "../schema/chat.ts";
import type { CountRequest, MessageBlock, MessageRequest, MessageTurn } from "./schema.ts";

type TextPart = { readonly type: "text"; readonly text: Text };
type ToolUse = Extract<MessageBlock, { type: "tool_use" }>;

/** A block, and its name for errors: `messages[0].content[1]`. */
interface PlacedBlock {
  readonly block: MessageBlock;
  readonly at: string;
}

interface Turn {
  readonly role: MessageTurn["role"];
  readonly blocks: readonly PlacedBlock[];
}

/** @throws {ApiError} 400 naming the block that cannot be where it is */
export function toChat(body: MessageRequest): ChatRequest {
  return {
    ...toPrompt(body),
    adapter: body.adapter,
    max_tokens: body.max_tokens,
    temperature: body.temperature,
    top_p: body.top_p,
    top_k: body.top_k,
    stop: body.stop_sequences,
    stream: body.stream,
    user: body.metadata?.user_id,
  };
}

/**
 * What becomes the prompt.
 * @throws {ApiError} 400 naming the block that cannot be where it is
 */
export function toPrompt(body: CountRequest): ChatRequest {
  const turns = joinTurns(body.messages);
  const { format } = body.output_config ?? {};
  return {
    model: body.model,
    messages: [...systemMessage(body.system), ...toMessages(turns)],
    continue_final_message: turns.at(-1)?.role === "assistant",
    ...toolFields(body),
    ...thinkingFields(body),
    ...(format && {
      response_format: {
        type: "json_schema",
        json_schema: { schema: format.schema, strict: true },
      },
    }),
  };
}

/** As vLLM has it, but that thinking is shown where it is asked for. */
function thinkingFields({ thinking, output_config }: CountRequest): Partial<ChatRequest> {
  const effort = { reasoning_effort: output_config?.effort };
  switch (thinking?.type) {
    case "enabled":
    case "adaptive":
      return {
        ...effort,
        chat_template_kwargs: { enable_thinking: true },
        include_reasoning: thinking.display !== "omitted",
        ...(thinking.type === "enabled" && { thinking_token_budget: thinking.budget_tokens }),
      };
    case "disabled":
      return { reasoning_effort: "none", include_reasoning: false };
    default:
      return { ...effort, include_reasoning: false };
  }
}

function toolFields({ tools, tool_choice: choice }: CountRequest): Partial<ChatRequest> {
  const single = choice && choice.type !== "none" && choice.disable_parallel_tool_use;
  return {
    tools: tools?.map(({ name, description, input_schema: parameters, strict }) => ({
      type: "function",
      function: { name, description, parameters, strict },
    })),
    tool_choice: choice && toChoice(choice),
    ...(single && { parallel_tool_calls: false }),
  };
}

function toChoice(choice: NonNullable<CountRequest["tool_choice"]>): ChatRequest["tool_choice"] {
  switch (choice.type) {
    case "any":
      return "required";
    case "tool":
      return { type: "function", function: { name: choice.name } };
    default:
      return choice.type;
  }
}

function systemMessage(system: CountRequest["system"]): MessageBody[] {
  if (!system || system.length === 0) return [];
  return [{ role: "system", content: Array.isArray(system) ? [...system] : system }];
}

function joinTurns(messages: readonly MessageTurn[]): readonly Turn[] {
  const turns: Turn[] = [];
  for (const [index, { role, content }] of messages.entries()) {
    const blocks = blocksOf(content, `messages[${index}].content`);
    const last = turns.at(-1);
    if (last?.role === role) {
      turns[turns.length - 1] = { role, blocks: [...last.blocks, ...blocks] };
    } else turns.push({ role, blocks });
  }
  return turns;
}

function blocksOf(content: MessageTurn["content"], at: string): PlacedBlock[] {
  if (!Array.isArray(content)) return [{ block: { type: "text", text: content }, at }];
  return content.map((block, index) => ({ block, at: `${at}[${index}]` }));
}

function toMessages(turns: readonly Turn[]): readonly MessageBody[] {
  const used = new Set<string>();
  return turns.flatMap((turn, index) => {
    if (turn.role !== "assistant") return ofOther(turn, used);
    const uses = turn.blocks.filter(({ block }) => block.type === "tool_use");
    const [open] = uses;
    if (open !== undefined && index === turns.length - 1) {
      throw invalid(open.at, `Invalid '${open.at}': a 'tool_use' needs a 'tool_result' after it.`);
    }
    return [ofAssistant(turn, used)];
  });
}

/** Of the user, whose results of tools are messages of their own, or of the system. */
function ofOther({ role, blocks }: Turn, used: ReadonlySet<string>): MessageBody[] {
  const messages: MessageBody[] = [];
  const texts: TextPart[] = [];
  const say = () => {
    if (texts.length > 0) messages.push({ role, content: texts.splice(0) });
  };
  for (const { block, at } of blocks) {
    switch (block.type) {
      case "text":
        texts.push(block);
        continue;
      case "tool_result":
        if (role === "system") throw foreign(at, block.type, role);
        say();
        messages.push(toResult(block, at, used));
        continue;
      default:
        throw foreign(at, block.type, role);
    }
  }
  say();
  return messages.length > 0 ? messages : [{ role, content: "" }];
}

function toResult(
  { tool_use_id, content }: Extract<MessageBlock, { type: "tool_result" }>,
  at: string,
  used: ReadonlySet<string>,
): MessageBody {
  if (!used.has(tool_use_id)) {
    throw invalid(
      `${at}.tool_use_id`,
      `Invalid '${at}.tool_use_id': no 'tool_use' before it has the id '${tool_use_id}'.`,
    );
  }
  const empty = content === undefined || content === null || content.length === 0;
  return { role: "tool", tool_call_id: tool_use_id, content: empty ? "" : content };
}

function ofAssistant({ blocks }: Turn, used: Set<string>): MessageBody {
  const texts: TextPart[] = [];
  const uses: ToolUse[] = [];
  const thoughts: string[] = [];
  for (const { block, at } of blocks) {
    if (block.type === "tool_result") throw foreign(at, block.type, "assistant");
    if (block.type === "text") texts.push(block);
    if (block.type === "thinking" && block.thinking) thoughts.push(block.thinking);
    if (block.type !== "tool_use") continue;
    uses.push(block);
    used.add(block.id);
  }
  return {
    role: "assistant",
    content: texts.length > 0 ? texts : "",
    ...(thoughts.length > 0 && { reasoning: thoughts.join("\n") }),
    ...(uses.length > 0 && { tool_calls: uses.map(toCall) }),
  };
}

function toCall({ id, name, input }: ToolUse) {
  return { id, type: "function" as const, function: { name, arguments: input } };
}

function foreign(at: string, type: string, role: MessageTurn["role"]): ApiError {
  return invalid(at, `Invalid '${at}': a message of the ${role} has no blocks of type '${type}'.`);
}
