"""Seeded results of seven small recipes, which a change of the code has to reproduce or explain."""
