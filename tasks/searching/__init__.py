"""search: trials by Optuna, and the tables of what they came to."""
