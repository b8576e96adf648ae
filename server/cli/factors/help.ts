/** What `deno task factors --help` says, of all commands or of one. */
import { MAKERS } from "../../../adapters/lotr/make/makers.ts";
import { DEFAULT_MODULES, DEFAULT_RANK, MAX_RANK } from "../../../adapters/lotr/stack.ts";
import { COMPRESS_HELP } from "./compress_flags.ts";
import { type CommandName, DEFAULT_BASE_NAME, ENERGIES } from "./flags.ts";

/** How each command is written. */
const USAGES: Readonly<Record<CommandName, string>> = {
  make: `Make a factor set:
  deno task factors make --out FILE [--maker ${MAKERS.join("|")}] [--model SPEC]
                    [--calibration FILE] [--rank 1-${MAX_RANK}, default ${DEFAULT_RANK}]
                    [--modules ${DEFAULT_MODULES.join(",")}] [--seed N, default 0] [--float16]
${COMPRESS_HELP.usage}`,
  inspect:
    `Show factor or core files; with --energy, what the factors hold of a base's gradients or weights:
  deno task factors inspect FILE... [--energy ${ENERGIES.join("|")}] [--model SPEC]
                    [--calibration FILE] [--rank N] [--json]
`,
  compare: `Compare two factor sets: principal angles between what they span, and captured energy:
  deno task factors compare FILE FILE [--energy ${ENERGIES.join("|")}] [--model SPEC]
                    [--calibration FILE] [--rank N] [--json]
`,
  export: `Write a core as a PEFT LoRA directory:
  deno task factors export --core FILE --factors FILE --out DIR [--base NAME]
`,
};

const MAKERS_HELP = `
gradient  the leading directions of the first-step gradients of language modelling over general
          text, or over --calibration (Tucker-2); the best for cores, and the default
random    A and B orthonormal, spanning random directions; needs no weights
gaussian  A and B ~ N(0, 1) and s = 1/rank, as in arXiv 2402.01376
svd       the leading directions of the stacked weights (Tucker-2); seconds for q and v, minutes for all
`;

const MEASURES_HELP = `
--calibration is plain text, passages parted by empty lines, or JSONL as for training; the default
is the general text that lembas brings. --rank of inspect and compare: the first N directions only.
`;

const EXPORT_HELP = `
--core is the file to write, --factors the set that it names, --out the directory, which is made.
--base is what PEFT users load the base by (default: ${DEFAULT_BASE_NAME}).
`;

export const FACTORS_HELP = Object.values(USAGES).join("") + MAKERS_HELP +
  COMPRESS_HELP.text + MEASURES_HELP;

/** What `--help` says, of one command or of all. */
export function factorsHelp(command: CommandName | undefined): string {
  switch (command) {
    case undefined:
      return FACTORS_HELP;
    case "make":
      return USAGES.make + MAKERS_HELP + COMPRESS_HELP.text + MEASURES_HELP;
    case "inspect":
    case "compare":
      return USAGES[command] + MEASURES_HELP;
    case "export":
      return USAGES.export + EXPORT_HELP;
  }
}
