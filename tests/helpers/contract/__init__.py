"""The nine invariants: batches, cases and laws that the contract tests are made of."""
