/**
 * The thread on which gradients become factors: seconds of products and eigenvectors that would hold
 * up the event loop, and every stream that is served by it. It knows one order and its replies.
 */
import type { FactorsOrder, FactorsReply } from "./factors_protocol.ts";
import { writeFactors } from "../format.ts";
import { factorsOfGradients } from "./gradient_factors.ts";

interface WorkerScope {
  onmessage: ((event: MessageEvent<FactorsOrder>) => void) | null;
  postMessage(reply: FactorsReply): void;
}

const scope = globalThis as unknown as WorkerScope;

scope.onmessage = ({ data: { settled, gradients } }) => {
  try {
    const { factors, shares } = factorsOfGradients(settled, gradients, (progress) => {
      scope.postMessage({ type: "progress", progress });
    });
    scope.postMessage({ type: "done", bytes: writeFactors(factors), shares });
  } catch (error) {
    scope.postMessage({ type: "failed", error });
  }
};
