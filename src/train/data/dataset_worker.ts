/**
 * The thread that turns one training file into examples: megabytes of text on one line would hold up
 * the event loop. It asks for a piece when it has read the one before.
 */
import { openCheckpoint } from "../../checkpoint/open.ts";
import { readDatasetInTurns } from "./dataset.ts";
import type { DatasetOrder, DatasetReply } from "./dataset_protocol.ts";

interface WorkerScope {
  onmessage: ((event: MessageEvent<DatasetOrder>) => void) | null;
  postMessage(reply: DatasetReply): void;
}

const scope = globalThis as unknown as WorkerScope;

function serve(): void {
  let hand: (order: DatasetOrder) => void = () => {};
  async function* pieces(): AsyncGenerator<Uint8Array> {
    while (true) {
      const next = new Promise<DatasetOrder>((resolve) => hand = resolve);
      scope.postMessage({ type: "more" });
      const order = await next;
      if (order.type !== "piece") return;
      yield order.bytes;
    }
  }
  scope.onmessage = async ({ data }) => {
    if (data.type !== "begin") return hand(data);
    try {
      using source = await openCheckpoint(data.path);
      const options = { source, maxContext: data.maxContext };
      scope.postMessage({ type: "done", dataset: await readDatasetInTurns(pieces(), options) });
    } catch (error) {
      scope.postMessage({ type: "failed", error });
    }
  };
}

serve();
