/**
 * What a training checkpoint belongs to: data, base, factors and every settled hyperparameter, each
 * as a name and a text, so that a refusal can say which differs. It knows no file.
 */
import { dataDigest, type Identity } from "../../src/train/checkpoint.ts";
import type { FactorSet } from "../lotr/factors.ts";
import type { SettledHyperparameters, TrainRequest } from "./training.ts";

export function checkpointIdentity(
  { train, valid, hyperparameters }: TrainRequest,
  factors: FactorSet,
  settled: SettledHyperparameters,
): Identity {
  const { rank, method, schedule, warmup, weightDecay, clip, patience, seed } = hyperparameters;
  return {
    "the base": factors.base,
    "the factor set": factors.digest,
    "the data": dataDigest(train, valid),
    "the method": method,
    "the rank": String(rank),
    "the number of epochs": String(settled.epochs),
    "the batch size": String(settled.batchSize),
    "the learning rate": String(settled.learningRate),
    "the schedule": schedule,
    "the warm-up": String(warmup),
    "the weight decay": String(weightDecay),
    "the clip": String(clip),
    "the patience": String(patience),
    "the seed": String(seed),
  };
}
