/** What is asked of a thread that holds a checkpoint's text side, and what it answers. */
import type { ChatMessage } from "../checkpoint.ts";

export type TextOrder =
  | { readonly type: "encode"; readonly text: string; readonly addSpecialTokens: boolean }
  | {
    readonly type: "render";
    readonly messages: readonly ChatMessage[];
    readonly options: Readonly<Record<string, unknown>>;
  };

export type TextReply =
  | { readonly type: "ids"; readonly ids: Int32Array<ArrayBuffer> }
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "failed"; readonly error: unknown };
