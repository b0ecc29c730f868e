"""Evaluation: weights and photos in, figures out. Nothing but training imports it."""
