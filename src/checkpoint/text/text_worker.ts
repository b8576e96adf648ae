/**
 * The thread in which long texts become tokens and long conversations texts: seconds that would hold
 * up the event loop. It opens the checkpoint once (the weights stay on disk) and obeys one order
 * after the other.
 */
import type { Checkpoint } from "../checkpoint.ts";
import { Once } from "../../util/once.ts";
import { openCheckpoint } from "../open.ts";
import type { TextOrder, TextReply } from "./text_protocol.ts";

interface WorkerScope {
  onmessage: ((event: MessageEvent<{ path: string; order: TextOrder }>) => void) | null;
  postMessage(reply: TextReply, transfer: readonly ArrayBuffer[]): void;
}

const scope = globalThis as unknown as WorkerScope;

function serve(): void {
  let checkpoint: Once<Checkpoint> | undefined;
  scope.onmessage = async ({ data: { path, order } }) => {
    try {
      checkpoint ??= new Once(() => openCheckpoint(path));
      const reply = obey(await checkpoint.get(), order);
      scope.postMessage(reply, reply.type === "ids" ? [reply.ids.buffer] : []);
    } catch (error) {
      scope.postMessage({ type: "failed", error }, []);
    }
  };
}

/** @throws {TypeError} what the template says of a conversation that it refuses */
function obey({ tokenizer, chatTemplate }: Checkpoint, order: TextOrder): TextReply {
  switch (order.type) {
    case "encode": {
      const { text, addSpecialTokens } = order;
      return { type: "ids", ids: Int32Array.from(tokenizer.encode(text, { addSpecialTokens })) };
    }
    case "render":
      return { type: "text", text: chatTemplate?.render(order.messages, order.options) ?? "" };
  }
}

serve();
