"""Commands for who looks after an installation: one visitor's data, and what is wrong with it."""
