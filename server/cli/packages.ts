/**
 * Where the programs begin, and the workers, whose URLs Deno does not follow by itself. `deno task
 * packages` installs what these modules import; nothing runs this one.
 */
import "./serve.ts";
import "./train.ts";
import "./admin.ts";
import "./factors.ts";
import "./models.ts";
import "./doctor.ts";
import "./setup_cuda.ts";
import "../http/json_worker.ts";
import "../../adapters/store/database/sqlite_worker.ts";
import "../../adapters/lotr/make/factors_worker.ts";
import "../../src/checkpoint/text/text_worker.ts";
import "../../src/grammar/worker.ts";
import "../../src/runtime/onnx/run_worker.ts";
import "../../src/train/data/dataset_worker.ts";
