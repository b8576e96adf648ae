/**
 * What is trained of an adapter, as one flat vector: G alone, or A, B and G (the paper's method,
 * LoTR, arXiv 2402.01376). It is moved by `src/train`; core and factor set are made of it again
 * here.
 */
import type { RateSpan } from "../../src/train/adamw.ts";
import { coreRate, factorRate } from "../../src/train/plan.ts";
import { canonical } from "./canonical.ts";
import { type Core, coreFrom } from "./core.ts";
import { FactorSet } from "./factors.ts";
import { checkRank } from "./stack.ts";
import type { TrainMethod } from "../training/hyperparameters.ts";

export interface Trainable {
  readonly rank: number;
  /** What the model is opened with. */
  readonly factors: FactorSet;
  /** An adapter without effect. */
  readonly start: Float32Array;
  /** Peak rates of spans of the vector, the core's last. */
  readonly rates: readonly RateSpan[];
  /** Core and factor set of a vector; trained factors are made orthonormal again. */
  result(parameters: Float32Array): { readonly core: Core; readonly factors: FactorSet };
}

export interface TrainableOptions {
  /** 1 to the factor set's rank. */
  readonly rank: number;
  readonly learningRateMultiplier: number;
}

/** @throws {RangeError} for a rank that the factor set does not have. */
export function trainableOf(
  method: TrainMethod,
  factors: FactorSet,
  options: TrainableOptions,
): Trainable {
  checkRank(options.rank, factors.rank);
  return method === "core" ? coreTrainable(factors, options) : lotrTrainable(factors, options);
}

/** G of zeros, A and B frozen. */
function coreTrainable(
  factors: FactorSet,
  { rank, learningRateMultiplier }: TrainableOptions,
): Trainable {
  const start = new Float32Array(coreSize(factors, rank));
  const rate = learningRateMultiplier * coreRateOf(factors, rank);
  return {
    rank,
    factors,
    start,
    rates: [{ length: start.length, rate }],
    result: (parameters) => ({ core: coreFrom(factors, rank, parameters.slice()), factors }),
  };
}

/** A of each site and B of each module as the set has them, cut to the rank, then G of zeros. */
function lotrTrainable(
  factors: FactorSet,
  { rank, learningRateMultiplier }: TrainableOptions,
): Trainable {
  const cut = cutFactors(factors, rank);
  const parts = [
    ...cut.sites.map((site) => cut.a(site)),
    ...cut.modules.map((module) => cut.b(module)),
  ];
  const size = coreSize(cut, rank);
  const rates = [
    ...parts.map((part) => ({
      length: part.length,
      rate: learningRateMultiplier * factorRate(part),
    })),
    { length: size, rate: learningRateMultiplier * coreRateOf(cut, rank) },
  ];
  return {
    rank,
    factors: cut,
    start: concatenate([...parts, new Float32Array(size)]),
    rates,
    result: (parameters) => canonical(splitLotr(cut, parameters)),
  };
}

/** The set of the first `rank` columns of A and rows of B, at the same scale. */
function cutFactors(factors: FactorSet, rank: number): FactorSet {
  if (rank === factors.rank) return factors;
  const { base, layers, modules } = factors;
  const a = new Map(factors.sites.map((site) => [
    site,
    firstColumns(factors.a(site), factors.rank, rank),
  ]));
  const b = new Map(modules.map((module) => [
    module,
    factors.b(module).slice(0, rank * factors.outputSize(module)),
  ]));
  const alpha = factors.alpha * rank / factors.rank;
  return new FactorSet({ base, layers, rank, alpha, modules, a, b });
}

function splitLotr(shape: FactorSet, parameters: Float32Array) {
  let at = 0;
  const take = (length: number) => parameters.slice(at, at += length);
  const { base, layers, rank, alpha, modules } = shape;
  const a = new Map(shape.sites.map((site) => [site, take(shape.a(site).length)]));
  const b = new Map(modules.map((module) => [module, take(shape.b(module).length)]));
  const factors = new FactorSet({ base, layers, rank, alpha, modules, a, b });
  return { core: coreFrom(factors, rank, take(coreSize(shape, rank))), factors };
}

function coreSize({ layers, modules }: FactorSet, rank: number): number {
  return layers * modules.length * rank ** 2;
}

function coreRateOf(factors: FactorSet, rank: number): number {
  return coreRate(factors, { rank, scale: factors.alpha / factors.rank });
}

function firstColumns(matrix: Float32Array, columns: number, kept: number): Float32Array {
  const rows = matrix.length / columns;
  const out = new Float32Array(rows * kept);
  for (let row = 0; row < rows; row++) {
    out.set(matrix.subarray(row * columns, row * columns + kept), row * kept);
  }
  return out;
}

function concatenate(parts: readonly Float32Array[]): Float32Array {
  const out = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
