"""KerasTuner searches the parameters of LPL on long-tailed digits.

    pip install ".[tune,examples]"
    python examples/tune.py
    python examples/tune.py --trials 40     # goes on: trials that are done are not repeated

Four parameters matter: how far classes are pushed (`delta_epsilon`), how much less the head is
(`head_scale`), how much of a class must be learnt before it is pushed (`confidence_power`), and how
much logit adjustment comes first (`logit_adjustment`, lambda of LA+LPL). The first trial takes the
loss's defaults, the others are drawn. The score is the balanced accuracy on a held-out part of the
training set.

Held-out tails are tiny: of the rarest digit there are two images, one to train on and one to hold
out, and recognising it or not moves the balanced accuracy by 0.1. So each trial trains on several
splits, with weights of their own, and is scored by the mean. Even then the best of many trials is
partly luck: its score is too good, and a gain of a point may be none.

The test set is used once, when the search is over: the best parameters, the defaults and plain
logit adjustment are trained on the whole training set and tested. A search that is stopped goes on
where it was when started again; it is kept in `results/tune`.
"""

import argparse
from pathlib import Path

import quiet  # noqa: F401, before Keras

import keras
import keras_tuner
import numpy as np
from common import digits_network, measure, write_results
from reporting import print_table

import keras_lpl

IMBALANCE_FACTOR = 50
BATCH_SIZE = 64
LEARNING_RATE = 2e-3
HELD_OUT = 0.3

# The defaults are those of `LPLLoss`.
SPACE = {
    "delta_epsilon": {"values": [0.5, 1.0, 1.5, 2.0, 3.0], "default": 1.0},
    "head_scale": {"values": [0.2, 0.6, 1.0], "default": 1.0},
    "confidence_power": {"values": [0.0, 4.0, 8.0, 16.0, 32.0], "default": 16.0},
    "logit_adjustment": {"values": [0.5, 1.0, 1.5, 2.0], "default": 1.0},
}


class Search(keras_tuner.RandomSearch):
    """A trial trains on every split of the training set: more of them, less noise."""

    def run_trial(self, trial, x, y, splits, epochs):
        # Declared here, the first trial takes the defaults: the search is never behind them.
        parameters = {name: trial.hyperparameters.Choice(name, **SPACE[name]) for name in SPACE}
        scores = []
        for seed in range(splits):
            held = held_out(y, seed)
            model = train(keras_lpl.LPLLoss, parameters, x[~held], y[~held], epochs, seed)
            metric = keras_lpl.metrics.BalancedAccuracy()
            metric.update_state(y[held], model.predict(x[held], verbose=0))
            scores.append({"balanced_accuracy": float(metric.result())})
            keras.utils.clear_session()  # lets go of the model's memory
        return scores


def held_out(y, seed):
    """Marks the same share of each class, and at least one sample: no class goes unseen."""
    counts = np.maximum(1, np.round(HELD_OUT * keras_lpl.data.class_counts(y))).astype("int64")
    return np.isin(np.arange(len(y)), keras_lpl.data.long_tail_indices(y, counts, seed))


def train(make_loss, parameters, x, y, epochs, seed):
    keras.utils.set_random_seed(seed)
    model = keras_lpl.LPLModel.from_model(digits_network())
    loss = make_loss(class_counts=keras_lpl.data.class_counts(y), **parameters)
    model.compile(keras.optimizers.Adam(LEARNING_RATE), loss)
    batches = keras_lpl.data.ArrayDataset(x, y, BATCH_SIZE, seed)
    model.fit(batches, epochs=epochs, shuffle=False, verbose=0)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=20, help="in all (default: 20)")
    parser.add_argument("--splits", type=int, default=5, help="trainings of a trial (default: 5)")
    parser.add_argument("--epochs", type=int, default=60, help="of each training (default: 60)")
    parser.add_argument("--seeds", type=int, default=5, help="of each tested method (default: 5)")
    parser.add_argument("--out", type=Path, default=Path("results/tune"))
    options = parser.parse_args()

    (x, y), (x_test, y_test) = keras_lpl.data.load("digits", imbalance_factor=IMBALANCE_FACTOR)
    tuner = Search(
        objective=keras_tuner.Objective("balanced_accuracy", "max"),
        max_trials=options.trials,
        seed=0,
        directory=options.out,
        # Trials can be compared if they were trained alike: other settings are another search.
        project_name=f"{keras.config.backend()}-{options.splits}splits-{options.epochs}epochs",
    )
    tuner.search(x, y, options.splits, options.epochs)
    trials = sorted(tuner.oracle.trials.values(), key=lambda trial: int(trial.trial_id))
    best = tuner.oracle.get_best_trials()[0]
    print(f"\nBest of {len(trials)} trials, by held-out balanced accuracy: {best.score:.3f}")
    print(f"(defaults: {trials[0].score:.3f})")
    print("\n".join(f"    {name}={value}" for name, value in best.hyperparameters.values.items()))

    runs = []
    for method, make_loss, parameters in [
        ("LPL, best found", keras_lpl.LPLLoss, best.hyperparameters.values),
        ("LPL, defaults", keras_lpl.LPLLoss, {}),
        ("logit adjustment", keras_lpl.LogitAdjustmentLoss, {}),
    ]:
        for seed in range(options.seeds):
            model = train(make_loss, parameters, x, y, options.epochs, seed)
            result = measure(model.predict(x_test, verbose=0), y_test, np.bincount(y))
            runs.append({"method": method, "seed": seed, "parameters": parameters, **result})
    print_table(runs, "On the test set, trained on the whole training set")
    scores = [{"score": trial.score, **trial.hyperparameters.values} for trial in trials]
    write_results(Path(tuner.project_dir) / "tested.json", runs, trials=scores)


if __name__ == "__main__":
    main()
