"""Cases for the contract: losses that bend or weigh cross-entropy."""

CASES = []
