"""Answers that learners give, one file a notebook: WRONG = {exercise: [(answer, words of the hint that must come)]}."""
