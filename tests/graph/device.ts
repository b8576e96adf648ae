/** One device for all small graphs: each starts a thread, which takes longer than such a graph runs. */
import type { Device } from "../../src/runtime/device.ts";
import { openDevice } from "../../src/runtime/open.ts";

export const DEVICE: Device = openDevice("cpu");
