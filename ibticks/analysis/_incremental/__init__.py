"""Measures updated with new ticks, at a cost that grows with the new ones alone.

A state keeps a few earlier ticks, the lookback, from which the measure continues exactly; the plan
of each measure names them.
"""
